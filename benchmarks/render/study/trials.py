"""Tables of docs/log.md: readers of the study that didn't do what the papers' did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from study.variants import TRANSFER

from render.study.groups import grouped
from render.summaries import NOTHING, line, rule, spread

_LARGER = ("mq", "fido", "mq-longer", "fido-longer", "mq-adafactor", "fido-adafactor")
_BLIND = (
    "lumen-0", "lumen-1-6", "lumen-1-3", "lumen-1-2", "lumen-2-3", "lumen-1",
    "lumen-1-3-longer", "lumen-1-longer",
)  # fmt: skip
_SEEN = (
    "lumen-1-3", "lumen-1-3-question-sees-passage", "lumen-1-3-passage-sees-question",
    "lumen-1-3-question-frozen",
)  # fmt: skip
_CODES = ("lumen-1-3", "lumen-1-3-codes")
_MEMORY = ("memory-2", "memory-3", "lumen-1-3", "memory-6", "lumen-1-3-longer", "memory-6-longer")
_TRANSFER = tuple(variant.name for variant in TRANSFER)
_FIRST = ("lsa-6", "light-6", "lsa-6-tuned", "light-6-tuned")

_WHERE = "More of them, and how they are made: [reproduce.md](reproduce.md#what-the-papers-say-of-quality)."


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], changes: Sequence[str] = ()) -> str:
    """Exact match of each reader that has rows, by set that decides, after its steps, and where more is said.

    Args:
        rows: of `benchmarks/study.py`.
        names: of readers.
        changes: of the recipe; without any, rows are those of the study.
    """
    found = _readers(rows, names, changes)
    return f"{found}\n\n{_WHERE}" if found else NOTHING


def _readers(rows: Sequence[Mapping[str, Any]], names: Sequence[str], changes: Sequence[str]) -> str:
    """The table alone; empty without rows."""
    groups = grouped(rows, changes)
    found = [name for name in names if name in groups]
    sets = groups[found[0]].decides if found else ()
    lines = [line("reader", "steps", "seeds", *(f"{name}: EM" for name in sets)), rule(3 + len(sets))]
    for name in found:
        of_seeds = list(groups[name].rows.values())
        cells = [spread([row[one]["em"] for row in of_seeds], seeds=len(of_seeds) > 1) for one in sets]
        lines.append(line(f"`{name}`", str(_steps(of_seeds[0])), str(len(of_seeds)), *cells))
    return "\n".join(lines) if found else ""


def _steps(row: Mapping[str, Any]) -> int:
    """Of a reader's own training. The first rows were written when all had as many."""
    on_the_way = row["on_the_way"].get("1")
    return int(on_the_way["step"] if on_the_way else row["steps"])


_RATE = ("lumen-0", "lumen-1-6", "lumen-1-3", "lumen-1-2", "lumen-1")
"""Readers that were first trained at another rate."""


def rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same readers at the rate that was tried first, and at that of the study."""
    first = _readers(rows, _RATE, ["optimiser.rate=5e-4"]) or NOTHING
    return f"At 5e-4:\n\n{first}\n\nAt 1.5e-4:\n\n{table(rows, _RATE)}"


_TRIALS = {
    "larger": _LARGER, "blind": _BLIND, "first": _FIRST, "seen": _SEEN, "codes": _CODES,
    "memory": _MEMORY, "transfer": _TRANSFER, "moments": ("moments-carry", "moments-fresh"),
}  # fmt: skip

TABLES: dict[str, tuple[Callable[[list[dict[str, Any]]], str], str]] = {
    f"study-{mark}": (partial(table, names=names), "study.jsonl") for mark, names in _TRIALS.items()
} | {"study-rate": (rates, "study.jsonl")}
