"""Tables and plots of docs/upcycling.md: conversions, and what a little training gives back."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from upcycling import RATE, TEMPERATURE, UPCYCLED

from render.summaries import MEASURES, NOTHING, datasets, line, rule, spread

Rows = Sequence[dict[str, Any]]

WAYS = {
    "uptrained": "uptraining",
    "distilled": "distillation",
    "continued": "the original, trained on as long",
}
REPAIRS = ("uptrained", "distilled")
GOAL = 95
"""Per cent of the original's F1 that should be back ..."""
FROM = 10
"""... after this share of its steps, per cent."""
USUAL = (UPCYCLED.every, UPCYCLED.kv_heads, UPCYCLED.kv_heads_from)
"""K and key/value heads of readers that need no more words, and how these were merged."""
SHAPE = ("every", "kv_heads", "origin", "kv_heads_from")


def conversions(rows: Rows) -> str:
    """Readers just converted, beside the original."""
    of_shape = {tuple(row[key] for key in SHAPE): row for row in _of(rows, "converted")}
    if not of_shape:
        return NOTHING
    names = datasets(rows)
    header = [f"{name}: {words}" for name in names for words in MEASURES.values()]
    lines = [line("cross-attention", "key/value heads", *header), rule(2 + len(header))]
    for (every, heads, origin, heads_from), row in of_shape.items():
        layers = f"last layer of {every}, {origin}" if every > 1 else "every layer"
        merged = "all" if heads is None else f"{heads}, {heads_from}"
        cells = [spread([row[name][measure]], seeds=False) for name in names for measure in MEASURES]
        lines.append(line(layers, merged, *cells))
    return "\n".join([*lines, "", _about(rows, of_shape.values())])


def repairs(rows: Rows) -> str:
    """Quality by way and share of steps: mean over seeds, and from the least to the largest."""
    trained = [row for row in rows if row["way"] in WAYS]
    if not trained:
        return NOTHING
    names, original = datasets(rows), _original(rows)
    header = [f"{name}: {words}" for name in names for words in (*MEASURES.values(), "of the original's F1")]
    lines = [line("the reader", "steps", *header), rule(2 + len(header))]
    lines.append(line("the original", "\N{EN DASH}", *_cells([original], original, names)))
    for shape, start in _starts(rows).items():
        lines.append(line(f"just converted{shape}", "0", *_cells([start], original, names)))
    for (label, percent), group in _groups(trained).items():
        steps = f"{percent} % ({group[0]['steps']})"
        lines.append(line(label, steps, *_cells(group, original, names)))
    counts = {len(group) for group in _groups(trained).values()}
    seeds = f"{min(counts)} to {max(counts)} seeds a line" if len(counts) > 1 else f"{max(counts)} seeds"
    minutes = sum(row["cpu_seconds"] for row in trained) / 60
    about = (
        f"{seeds}; {_per_step(trained[-1])}; {minutes:.0f} minutes of one CPU core in all. "
        f"{_about(rows, trained)}"
    )
    return "\n".join(
        [*lines, "", *_verdicts(rows), "", about, "", "![What training gives back](upcycling.png)"]
    )


def _per_step(row: dict[str, Any]) -> str:
    return f"{row['questions']} questions of {row['passages']} passages a step"


def _verdicts(rows: Rows) -> list[str]:
    """Whether enough is back, by way and share of steps, the smallest shares aside."""
    names, original, said = datasets(rows), _original(rows), []
    for (label, percent), group in _groups([row for row in rows if row["way"] in REPAIRS]).items():
        shares = {name: _share(group, original, name) for name in names}
        verdict = "Holds" if min(shares.values()) >= GOAL else "Does not hold"
        found = ", ".join(f"{share:.0f} % on {name}" for name, share in shares.items())
        if percent >= FROM:
            said.append(
                f"- {verdict}: {label} with {percent} % of the steps brings back {GOAL} % of F1 ({found})."
            )
    return said


