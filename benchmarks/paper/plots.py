"""Results as small pictures. The same results give the same bytes with the same matplotlib.

A digest of what is drawn is kept in each picture, so that a stale one is noticed without drawing it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paper import facts
from paper.page import PREFIX
from paper.results import Results
from paper.sizes import label
from paper.verdicts import WITHIN

Points = list[dict[str, Any]]
"""Panels: a title, labels of the axes, and what is drawn."""
DPI = 80
PANEL = (4.2, 3.0)


def panels(name: str, measured: Sequence[Results]) -> Points:
    """What the plot of an experiment shows: one or more panels a setting."""
    makers: dict[str, Callable[[Results], Points]] = {
        "figure-1": _shares,
        "figure-2": _stages,
        "figure-4": _every,
        "figure-6": _sweeps,
        "table-1": _memory,
        "plan": _plan,
    }
    return [panel for results in measured for panel in makers[name](results)]


def digest(drawn: Points) -> str:
    """Of what is drawn."""
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:32]


def is_current(path: Path, drawn: Points) -> bool:
    """Whether the picture shows this."""
    return path.exists() and digest(drawn).encode() in path.read_bytes()


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{PREFIX}{name}.png"


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
        axes.set_title(panel["title"], fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    _explain(figure, grid[: len(drawn)])
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


DRAWERS = {"bars": _bars, "lines": _lines, "scatter": _scatter, "curves": _curves, "spread": _spread}


def _title(results: Results, what: str) -> str:
    return f"{what}\nsize {results.setting.size}, {results.setting.machine}"


def _shares(results: Results) -> Points:
    size, bars = results.setting.size, []
    for system, counted in results.systems("operations").items():
        decoder = counted.row["decoder"] / (counted.row["encoder"] + counted.row["decoder"])
        bars.append((f"{label(system, size)}: operations", decoder))
    for unit in ("training", "inference"):
        for batch in results.batches(unit):
            for system, result in results.systems(unit, batch).items():
                bars.append((f"{label(system, size)}: {unit}, batch {batch}", result.decoder_share))
    return [
        {
            "kind": "bars",
            "title": _title(results, "Figure 1: shares"),
            "names": [name for name, _ in sorted(bars)],
            "encoder": [1 - share for _, share in sorted(bars)],
            "decoder": [share for _, share in sorted(bars)],
            "x": "share",
        }
    ]


def _stages(results: Results) -> Points:
    size, drawn = results.setting.size, []
    for batch in results.batches("inference"):
        found = results.systems("inference", batch)
        drawn.append(
            {
                "kind": "bars",
                "title": _title(results, f"Figure 2: ms a sample, batch {batch}"),
                "names": [label(system, size) for system in found],
                "encoder": [r.sample_ms("encoder_ms") for r in found.values()],
                "decoder": [r.sample_ms("decoder_ms") for r in found.values()],
                "x": "ms a sample",
            }
        )
    return drawn


def _every(results: Results) -> Points:
    drawn = []
    for batch in results.batches("every"):
        found = results.systems("every", batch)
        x = [int(system.rpartition("-")[2]) for system in found]
        y = [r.sample_ms("decoder_ms") for r in found.values()]
        drawn.append(
            {
                "kind": "lines",
                "title": _title(results, f"Figure 4: decoder, batch {batch}"),
                "lines": {"decoder": (x, y)},
                "x": f"K (the paper's: {facts.EVERY})",
                "y": "ms a sample",
            }
        )
    return drawn


def _sweeps(results: Results) -> Points:
    drawn: Points = []
    for prefix, what in (("passages-", "passages"), ("output-", "output tokens")):
        points = results.sweep(prefix)
        for batch in sorted({batch for batch, _ in points}):
            lines: dict[str, tuple[list[int], list[float]]] = {}
            for (b, n), systems in points.items():
                for system, result in systems.items() if b == batch else ():
                    x, y = lines.setdefault(label(system, results.setting.size), ([], []))
                    x.append(n)
                    y.append(result.sample_ms("total_ms"))
            title = _title(results, f"Figure 6: total, batch {batch}")
            drawn.append(
                {"kind": "lines", "title": title, "lines": lines, "x": what, "y": "ms a sample", "log": True}
            )
    return drawn


def _memory(results: Results) -> Points:
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for batch in results.batches("growth"):
        for system, result in results.systems("growth", batch).items():
            for kind in ("allocated", "predicted"):
                x, y = lines.setdefault(f"{system}, {kind}", ([], []))
                x.append(batch)
                y.append(result.row[f"{kind}_bytes"] / 1e6)
    if not lines:
        return []
    title = _title(results, "Table 1: memory against batch")
    return [{"kind": "lines", "title": title, "lines": lines, "x": "batch", "y": "MB beyond weights"}]


def _plan(results: Results) -> Points:
    points: dict[str, tuple[list[float], list[float]]] = {}
    for result in results.results:
        for stage in ("encoder_ms", "decoder_ms") if result.predicted else ():
            x, y = points.setdefault(stage.removesuffix("_ms"), ([], []))
            x.append(result.ms(stage))
            y.append(result.predicted[stage])
    if not points:
        return []
    title = _title(results, "Prediction and measurement")
    return [{"kind": "scatter", "title": title, "points": points, "x": "measured, ms", "y": "predicted, ms"}]
