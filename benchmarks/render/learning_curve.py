"""Plot of the bundled reader's training: losses, and what it answered right of the development samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from render.pictures import Points

Rows = Sequence[dict[str, Any]]
LOSSES = {"loss": "answer", "guide": "guide", "pointer": "pointer", "overlap": "overlap"}
MEASURES = {"f1": "F1", "em": "EM"}
FEW = 4


def panels(rows: Rows) -> Points:
    """Two, against minutes of training steps, with a mark where a run follows another.

    Shown are the sets that the last evaluation had; of more than four, exact match alone.
    """
    train = [row for row in rows if row["kind"] == "train"]
    judged = [row for row in rows if row["kind"] in ("evaluation", "pointing")]
    datasets = sorted(key for row in judged[-1:] for key, value in row.items() if isinstance(value, dict))
    measures = {"em": "EM"} if len(datasets) > FEW else MEASURES
    losses = {words: _line(train, name) for name, words in LOSSES.items()}
    right = {f"{name} {measures[m]}": _line(judged, name, m) for name in datasets for m in measures}
    starts = {row["run"]: row["minutes"] for row in reversed(rows) if row["run"]}
    shared = {"x": "minutes of training steps", "marks": sorted(starts.values())}
    drawn: Points = [
        {"kind": "curves", "title": "Losses", "lines": losses, "y": "nats", **shared},
        {"kind": "lines", "title": "Development samples", "lines": right, "y": "percent", **shared},
    ]
    for panel in drawn:
        panel["lines"] = {name: points for name, points in panel["lines"].items() if points[0]}
    return [panel for panel in drawn if panel["lines"]]


def _line(rows: Rows, *path: str) -> tuple[list[float], list[float]]:
    """Minutes, and the value at a path of keys, of rows that have it; where answers were forced, of those."""
    found = [(row["minutes"], value) for row in rows if (value := _at(row, *path)) is not None]
    return [minutes for minutes, _ in found], [value for _, value in found]


def _at(row: dict[str, Any], name: str, measure: str | None = None) -> float | None:
    value = row.get(name)
    if measure is None or value is None:
        return value
    found: float | None = value.get(f"forced_{measure}", value.get(measure))
    return found


PICTURES = {"learning-curve": (panels, "learning-curve.jsonl")}
"""How the plot is made, by its name, and of which rows."""
