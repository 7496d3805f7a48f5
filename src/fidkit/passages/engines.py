"""Which engine keeps a corpus: a directory unless a URL says otherwise.

An engine is a module with `open_corpus`, `build_corpus` and `check_corpus`. It is imported when a URL of its
scheme is used.
"""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from fidkit.errors import UsageError
from fidkit.passages.load.address import is_in_store

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://?", re.IGNORECASE)
_POSTGRES = "fidkit.passages.postgres.engine"
_ENGINES = {"postgresql": _POSTGRES, "postgres": _POSTGRES}


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether this names a corpus behind a URL, known or not, and no file that is there."""
    return _URL.match(os.fspath(place)) is not None and not os.path.exists(place)


def engine_of(place: str | os.PathLike[str]) -> Any | None:
    """The engine of a URL; None for a path.

    Raises:
        UsageError: a URL of which no engine is known. What may be a password is not repeated.
    """
    if not is_url(place):
        return None
    match = _URL.match(os.fspath(place))
    assert match is not None
    scheme = match[1].lower()
    if is_in_store(place):
        raise UsageError(
            f"{os.fspath(place)}: holds documents, and no corpus; run `fidkit corpus build "
            f"{os.fspath(place)} --to DIR`, and give DIR"
        )
    if scheme not in _ENGINES:
        raise UsageError(
            f"{scheme}://…: no engine is known for this; give a folder, files, a built corpus, or "
            "postgresql://USER@HOST/DATABASE; documents may be in s3://BUCKET/PREFIX"
        )
    return importlib.import_module(_ENGINES[scheme])


def said_place(place: str | os.PathLike[str]) -> str:
    """A place as it may be printed: without the password of a URL."""
    engine = engine_of(place)
    return os.fspath(place) if engine is None else str(engine.said(os.fspath(place)))
