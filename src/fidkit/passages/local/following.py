"""What a build waits for where sources are followed: files that are being written.

Somebody who starts a build by hand knows that the files are complete. A build that starts by itself must not
take half a file for the whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fidkit.passages.load.address import ObjectAddress
from fidkit.passages.load.sources import SourceFile

SETTLED_SECONDS = 1.0
"""A file that wasn't written to for so long is taken for complete."""
_LONGEST_SECONDS = 30.0


class Following:
    """How patient a build is; the same for all builds of sources that are followed.

    Args:
        settled: seconds after which a file that wasn't written to is taken for complete.
        longest: seconds after which a file that is written to without an end is read as it is.
    """

    def __init__(self, settled: float = SETTLED_SECONDS, longest: float = _LONGEST_SECONDS) -> None:
        self._settled, self._longest = settled, longest
        self._since: dict[Path | ObjectAddress, float] = {}
        self._let: set[Path | ObjectAddress] = set()

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

    def found(self, files: Sequence[SourceFile]) -> None:
        """Forget what is known of files that are no longer there, of all that a build has found."""
        if self._since:
            self._since = {file.path: self._since[file.path] for file in files if file.path in self._since}
