"""A reader in an object store, copied to this machine. Needs the extra `s3`.

A copy is named by what the store says of its files, so it is used as long as they are the same, and a reader
that is open keeps the files that it was opened with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit.disk import shown
from fidkit.errors import CheckpointError, CorpusError
from fidkit.home import home

if TYPE_CHECKING:
    from fidkit.passages.load.address import ObjectAddress
    from fidkit.passages.load.objects import Listed


def fetched(place: str, names: Iterable[str], needed: str) -> Path:
    """The directory with a reader's files, fetched if they aren't here as they are there.

    Args:
        place: `s3://bucket/prefix`.
        names: of files that a reader may have; no others are fetched.
        needed: one that it has to have.

    Raises:
        UsageError: the place names no bucket, or the extra isn't installed.
        CheckpointError: no reader there, no way there, or no room for it here.
    """
    from fidkit.passages.load.address import ObjectAddress, source_of
    from fidkit.passages.load.objects import listed

    root = source_of(place)
    assert isinstance(root, ObjectAddress)
    keys = {f"{root.key}/{name}".lstrip("/"): name for name in names}
    try:
        there = {keys[found.key]: found for found in listed(root) if found.key in keys}
    except CorpusError as error:
        raise CheckpointError(str(error)) from error
    if needed not in there:
        raise CheckpointError(f"{root}: no {needed} there; expected the files of a reader's directory")
    kept = home() / "readers" / _fingerprint(root, there)
    if not kept.is_dir():
        _fetch(root, there, kept)
    return kept


def _fingerprint(root: ObjectAddress, there: dict[str, Listed]) -> str:
    said = [f"{name} {found.size} {found.mtime_ns}" for name, found in sorted(there.items())]
    return hashlib.sha256("\n".join([str(root), *said]).encode()).hexdigest()[:32]


def _fetch(root: ObjectAddress, there: dict[str, Listed], kept: Path) -> None:
    """Copy all files, and name their directory when all are there."""
    from fidkit.passages.load.address import ObjectAddress
    from fidkit.passages.load.objects import fetch

    temporary = None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=kept.parent, prefix="."))
        for name, found in there.items():
            with open(temporary / name, "wb") as out:
                fetch(ObjectAddress(root.bucket, found.key), out, threading.Event())
            if (got := os.path.getsize(temporary / name)) != found.size:
                raise CheckpointError(
                    f"{root}: {name} has {got:,} bytes, and had {found.size:,}; it is being "
                    "replaced, try again in a moment"
                )
        if not kept.is_dir():  # another process may have been faster
            temporary.rename(kept)
    except CorpusError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        if not kept.is_dir():
            raise CheckpointError(
                f"{root}: can't be copied to {shown(kept.parent)} ({error.strerror}); make room there, or "
                "set FIDKIT_HOME to another place"
            ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
