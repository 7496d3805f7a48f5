"""Rows as small pictures. The same rows give the same bytes with the same matplotlib.

A digest of what is drawn is kept in each picture, so that a stale one is noticed without drawing it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Points = list[dict[str, Any]]
"""Panels: a title, labels of the axes, what is drawn, and `marks` along the first axis."""
WITHIN = 0.25
"""How far a prediction may be off: the band beside it."""
DPI = 80
PANEL = (4.2, 3.0)


def digest(drawn: Points) -> str:
    """Of what is drawn."""
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:32]


def is_current(path: Path, drawn: Points) -> bool:
    """Whether the picture shows this."""
    return path.exists() and digest(drawn).encode() in path.read_bytes()


def draw(drawn: Points, path: Path) -> None:
    """Write the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(drawn))
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, drawn, strict=False):
        DRAWERS[panel["kind"]](axes, panel)
        for place in panel.get("marks", ()):
            axes.axvline(place, color="grey", linewidth=0.8)
        axes.set_title(panel["title"], fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    _explain(figure, list(grid[: len(drawn)]))
    figure.draw_without_rendering()  # only then does each panel have its size
    for axes, panel in zip(grid, drawn, strict=False):
        if panel["kind"] == "dots":
            name_dots(axes, panel)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None, "Description": digest(drawn)})


def _explain(figure: Any, panels: Sequence[Any]) -> None:
    """One legend above panels that all have the same, else one in each."""
    handles, labels = panels[0].get_legend_handles_labels()
    same = all(axes.get_legend_handles_labels()[1] == labels for axes in panels)
    if same and len(panels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=6)
    else:
        for axes in panels:
            if axes.get_legend_handles_labels()[1]:
                axes.legend(fontsize=6)


def _bars(axes: Any, panel: dict[str, Any]) -> None:
    """Encoder and decoder on top of each other."""
    places = range(len(panel["names"]))
    axes.barh(places, panel["encoder"], label="encoder")
    axes.barh(places, panel["decoder"], left=panel["encoder"], label="decoder")
    axes.set_yticks(places, panel["names"], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(panel["x"], fontsize=7)


def _lines(axes: Any, panel: dict[str, Any]) -> None:
    for name, (x, y) in panel["lines"].items():
        axes.plot(x, y, "o-", markersize=3, linewidth=1, label=name)
    if panel.get("log"):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        places = sorted({place for x, _ in panel["lines"].values() for place in x})
        axes.set_xticks(places, [str(place) for place in places])
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(panel["x"], fontsize=7)
    axes.set_ylabel(panel["y"], fontsize=7)


def _scatter(axes: Any, panel: dict[str, Any]) -> None:
    """Prediction against measurement, with the band within which it should be."""
    every = [ms for x, y in panel["points"].values() for ms in (*x, *y)]
    ends = [min(every), max(every)]
    for factor, style in ((1.0, "-"), (1 - WITHIN, ":"), (1 + WITHIN, ":")):
        axes.plot(ends, [factor * end for end in ends], style, color="grey", linewidth=0.8)
    for name, (x, y) in panel["points"].items():
        axes.plot(x, y, "o", markersize=3, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(panel["x"], fontsize=7)
    axes.set_ylabel(panel["y"], fontsize=7)


def _dots(axes: Any, panel: dict[str, Any]) -> None:
    """Means of several values, with whiskers from the least to the largest; `name_dots` names them."""
    for x, values in panel["points"].values():
        mean = sum(values) / len(values)
        whiskers = ([mean - min(values)], [max(values) - mean])
        axes.errorbar([x], [mean], whiskers, fmt="o", markersize=3, linewidth=0.8, capsize=1.5)
    axes.margins(0.12)
    axes.set_xlabel(panel["x"], fontsize=7)
    axes.set_ylabel(panel["y"], fontsize=7)


def name_dots(axes: Any, panel: dict[str, Any]) -> None:
    """Put the name of each dot where it covers neither another name nor a dot, if there is such a place."""
    means = {name: (x, sum(values) / len(values)) for name, (x, values) in panel["points"].items()}
    dots = [axes.transData.transform(place) for place in means.values()]
    taken: list[Any] = []
    for name, place in sorted(means.items(), key=lambda item: -item[1][1]):
        for x, y, side in _BESIDE:
            text = axes.annotate(
                name, place, fontsize=6, xytext=(x, y), textcoords="offset points", ha=side, va="center"
            )
            box = text.get_window_extent().padded(1)
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if inside and not box.count_overlaps(taken) and not any(box.contains(*dot) for dot in dots):
                break
            text.remove()
        else:
            text = axes.annotate(name, place, fontsize=6, xytext=(4, 0), textcoords="offset points")
            box = text.get_window_extent()
        taken.append(box)


_BESIDE = [
    (x, y, side)
    for y in (0, 5, -5, 9, -9, 14, -14, 20, -20, 27, -27)
    for x, side in ((5, "left"), (-5, "right"), *([(0, "center")] if abs(y) > 5 else []))
]
"""Places of a name beside its dot: points to the right, points up, and which end of it is there."""


def _curves(axes: Any, panel: dict[str, Any]) -> None:
    for name, (x, y) in panel["lines"].items():
        axes.plot(x, y, linewidth=1, label=name)
    axes.set_xlabel(panel["x"], fontsize=7)
    axes.set_ylabel(panel["y"], fontsize=7)


def _spread(axes: Any, panel: dict[str, Any]) -> None:
    """Means with whiskers from the least to the largest, and a level to be reached."""
    name, level = panel["level"]
    axes.axhline(level, color="grey", linewidth=0.8, linestyle=":", label=name)
    for name, points in panel["lines"].items():
        means = [sum(values) / len(values) for _, values in points]
        below = [mean - min(values) for mean, (_, values) in zip(means, points, strict=True)]
        above = [max(values) - mean for mean, (_, values) in zip(means, points, strict=True)]
        axes.errorbar(
            [x for x, _ in points], means, (below, above), fmt="o-", markersize=3, linewidth=1, capsize=2,
            label=name,
        )  # fmt: skip
    axes.set_xlabel(panel["x"], fontsize=7)
    axes.set_ylabel(panel["y"], fontsize=7)


DRAWERS = {
    "bars": _bars,
    "lines": _lines,
    "scatter": _scatter,
    "dots": _dots,
    "curves": _curves,
    "spread": _spread,
}
