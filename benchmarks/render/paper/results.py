"""Rows put together for tables and plots: rounds of the same measurement are one result."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from paper.record import Row, key

from fidkit.bench.outcome import predicted_again

STAGES = ("encoder_ms", "decoder_ms", "step_ms", "update_ms", "total_ms")


@dataclass(frozen=True)
class Setting:
    """Where and at which size something was measured; settings are shown apart."""

    size: str
    device: str
    machine: str


@dataclass
class Result:
    """One system in one unit.

    Attributes:
        row: the last of its rows; what isn't a repeat is taken from it.
        repeats: milliseconds of all rounds by stage.
        revisions, dates: of all rows.
    """

    row: Row
    repeats: dict[str, list[float]] = field(default_factory=dict)
    revisions: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)

    @property
    def batch(self) -> int:
        """Questions at a time."""
        shapes: dict[str, Any] = self.row.get("shapes", {})
        return int(shapes.get("questions", 1))

    @cached_property
    def predicted(self) -> dict[str, float] | None:
        """Milliseconds of a batch by today's cost model; None of what it knows nothing of."""
        return predicted_again(self.row)

    def ms(self, stage: str) -> float:
        """Median of a batch."""
        return statistics.median(self.repeats[stage])

    def sample_ms(self, stage: str) -> float:
        """Median by question."""
        return self.ms(stage) / self.batch

    @property
    def step_ms(self) -> float | None:
        """Median of a further token by question; None where answers are too short to tell it."""
        return self.sample_ms("step_ms") if self.repeats.get("step_ms") else None

    @property
    def decoder_share(self) -> float:
        """Of the time of both stacks."""
        decoder = self.ms("decoder_ms")
        return decoder / (decoder + self.ms("encoder_ms"))

    def over(self, other: Result, stage: str) -> float:
        """How many times as long as another: within rounds, where both ran in the same ones."""
        mine, others = self.repeats[stage], other.repeats[stage]
        if len(mine) != len(others):
            return self.ms(stage) / other.ms(stage)
        return statistics.median(a / b for a, b in zip(mine, others, strict=True))

    def add(self, row: Row) -> None:
        """Take in rounds of the same measurement."""
        self.row = row
        for stage, values in row.get("repeats", {}).items():
            self.repeats.setdefault(stage, []).extend(values)
        for mine, theirs in ((self.revisions, row["git"]), (self.dates, row["date"])):
            if theirs not in mine:
                mine.append(theirs)


Systems = dict[str, Result]
"""By name, in the order they were measured."""


@dataclass
class Results:
    """Everything that was measured of one experiment in one setting."""

    setting: Setting
    results: list[Result] = field(default_factory=list)

    def units(self) -> list[str]:
        """In the order they were measured."""
        return list(dict.fromkeys(result.row["unit"] for result in self.results))

    def batches(self, unit: str) -> list[int]:
        """For which a unit was measured."""
        return sorted({r.row["batch"] for r in self.results if r.row["unit"] == unit})

    def systems(self, unit: str, batch: int | None = None) -> Systems:
        """What was measured in a unit, by system."""
        return {
            r.row["system"]: r
            for r in self.results
            if r.row["unit"] == unit and batch in (None, r.row["batch"])
        }

    def sweep(self, prefix: str) -> dict[tuple[int, int], Systems]:
        """Units whose names are a prefix and a number, by batch and number, in order."""
        found = [
            (batch, int(unit.removeprefix(prefix)), unit)
            for unit in self.units()
            if unit.startswith(prefix)
            for batch in self.batches(unit)
        ]
        return {(batch, number): self.systems(unit, batch) for batch, number, unit in sorted(found)}


def gather(rows: Iterable[Row]) -> list[Results]:
    """Results by setting, GPUs and larger sizes first."""
    by_key: dict[tuple[Any, ...], Result] = {}
    for row in rows:
        by_key.setdefault(key(row), Result(row)).add(row)
    settings: dict[Setting, Results] = {}
    for result in by_key.values():
        setting = Setting(*(result.row[name] for name in ("size", "device", "machine")))
        settings.setdefault(setting, Results(setting)).results.append(result)
    order = ("base", "small", "tiny")
    return sorted(settings.values(), key=lambda r: (r.setting.device != "cuda", order.index(r.setting.size)))
