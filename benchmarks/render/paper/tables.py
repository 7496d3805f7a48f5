"""Results as tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paper import facts

from render.paper.results import Result, Results, Systems
from render.paper.words import label

Paper = Mapping[str, tuple[float | None, float | None]]
"""The paper's total and decoder, in milliseconds a sample."""
NOTHING = "\N{EN DASH}"


def grid(header: Sequence[str], lines: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table; the first columns are text, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def number(value: float | None) -> str:
    """A whole number as it is, another with three digits or more; a dash where there is none."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def times(found: Systems, size: str, paper: Paper) -> str:
    """Milliseconds a sample, by stage; the paper's beside them."""
    header = ["system", "encoder", "decoder", "a token", "total", "min", "max", "decoder's share"]
    lines = []
    for system, result in found.items():
        totals = [ms / result.batch for ms in result.repeats["total_ms"]]
        of_paper = paper.get(system, (None, None))
        lines.append(
            [
                label(system, size),
                number(result.sample_ms("encoder_ms")),
                number(result.sample_ms("decoder_ms")),
                number(result.step_ms),
                number(result.sample_ms("total_ms")),
                number(min(totals)),
                number(max(totals)),
                f"{result.decoder_share:.0%}",
                *(map(number, reversed(of_paper)) if paper else ()),
            ]
        )
    return grid([*header, *(("paper: decoder", "paper: total") if paper else ())], lines)


def rates(found: Systems, size: str, paper: Mapping[str, float]) -> str:
    """Training samples a second."""
    header = ["system", "samples a second", "encoder ms", "decoder ms", "update ms"]
    lines = [
        [
            label(system, size),
            number(1000 / result.sample_ms("total_ms")),
            *(number(result.sample_ms(stage)) for stage in ("encoder_ms", "decoder_ms", "update_ms")),
            *([number(paper.get(system))] if paper else []),
        ]
        for system, result in found.items()
    ]
    return grid([*header, *(["paper: samples a second and chip"] if paper else [])], lines)


def operations(found: Systems, size: str) -> str:
    """Shares of the decoder, by the exact count and by the paper's."""
    lines = []
    for system, result in found.items():
        row = result.row
        exact = row["decoder"] / (row["encoder"] + row["decoder"])
        paper = row["paper_decoder"] / (row["paper_encoder"] + row["paper_decoder"])
        lines.append([label(system, size), f"{exact:.1%}", f"{paper:.1%}"])
    return grid(["system", "decoder's share of FLOPs", "by the paper's formulas"], lines)


def sweep(points: Mapping[int, Systems], size: str, of: str) -> str:
    """Total milliseconds a sample, a column a system."""
    names = list(dict.fromkeys(name for systems in points.values() for name in systems))
    lines = [
        [str(n), *(number(s[name].sample_ms("total_ms")) if name in s else NOTHING for name in names)]
        for n, s in points.items()
    ]
    return grid([of, *(label(name, size) for name in names)], lines, texts=0)


def budgets(found: Systems, size: str) -> str:
    """The largest batch by the cost model."""
    memories = next(iter(found.values())).row["largest_batch"]
    header = ["system", *(f"{name}: {of['memory_gb']:g} GB" for name, of in memories.items()), "paper: TPUv4"]
    lines = [
        [
            label(system, size),
            *(f"{of['batch']:,}" for of in result.row["largest_batch"].values()),
            number(facts.LARGEST_BATCH.get(system)),
        ]
        for system, result in found.items()
    ]
    return grid(header, lines)


def limits(found: Systems, size: str) -> str:
    """The largest batch that a device took."""
    lines = [
        [
            label(system, size),
            number(r.row["memory_gb"]),
            f"{r.row['measured_batch']:,}",
            f"{r.row['predicted_batch']:,}",
            number(facts.LARGEST_BATCH.get(system)),
        ]
        for system, r in found.items()
    ]
    return grid(["system", "GB", "largest batch", "by the cost model", "paper: TPUv4"], lines)


def allocations(by_batch: Mapping[int, Systems], size: str) -> str:
    """Megabytes beyond the weights, measured and by the cost model."""
    names = list(dict.fromkeys(name for systems in by_batch.values() for name in systems))
    lines = [
        [str(batch), *(_allocation(systems.get(name)) for name in names)]
        for batch, systems in by_batch.items()
    ]
    return grid(["batch", *(label(name, size) for name in names)], lines, texts=0)


def _allocation(result: Result | None) -> str:
    if result is None:
        return NOTHING
    sizes = (result.row[name] / 1e6 for name in ("allocated_bytes", "predicted_bytes"))
    return " / ".join(f"{size:,.0f}" for size in sizes)


def predictions(results: Results) -> str:
    """Measured and predicted milliseconds of a batch."""
    header = ["workload", "system", "encoder", "predicted", "off", "decoder", "predicted", "off"]
    lines = []
    for result in results.results:
        predicted = result.predicted
        if predicted:
            cells = [result.row["unit"], result.row["system"]]
            for stage in ("encoder_ms", "decoder_ms"):
                off = predicted[stage] / result.ms(stage) - 1
                cells += [number(result.ms(stage)), number(predicted[stage]), f"{off:+.0%}"]
            lines.append(cells)
    return grid(header, lines, texts=2)


def precisions(found: Systems, quality: Mapping[str, float]) -> str:
    """Time, memory and, where it was measured, exact match of each precision."""
    header = ["precision", "encoder", "decoder", "a token", "total", "memory, MB", "EM of the bundled reader"]
    lines = []
    for result in found.values():
        row: dict[str, Any] = result.row
        memory = row["work"]["memory_bytes"] / 1e6 if row.get("work") else None
        lines.append(
            [
                row["precision"],
                number(result.sample_ms("encoder_ms")),
                number(result.sample_ms("decoder_ms")),
                number(result.step_ms),
                number(result.sample_ms("total_ms")),
                number(memory),
                number(quality.get(row["precision"])),
            ]
        )
    return grid(header, lines)
