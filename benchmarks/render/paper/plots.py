"""Plots of docs/reproduce.md: what each shows of an experiment's results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from paper import facts

from render.paper.page import PREFIX
from render.paper.results import Results
from render.paper.words import label
from render.pictures import Points


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


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{PREFIX}{name}.png"


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
        predicted = result.predicted or {}
        for stage in ("encoder_ms", "decoder_ms") if predicted else ():
            x, y = points.setdefault(stage.removesuffix("_ms"), ([], []))
            x.append(result.ms(stage))
            y.append(predicted[stage])
    if not points:
        return []
    title = _title(results, "Prediction and measurement")
    return [{"kind": "scatter", "title": title, "points": points, "x": "measured, ms", "y": "predicted, ms"}]
