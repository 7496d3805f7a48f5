"""What a build waits for where sources are followed: files that are being written, and sources that are away.

Somebody who starts a build by hand knows that the sources are there and complete. A build that starts by
itself must not take a share that went away for one that was emptied, nor half a file for the whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.sources import ANOTHER_CORPUS, HIDDEN, LINKED, SourceFile
from fidkit.passages.local.records import FileRecord

SETTLED_SECONDS = 1.0
"""A file that wasn't written to for so long is taken for complete."""
_LONGEST_SECONDS = 30.0
_NOT_LOOKED_INTO = (ANOTHER_CORPUS, HIDDEN, LINKED)


class AwayError(CorpusError):
    """A source, or a folder of it, can't be looked into, or holds nothing any more."""


class Following:
    """How patient a build is; the same for all builds of sources that are followed.

    Args:
        roots: the sources, as real paths.
        settled: seconds after which a file that wasn't written to is taken for complete.
        longest: seconds after which a file that is written to without an end is read as it is.
    """

    def __init__(
        self, roots: Sequence[str], settled: float = SETTLED_SECONDS, longest: float = _LONGEST_SECONDS
    ) -> None:
        self._roots, self._settled, self._longest = roots, settled, longest
        self._since: dict[Path, float] = {}
        self._let: set[Path] = set()

    def begin(self) -> None:
        """Before each build, which may ask of a file more than once: all that waited too long wait anew."""
        for path in self._let:
            self._since.pop(path, None)
        self._let.clear()

    def waits_for(self, file: SourceFile) -> bool:
        """Whether a file that is new or changed may not be complete yet."""
        if file.kind == "skipped":
            return False
        now = time.monotonic()
        # A time in the future, by the clock of another machine, says nothing.
        fresh = 0 <= time.time_ns() - file.mtime_ns < self._settled * 1e9
        since = self._since.setdefault(file.path, now)
        if fresh and now - since < self._longest:
            return True
        self._let.add(file.path)
        return False

    def require_sources(self, found: Sequence[SourceFile], records: Sequence[FileRecord]) -> None:
        """Refuse to go on where passages would be lost because a source is away.

        Args:
            found: in the sources now.
            records: of the files that the corpus holds.

        Raises:
            AwayError: says which.
        """
        if self._since:
            self._since = {file.path: self._since[file.path] for file in found if file.path in self._since}
        for file in found:
            if file.name.endswith("/") and file.note not in _NOT_LOOKED_INTO:
                below = shown(file.path) + os.sep
                if any(record.path.startswith(below) for record in records):
                    raise AwayError(f"{shown(file.path)}: can't be looked into ({file.note})")
        for root in self._roots:
            below = os.path.join(root, "")
            if any(file.kind != "skipped" and _is_of(str(file.path), root, below) for file in found):
                continue
            root, below = shown(root), shown(below)
            if any(record.kind != "skipped" and _is_of(record.path, root, below) for record in records):
                raise AwayError(
                    f"{root}: holds nothing to read any more; `fidkit corpus build` without --watch takes "
                    "what was there out of the corpus"
                )


def _is_of(path: str, root: str, below: str) -> bool:
    return path == root or path.startswith(below)
