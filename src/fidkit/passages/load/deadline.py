"""How long a worker is waited for: while it computes, until it has used up its processor time.

On a busy machine a worker gets little of a processor. What a file takes is counted in processor time where
the system says it, so that a file is left out for what it is, and not for what else ran.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_LEAST_SHARE = 0.01
"""Of a processor: a process that got less since it was looked at last isn't computing, but hangs."""
_LEAST_SECONDS = 1.0
"""Between two looks: in less time, many processes that compute get none of a processor."""


class Deadline:
    """When a process has to have said something, from now on.

    Attributes:
        seconds: of processor time that it may take for that.
        unused: it was over although the process hadn't taken them. Another time it may come to an end.
    """

    def __init__(self, pid: int, seconds: float, last: float) -> None:
        """Begin.

        Args:
            pid: of the process.
            seconds: that it may take.
            last: when it is over whatever was taken, by the monotonic clock.
        """
        self.seconds, self.unused = seconds, False
        self._pid, self._last = pid, last
        self._until = time.monotonic() + seconds
        self._looked, self._began = time.monotonic(), processor_seconds(pid)
        self._seen = self._began

    def left(self) -> float:
        """Seconds to wait until this is asked again; none when it is over."""
        now = time.monotonic()
        if now < min(self._until, self._last):
            return min(self._until, self._last) - now
        used = processor_seconds(self._pid)
        if self._began is None or self._seen is None or used is None:
            return 0.0
        open_, since = self.seconds - (used - self._began), now - self._looked
        if open_ <= 0:
            return 0.0
        if now >= self._last or used - self._seen < _LEAST_SHARE * since:
            self.unused = True
            return 0.0
        self._looked, self._seen = now, used
        self._until = now + max(open_, _LEAST_SECONDS)
        return min(self._until, self._last) - now


def processor_seconds(pid: int) -> float | None:
    """What a process has taken of processors so far; None where the system doesn't say."""
    with suppress(OSError, ValueError, IndexError):
        # Behind the name of its program, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None
