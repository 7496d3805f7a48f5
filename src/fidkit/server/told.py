"""What callers are told of what was written for the person who runs the server: nothing of places there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from fidkit.disk import shown
from fidkit.errors import FidkitError
from fidkit.passages.load.address import absolute
from fidkit.passages.local.away import AwayError
from fidkit.passages.local.layout import UnwritableError

# A path, or the address of another server, behind what may stand before one.
_PLACE = re.compile(r"(?:^|[\s`'\"(=:])(?:~|/|\w+://|[A-Za-z]:\\)\S")
_KEPT = "what was indexed before is still served"


def without_places(notes: Iterable[str]) -> list[str]:
    """Notes without their parts, between semicolons, that name a place of the server's machine."""
    kept = ("; ".join(part for part in note.split("; ") if not _PLACE.search(part)) for note in notes)
    return [note for note in kept if note]


def of_indexing(error: FidkitError | OSError, sources: Sequence[str]) -> str:
    """Why indexing failed: the document by its name, or the source, where one of them is at fault.

    Args:
        error: of a build.
        sources: folders and files that are indexed.
    """
    if isinstance(error, UnwritableError):
        return f"the server's disk is full or can't be written to; {_KEPT}"
    told, name = str(error), _named(str(error), sources)
    if not _PLACE.search(told):  # as of a file of passages: it says which line of which
        return f"{told}; {_KEPT}"
    if not name:
        return f"indexing failed, the server's log says why; {_KEPT}"
    return f"{name}: {'is away' if isinstance(error, AwayError) else 'could not be read'}; {_KEPT}"


def _named(message: str, sources: Sequence[str]) -> str:
    """What callers call the file that a message begins with; empty where it begins with none."""
    for source in sources:
        place = shown(absolute(source))
        behind = message.removeprefix(place)
        if behind != message and behind.startswith((": ", os.sep)):
            within = behind.partition(": ")[0].strip(os.sep)
            return within or os.path.basename(place)
    return ""
