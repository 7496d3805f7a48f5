"""How fast a run goes: tokens and questions a second, the share of the hardware's peak, the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from fidkit.config import ReaderConfig
from fidkit.cost import HARDWARE, Hardware, Workload, total_flops
from fidkit.cost.hardware import load_local, local_path
from fidkit.cost.workload import COMPUTED
from fidkit.errors import FidkitError
from fidkit.train.data.examples import Example
from fidkit.train.distributed.group import Group


class Meter:
    """Sums since the last row of the log.

    Args:
        config: of the reader.
        precision: as a recipe has it.
        group: of processes.
    """

    def __init__(self, config: ReaderConfig, precision: str, group: Group) -> None:
        self.config, self.precision = config, precision
        self.peak = _peak(precision, group)
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.since, self.steps = time.perf_counter(), 0
        self.losses: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, losses: Mapping[str, float], counts: Mapping[str, int]) -> None:
        """A step is done."""
        self.steps += 1
        self.losses.update(losses)
        self.counts.update(counts)

    def row(self, steps_left: int) -> dict[str, float]:
        """Means over the steps, and rates; begins again."""
        passed = time.perf_counter() - self.since
        row: dict[str, float] = {name: round(value / self.steps, 4) for name, value in self.losses.items()}
        row["tokens_per_s"] = round(self.counts["tokens"] / passed)
        row["questions_per_s"] = round(self.counts["questions"] / passed, 1)
        if self.peak is not None:
            row["peak_share"] = round(self._flops() / passed / self.peak, 4)
        if self.counts["cut"]:
            row["cut"] = self.counts["cut"]
        row["left_s"] = round(steps_left * passed / self.steps)
        self.reset()
        return row

    def _flops(self) -> int:
        """Operations of all steps, forward and backward, as if all rows had mean lengths."""
        c = self.counts
        workload = Workload(
            questions=c["questions"],
            passages=_mean(c["passages"], c["questions"]),
            passage_tokens=_mean(c["passage_tokens"], c["passages"]),
            question_tokens=_mean(c["question_tokens"], c["questions"]),
            output_tokens=_mean(c["target_tokens"], c["questions"]),
            dtype=self.precision,
            memory=COMPUTED,
        )
        return total_flops(self.config, workload, training=True)


def count(examples: Sequence[Example]) -> dict[str, int]:
    """What went into a step; `tokens` are those of all encoder rows."""
    return {
        "questions": len(examples),
        "tokens": sum(e.tokens for e in examples),
        "passages": sum(len(e.passages) for e in examples),
        "passage_tokens": sum(len(p) for e in examples for p in e.passages),
        "question_tokens": sum(len(e.question) for e in examples),
        "target_tokens": sum(len(e.target) for e in examples),
        "cut": sum(e.cut for e in examples),
    }


def _mean(total: int, number: int) -> int:
    return max(1, round(total / max(1, number)))


def this_machine() -> Hardware | None:
    """The GPU by its name, or this CPU if `fidkit plan --hardware local` has measured it; else None."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name().lower()
        return next((machine for key, machine in HARDWARE.items() if key in name), None)
    try:
        return load_local() if local_path().exists() else None
    except FidkitError:
        return None


def _peak(precision: str, group: Group) -> float | None:
    """Operations a second of all that the group computes with; processes on CPUs share one machine."""
    machine = this_machine()
    if machine is None or precision not in machine.matrix_tflops:
        return None
    return machine.rate(precision) * (group.size if torch.cuda.is_available() else 1)
