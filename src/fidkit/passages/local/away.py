"""What a build makes of sources that are away: it ends, and forgets nothing.

A network share or a disk that isn't mounted looks like a folder that was emptied. Who does mean to take out
what a source held can say so, and every message says how.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.sources import ANOTHER_CORPUS, HIDDEN, LINKED, SourceFile
from fidkit.passages.local.layout import real_path, stored_path
from fidkit.passages.local.records import FileRecord
from fidkit.wording import counted

_NOT_LOOKED_INTO = (ANOTHER_CORPUS, HIDDEN, LINKED)
# What the system says where a share or a disk doesn't answer; that a file is gone would be an answer.
_UNANSWERED = frozenset(
    os.strerror(getattr(errno, name)).casefold()
    for name in (
        *("EIO", "ENXIO", "ENODEV", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ECONNABORTED", "ECONNRESET"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO", "ENOKEY", "EKEYEXPIRED"),
    )
    if hasattr(errno, name)
)
_MOUNTED = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


class AwayError(CorpusError):
    """A source, or a part of it, that passages were read from is away."""


def mounts_below(roots: Iterable[str]) -> list[str]:
    """Where other file systems are mounted in the sources, the sources themselves included; sorted.

    Args:
        roots: the sources, as real paths.
    """
    roots = list(roots)
    try:
        lines = _MOUNTED.read_bytes().splitlines()
    except OSError:  # another system than Linux
        return sorted(root for root in roots if os.path.ismount(root))
    places = {os.fsdecode(_OCTAL.sub(_byte, line.split()[4])) for line in lines}
    return sorted(place for place in places if any(_is_below(place, root) for root in roots))


def stored_mounts(mounts: Iterable[str]) -> str:
    """`mounts_below` as the catalogue keeps it."""
    return json.dumps(list(map(stored_path, mounts)))


def mounts_of(meta: dict[str, str]) -> list[str]:
    """Where file systems were mounted in the sources of a corpus when it was built, as far as it says so."""
    try:
        known = json.loads(meta.get("mounts", "[]"))
    except (ValueError, RecursionError):
        return []
    return [real_path(place) for place in known if isinstance(place, str)] if isinstance(known, list) else []


def require_sources(
    roots: Sequence[str],
    found: Sequence[SourceFile],
    records: Sequence[FileRecord],
    mounts: Sequence[str] = (),
) -> None:
    """Refuse to go on where passages would be lost because a source is away.

    Args:
        roots: the sources, as real paths.
        found: in the sources now.
        records: of the files that the corpus holds.
        mounts: where file systems were mounted in the sources when these were read.

    Raises:
        AwayError: says which, and how to take out what it held.
    """
    held = {record.name: record.path for record in records if record.kind != "skipped"}
    _require_answers([file for file in found if file.kind == "skipped"], held)
    for root in roots:
        if lost := _lost(root, found, held):
            raise AwayError(
                f"{shown(root)}: holds nothing to read any more, and {_are_kept(lost)}; bring them back, or "
                "leave this source out to forget them"
            )
    known = [file for file in found if file.name in held] if mounts else []
    for mount in sorted(set(mounts) - set(mounts_below(roots))) if mounts else ():
        if os.path.lexists(mount) and (lost := _lost(mount, known, held)):
            raise AwayError(
                f"{shown(mount)}: isn't mounted any more, and {_are_kept(lost)}; mount it again, or delete "
                "this folder to forget them"
            )


def _require_answers(skipped: Sequence[SourceFile], held: dict[str, str]) -> None:
    """Refuse to go on where the system has an error for a folder, or a file, that passages were read from."""
    suspects = [file for file in skipped if _is_unanswered(file)]
    above = _folders_of(held.values()) if suspects else set()
    away = [file for file in suspects if file.name in held or shown(file.path) in above]
    if away:
        place = shown(away[0].path)
        lost = sum(_is_below(path, place) for path in held.values())
        raise AwayError(
            f"{place}: can't be looked into ({away[0].note}), and {_are_kept(lost)}; mend that, or move it "
            "out of the sources to forget them"
        )


def _is_unanswered(file: SourceFile) -> bool:
    """Whether the system had an error for a file or a folder, which it may not have told apart then."""
    if file.name.endswith("/"):
        return file.note not in _NOT_LOOKED_INTO
    return file.note.casefold() in _UNANSWERED


def _folders_of(paths: Iterable[str]) -> set[str]:
    """All folders that lie above some path."""
    found: set[str] = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in found:
            found.add(path)
    return found


def _lost(folder: str, found: Iterable[SourceFile], held: dict[str, str]) -> int:
    """How many files of a folder the corpus holds, where none of those found is in it."""
    if any(file.kind != "skipped" and _is_below(str(file.path), folder) for file in found):
        return 0
    place = shown(folder)
    return sum(_is_below(path, place) for path in held.values())


def _are_kept(lost: int) -> str:
    return f"{counted(lost, 'file of it is', 'files of it are')} in the corpus, which stays as it is"


def _is_below(path: str, folder: str) -> bool:
    """Whether a path is that of a folder, or of what is in it."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def _byte(octal: re.Match[bytes]) -> bytes:
    """The system writes spaces, tabs, newlines and backslashes of such a path as three digits."""
    return bytes([int(octal[1], 8)])
