"""Progress of a long job on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fidkit.types import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Progress]:
    """Show how far a job is, until the block is left.

    Args:
        description: what is being done, a few words.
        total: units of work in all; None when unknown.
    """
    if sys.stderr.isatty():
        with _bar(description, total) as bar:
            yield bar
        return
    lines = _Lines(description, total)
    try:
        yield lines
    finally:
        lines.close()


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Progress]:
    # Imported here: without a terminal nobody needs it.
    from rich import progress as rich
    from rich.console import Console

    from fidkit.cli.say import plain, terminal

    class Bar:
        def advance(self, n: int = 1) -> None:
            shown.advance(task, n)

        def describe(self, text: str) -> None:
            shown.update(task, description=plain(text))

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(file=terminal(sys.stderr))) as shown:
        task = shown.add_task(plain(description), total=total)
        yield Bar()


class _Lines:
    """A plain line every `SECONDS_BETWEEN_LINES` at most, and one at the end."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self.start = self.said = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.done += n
        if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.say()

    def describe(self, text: str) -> None:
        self.description = text

    def say(self) -> None:
        self.said = time.monotonic()
        print(self._line(self.said - self.start), file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.done:  # a job that found nothing to do says nothing
            self.say()

    def _line(self, seconds: float) -> str:
        rate = self.done / seconds if seconds > 0 else 0.0
        of = f" of {self.total:,}" if self.total else ""
        left = f", {clock((self.total - self.done) / rate)} left" if self.total and rate else ""
        return f"{self.description}: {self.done:,}{of}, {rate:,.1f}/s, {clock(seconds)}{left}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as short as they are."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
