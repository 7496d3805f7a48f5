"""Plot of the bundled reader's training: losses, and what it answered right of the development samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from render.pictures import Points

Rows = Sequence[dict[str, Any]]
LOSSES = {"loss": "answer", "guide": "guide", "pointer": "pointer", "overlap": "overlap"}
MEASURES = {"f1": "F1", "em": "EM"}


def panels(rows: Rows) -> Points:
    """Two, against minutes of training steps, with a mark where a run follows another."""
    train, judged = ([row for row in rows if row["kind"] == kind] for kind in ("train", "evaluation"))
    datasets = sorted({key for row in judged for key, value in row.items() if isinstance(value, dict)})
    losses = {words: _line(train, name) for name, words in LOSSES.items()}
    right = {f"{name} {MEASURES[m]}": _line(judged, name, m) for name in datasets for m in MEASURES}
    starts = {row["run"]: row["minutes"] for row in reversed(rows) if row["run"]}
    shared = {"x": "minutes of training steps", "marks": sorted(starts.values())}
    drawn = [
        {"kind": "curves", "title": "Losses", "lines": losses, "y": "nats", **shared},
        {"kind": "lines", "title": "Development samples", "lines": right, "y": "percent", **shared},
    ]
    return [panel for panel in drawn if any(minutes for minutes, _ in panel["lines"].values())]


def _line(rows: Rows, *path: str) -> tuple[list[float], list[float]]:
    """Minutes, and the value at a path of keys, of rows that have it."""
    found = [row for row in rows if path[0] in row]
    values = [row[path[0]][path[1]] if path[1:] else row[path[0]] for row in found]
    return [row["minutes"] for row in found], values


PICTURES = {"learning-curve": (panels, "learning-curve.jsonl")}
"""How the plot is made, by its name, and of which rows."""
