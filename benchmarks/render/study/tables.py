"""Tables of readers that were trained: a line a reader."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from study.variants import OTHERS, SETS

from fidkit.wording import counted
from render.study.groups import BUDGETS, Group
from render.summaries import MEASURES, NONE, line, rule, spread

BY_BUDGET = (
    "lumen",
    "lumen-longer",
    "lumen-codes",
    "lumen-conditioning",
    "memory-shape",
    "transfer",
    "moments",
)
"""Tables in which it matters after how much training readers are judged."""


def trained(found: Mapping[str, Group], table: str) -> str:
    """The table with what it is of.

    Args:
        found: readers by name; the same sets decide between all of them.
        table: its name.
    """
    budgets = BUDGETS if table in BY_BUDGET else BUDGETS[:1]
    decides = next(iter(found.values())).decides
    others = [name for name in (*SETS, *OTHERS) if name not in decides]
    header = [f"{name}: {words}" for name in decides for words in MEASURES.values()]
    names = ["reader", "seeds", *header, *(f"{name}: EM / F1 / nats" for name in others),
             *(f"first questions: EM after {budget}" for budget in budgets), "decoder ms, 1 passage",
             "20 passages", "decoder's GFLOPs, 20", "cross cache, MB, 20", "core minutes"]  # fmt: skip
    lines = [line(*names), rule(len(names))]
    for name, group in found.items():
        cells = [*_scores(group), *(_other(group, one) for one in others), *_costs(group, budgets)]
        lines.append(line(f"`{name}`", str(len(group.rows)), *cells))
        lines += _with_beams(name, group, len(others) + len(budgets))
    return "\n".join([*lines, "", _about(found, table)])


def _scores(group: Group) -> Iterator[str]:
    for name in group.decides:
        for measure in MEASURES:
            yield spread([row[name][measure] for row in group.rows.values()], seeds=len(group.rows) > 1)


def _other(group: Group, name: str) -> str:
    """Means over seeds; rows that were made before this set was asked have none."""
    points = [row[name] for row in group.rows.values() if name in row]
    if not points:
        return NONE
    em, f1, nats = (statistics.mean(point[measure] for point in points) for measure in MEASURES)
    fewer = "" if len(points) == len(group.rows) else f" ({counted(len(points), 'seed')})"
    return f"{em:.1f} / {f1:.1f} / {nats:.2f}{fewer}"


def _costs(group: Group, budgets: tuple[str, ...]) -> Iterator[str]:
    for budget in budgets:
        yield spread(list(group.on_the_way(budget).values()), seeds=len(group.rows) > 1)
    yield from (f"{group.decoder_ms(passages):.1f}" for passages in ("1", "20"))
    flops = group.any["flops"]
    yield f"{sum(flops[stage] for stage in ('projection', 'decode', 'head')) / 1e9:.2f}"
    yield f"{group.any['cross_cache_bytes'] / 1e6:.1f}"
    yield f"{statistics.mean(row['cpu_seconds'] for row in group.rows.values()) / 60:.1f}"


def _with_beams(name: str, group: Group, empty: int) -> Iterator[str]:
    for width in group.any.get("beams", {}):
        points = [row["beams"][width] for row in group.rows.values()]
        cells = [
            spread([point[one][measure] for point in points], seeds=len(points) > 1)
            for one in group.decides
            for measure in MEASURES
        ]
        ms = (f"{group.decoder_ms(passages, int(width)):.1f}" for passages in ("1", "20"))
        n = points[0][group.decides[0]]["n"]
        label = f"`{name}`, {width} beams ({n} questions)"
        yield line(label, str(len(points)), *cells, *[NONE] * empty, *ms, NONE, NONE, NONE)


def _about(found: Mapping[str, Group], table: str) -> str:
    rows = [row for group in found.values() for row in group.rows.values()]
    last, decides = rows[-1], next(iter(found.values())).decides
    revisions = ", ".join(dict.fromkeys(row["git"] for row in rows))
    counts = ", ".join(f"{last[name]['n']} of {name}" for name in (*decides, *OTHERS) if name in last)
    return (
        f"Table `{table}`: mean over seeds, and from the least to the largest; {last['steps']} steps; "
        f"questions: {counts}; times are of one core, for answers of 8 tokens, medians over seeds; FLOPs and "
        f"caches by the cost model; {last['hardware']['cpu']}, revision {revisions}."
    )
