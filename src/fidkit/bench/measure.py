"""Interleaved rounds, and what they amount to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from fidkit.bench.subjects import Subject
from fidkit.types import Progress

T = TypeVar("T")

FEW = 2
"""Tokens of the short answer that tells steps from the projection before them."""
STAGES = ("encoder_ms", "decoder_ms", "step_ms", "total_ms")


@dataclass(frozen=True)
class Times:
    """One run of a subject, in milliseconds.

    Attributes:
        encoder_ms: from token ids to the fused context.
        few_ms: cross keys and values, and `FEW` tokens.
        decoder_ms: cross keys and values, and all tokens.
        tokens: of an answer.
        memory_ms: what of the encoder's time was waiting for stored memory; None where none is stored.
    """

    encoder_ms: float
    few_ms: float
    decoder_ms: float
    tokens: int
    memory_ms: float | None = None

    @property
    def step_ms(self) -> float | None:
        """A further token: what long answers take more than short ones, without the projection.

        None of answers that are no longer than the short one.
        """
        return (self.decoder_ms - self.few_ms) / (self.tokens - FEW) if self.tokens > FEW else None

    @property
    def total_ms(self) -> float:
        return self.encoder_ms + self.decoder_ms

    def of(self, stage: str) -> float | None:
        """Time of one of `STAGES`; None of steps where there is none."""
        ms: float | None = getattr(self, stage)
        return ms


Round = Mapping[str, Times]
"""Times of every subject, by name, in the order they ran."""


@dataclass(frozen=True)
class Clock:
    """Times a call in milliseconds, and waits for the device before and after."""

    device: torch.device

    def __call__(self, run: Callable[[], object]) -> float:
        self._wait()
        began = time.perf_counter()
        run()
        self._wait()
        return 1000 * (time.perf_counter() - began)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@torch.inference_mode()
def warm_up(subject: Subject, tokens: int, clock: Clock) -> float:
    """Run a prepared subject once as rounds will; returns milliseconds, compilation included."""

    def run() -> None:
        subject.warm_up(tokens)
        subject.decode(FEW)

    return clock(run)


@torch.inference_mode()
def run_round(
    subjects: Sequence[Subject],
    tokens: int,
    clock: Clock,
    progress: Progress,
    before: Callable[[Subject], None] = lambda subject: None,
) -> Round:
    """Run every warm subject once, in this order.

    Args:
        subjects: with different names.
        tokens: of an answer.
        clock: of the device they run on.
        progress: advances with every subject.
        before: called before each subject.
    """
    times = {}
    for subject in subjects:
        before(subject)
        times[subject.name] = _run(subject, tokens, clock, progress)
    return times


def rotated(subjects: Sequence[T], by: int) -> list[T]:
    """The same in a ring, beginning elsewhere."""
    first = by % len(subjects)
    return [*subjects[first:], *subjects[:first]]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, maximum and number of repeats."""
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "n": len(values),
    }


def times_faster(rounds: Sequence[Round], name: str, than: str, stage: str) -> float | None:
    """Median over rounds of the other's time over this one's in the same round.

    None if a time isn't positive in any round, or there is none: steps too short to tell from noise.
    """
    pairs = [(each[name].of(stage) or 0.0, each[than].of(stage) or 0.0) for each in rounds]
    ratios = [other / own for own, other in pairs if own > 0 and other > 0]
    return statistics.median(ratios) if ratios else None


def _run(subject: Subject, tokens: int, clock: Clock, progress: Progress) -> Times:
    times = Times(
        encoder_ms=clock(subject.encode),
        few_ms=clock(lambda: subject.decode(FEW)),
        decoder_ms=clock(lambda: subject.decode(tokens)),
        tokens=tokens,
        memory_ms=subject.memory_ms,
    )
    progress.advance()
    return times
