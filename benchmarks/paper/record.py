"""Rows of one experiment in a file: what is there, what is missing, and how long one may go on."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fidkit.bench.rows import append, read

Row = dict[str, Any]
Key = tuple[Any, ...]
IDENTITY = ("experiment", "unit", "system", "size", "device", "machine", "batch")
"""What makes two rows measurements of the same thing."""


def key(row: Row) -> Key:
    """Rows with the same key are rounds of the same measurement."""
    return tuple(row[name] for name in IDENTITY)


def rounds_in(row: Row) -> int:
    """How often it was measured; a row without repeats (a count, an allocation) is complete in itself."""
    return len(row["repeats"]["total_ms"]) if "repeats" in row else sys.maxsize


class Book:
    """Rows of an experiment.

    Args:
        path: JSONL; made when the first row comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rounds: dict[Key, int] = {}
        for row in read(path):
            self._count(row)

    def missing(self, identities: Iterable[Row], rounds: int) -> int:
        """Rounds that the least measured of these still lacks."""
        return max((max(0, rounds - self.rounds.get(key(one), 0)) for one in identities), default=0)

    def add(self, row: Row) -> None:
        """Write a row at once, dated."""
        row = {**row, "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        append(self.path, row)
        self._count(row)

    def _count(self, row: Row) -> None:
        self.rounds[key(row)] = self.rounds.get(key(row), 0) + rounds_in(row)


class Deadline:
    """When to stop.

    Args:
        minutes: from now.
        clock: seconds.
    """

    SPARE = 1.25
    """By so much a job may take longer than expected."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.end = clock() + 60 * minutes

    @property
    def over(self) -> bool:
        return self.clock() >= self.end

    def stop(self) -> None:
        """From now on nothing is allowed: somebody pressed Ctrl-C."""
        self.end = self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether a job of so many seconds, as expected, ends in time."""
        return self.clock() + self.SPARE * seconds < self.end


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
