"""Rows of the study by reader: one row a seed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.variants import SETS

BUDGETS = ("1/4", "1/2", "1")
"""Shares of the training after which readers are judged on their way."""


@dataclass(frozen=True)
class Group:
    """Rows of one reader.

    Attributes:
        rows: by seed; a reader that wasn't trained has one.
    """

    rows: Mapping[int, Mapping[str, Any]]

    def em(self) -> dict[int, float]:
        """By seed, exact match after the whole training, the mean of the sets that decide."""
        return {seed: self._mean(row) for seed, row in self.rows.items()}

    def on_the_way(self, budget: str) -> dict[int, float]:
        """The same after a share of the training, by the first questions; of rows that have it."""
        return {
            seed: self._mean(row["on_the_way"][budget])
            for seed, row in self.rows.items()
            if budget in row["on_the_way"]
        }

    def beams(self, width: int) -> dict[int, float]:
        """The same with so many beams, after the whole training."""
        return {seed: self._mean(row["beams"][str(width)]) for seed, row in self.rows.items()}

    def decoder_ms(self, passages: str, width: int = 1) -> float:
        """The median over seeds of a question's time in the decoder."""
        rows = self.rows.values() if width == 1 else [row["beams"][str(width)] for row in self.rows.values()]
        return statistics.median(row["decoder_ms"][passages] for row in rows)

    def right(self) -> dict[str, str]:
        """By set that decides, a character a question: 1 where a reader that wasn't trained is right."""
        return {name: self.any[name]["right"] for name in self.decides}

    @property
    def any(self) -> Mapping[str, Any]:
        """One of the rows, for what all of them share."""
        return next(iter(self.rows.values()))

    @property
    def decides(self) -> tuple[str, ...]:
        """Sets by whose mean the reader is compared; the first rows don't say so."""
        return tuple(self.any.get("decides", SETS))

    def _mean(self, point: Mapping[str, Any]) -> float:
        return statistics.mean(point[name]["em"] for name in self.decides)


def grouped(rows: Sequence[Mapping[str, Any]], changes: Sequence[str] = ()) -> dict[str, Group]:
    """By reader, its rows; of two for a seed, the newer one.

    Rows of a recipe with these changes; those of the study have none. Readers that were trained have the
    start and the steps of most rows: those of others can't be set beside them.
    """
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in _comparable(rows, changes):
        found.setdefault(row["variant"], {})[row["seed"]] = row
    return {name: Group(dict(sorted(by_seed.items()))) for name, by_seed in found.items()}


def repeated(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Group, Group]]:
    """By reader that was trained more than once with a seed: its first rows, and its newest."""
    comparable = [row for row in _comparable(rows, ()) if row["steps"]]
    first, last = grouped(comparable[::-1]), grouped(comparable)
    twice = Counter((row["variant"], row["seed"]) for row in comparable)
    found: dict[str, tuple[Group, Group]] = {}
    for name in last:
        seeds = [seed for seed in last[name].rows if twice[name, seed] > 1]
        if seeds:
            one, other = (Group({seed: group[name].rows[seed] for seed in seeds}) for group in (first, last))
            found[name] = (one, other)
    return found


def _comparable(rows: Sequence[Mapping[str, Any]], changes: Sequence[str]) -> list[Mapping[str, Any]]:
    most = [shared for shared, _ in Counter(_shared(row) for row in rows if row["steps"]).most_common(1)]
    wanted = list(changes)
    return [row for row in rows if row["set"] == wanted and (not row["steps"] or _shared(row) in most)]


def _shared(row: Mapping[str, Any]) -> tuple[str | None, int]:
    """What readers have in common whose rows are compared."""
    return row.get("weights"), row["steps"]