def _cells(group: Rows, original: dict[str, Any], names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        cells += [spread([row[name][m] for row in group], seeds=len(group) > 1) for m in MEASURES]
        cells.append(f"{_share(group, original, name):.0f} %")
    return cells


def _share(group: Rows, original: dict[str, Any], name: str) -> float:
    """Of the original's F1, per cent."""
    mean = statistics.mean(row[name]["f1"] for row in group)
    return float(100 * mean / original[name]["f1"])


def panels(rows: Rows) -> list[dict[str, Any]]:
    """A panel a measure and dataset: against the share of steps, with the original as a line."""
    groups = _groups([row for row in rows if row["way"] in WAYS])
    if not groups:
        return []
    return [
        {
            "kind": "spread",
            "title": name,
            "level": ("the original", _original(rows)[name][measure]),
            "lines": _lines(rows, groups, name, measure),
            "x": "steps, % of the original's",
            "y": words,
        }
        for measure, words in MEASURES.items()
        for name in datasets(rows)
    ]


def _lines(
    rows: Rows, groups: dict[tuple[str, int], Rows], name: str, measure: str
) -> dict[str, list[tuple[int, list[float]]]]:
    """By way: share of steps, and a value a seed."""
    lines: dict[str, list[tuple[int, list[float]]]] = {}
    for (label, percent), group in groups.items():
        points = lines.setdefault(label, [(0, [_start(rows, group[0])[name][measure]])])
        points.append((percent, [row[name][measure] for row in group]))
    return lines


def _groups(trained: Rows) -> dict[tuple[str, int], Rows]:
    """Rows by way, shape and rate in words, and share; the ways in the order of `WAYS`."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in sorted(trained, key=lambda row: (list(WAYS).index(row["way"]), _how(row), row["percent"])):
        groups.setdefault((f"{WAYS[row['way']]}{_how(row)}", row["percent"]), []).append(row)
    return dict(groups)


def _how(row: dict[str, Any]) -> str:
    """Shape, rate and temperature in words, where they are not the usual ones."""
    rate = "" if row["rate"] == RATE else f", rate {row['rate']:g}"
    usual = row["temperature"] in (None, TEMPERATURE)
    return _shape(row) + rate + ("" if usual else f", temperature {row['temperature']:g}")


def _shape(row: dict[str, Any]) -> str:
    """In words, where it is not the usual one or the original's."""
    if row["way"] == "continued" or (row["every"], row["kv_heads"], row["kv_heads_from"]) == USUAL:
        return ""
    merged = ", by their mean" if row["kv_heads"] and row["kv_heads_from"] == "mean" else ""
    return f" (K = {row['every']}, {row['kv_heads'] or 'all'} key/value heads{merged})"


def _of(rows: Rows, way: str) -> Rows:
    return [row for row in rows if row["way"] == way]


def _original(rows: Rows) -> dict[str, Any]:
    return next(row for row in _of(rows, "converted") if (row["every"], row["kv_heads"]) == (1, None))


def _starts(rows: Rows) -> dict[str, dict[str, Any]]:
    """What was repaired, before any training, by its shape in words."""
    repaired = sorted((row for row in rows if row["way"] in REPAIRS), key=_shape)
    return {_shape(row): _start(rows, row) for row in repaired}


def _start(rows: Rows, trained: dict[str, Any]) -> dict[str, Any]:
    """The same shape before any training."""
    return next(row for row in _of(rows, "converted") if all(row[key] == trained[key] for key in SHAPE))


def _about(rows: Rows, of: Any) -> str:
    last = list(of)[-1]
    counts = ", ".join(f"{last[name]['n']} of {name}" for name in datasets(rows))
    return f"Questions: {counts}; {last['hardware']['cpu']}. `{last['command']}`"


TABLES = {
    "conversions": (conversions, "upcycling.jsonl"),
    "repairs": (repairs, "upcycling.jsonl"),
}
PICTURES = {"upcycling": (panels, "upcycling.jsonl")}
"""How each plot is made, by its name, and of which rows."""
