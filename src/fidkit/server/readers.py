"""Readers as people name them to be served: `pocket`, a directory, `NAME=READER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fidkit.errors import UsageError


def by_name(readers: Sequence[str]) -> dict[str, str]:
    """Readers by the names that callers use, the default first.

    Raises:
        UsageError: one without a name or a place, or two of one name.
    """
    named: dict[str, str] = {}
    for one in readers:
        name, given, place = one.partition("=")
        if one and (not given or Path(one).is_dir()):  # a directory's name may have any character
            name, place = Path(one).name or Path(one).resolve().name, one
        if not name or not place:
            raise UsageError(f"--reader {one!r}; expected a reader, or NAME=READER")
        if name in named:
            raise UsageError(f"--reader {one}: there is another one called {name}; give NAME=READER")
        named[name] = place
    return named
