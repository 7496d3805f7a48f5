"""Rows of the study by reader: one row a seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETS = ("squad", "newwiki")
WHOLE = "1"
"""The budget of a reader that was trained to its end."""


@dataclass(frozen=True)
class Group:
    """Rows of one reader.

    Attributes:
        rows: by seed.
    """

    rows: Mapping[int, Mapping[str, Any]]

    def em(self, budget: str = WHOLE) -> dict[int, float]:
        """By seed, the mean of both sets' exact match after a share of the training."""
        points = {s: row if budget == WHOLE else row["on_the_way"][budget] for s, row in self.rows.items()}
        return {seed: statistics.mean(point[name]["em"] for name in SETS) for seed, point in points.items()}

    def beams(self, width: int) -> dict[int, float]:
        """The same of the whole training, written with so many beams."""
        found = {seed: row["beams"][str(width)] for seed, row in self.rows.items()}
        return {seed: statistics.mean(point[name]["em"] for name in SETS) for seed, point in found.items()}

    def decoder_ms(self, passages: str, width: int = 1) -> float:
        """The median over seeds of a question's time in the decoder."""
        rows = self.rows.values() if width == 1 else [row["beams"][str(width)] for row in self.rows.values()]
        return statistics.median(row["decoder_ms"][passages] for row in rows)

    @property
    def any(self) -> Mapping[str, Any]:
        """One of the rows, for what all of them share."""
        return next(iter(self.rows.values()))


def grouped(rows: Sequence[Mapping[str, Any]]) -> dict[str, Group]:
    """By reader, the rows of its newest number of steps; of two rows for a seed, the newer one."""
    steps = {row["variant"]: row["steps"] for row in rows if not row["set"]}
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if not row["set"] and row["steps"] == steps[row["variant"]]:
            found.setdefault(row["variant"], {})[row["seed"]] = row
    return {name: Group(dict(sorted(by_seed.items()))) for name, by_seed in found.items()}
