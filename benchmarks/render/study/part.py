"""Markdown of the part: rules, verdicts, tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from study.variants import TABLES

from render.pictures import Points
from render.study.findings import ALPHAS, FINDINGS, Finding, Groups, lumen
from render.study.groups import BUDGETS, SETS, Group, grouped
from render.study.verdicts import RULES
from render.summaries import MEASURES, NOTHING, line, rule, spread

Rows = Sequence[Mapping[str, Any]]
NONE = "\N{EN DASH}"
TITLES = {
    "table-4": "FiDO's table 4: sparse cross-attention beside fewer vectors",
    "table-3": "FiDO's table 3: FiDO without each of its parts",
    "figure-5": "FiDO's figure 5 and table 7: larger decoders, and beams",
    "optimisers": "FiDO's appendix A: optimisers",
    "tuned": "The deciding pair with the encoder trained along",
    "lumen": "LUMEN: the live proportion",
    "lumen-conditioning": "LUMEN with a third live: who sees whom",
}
HEAD = """\
## What the papers say of quality

Small readers stand for the papers' large ones: an encoder of six layers, decoders of six where nothing \
else is said, {steps} steps of {questions} questions with the passage that holds the answer. The encoder \
is the bundled reader's. In studies of the decoder it is left as it is, so that what it makes of a \
question and a passage is computed once and shared by all; the decoder is drawn anew, able to copy, and \
learns by the losses that the bundled reader learnt by. For LUMEN, the bundled reader is split, and live \
layers, question encoder and decoder are trained. All readers of a table see the same questions in the \
same order. So findings are tested in their order and rough size. The papers' numbers are of other \
questions, retrieved passages, and readers of 250 million parameters and more.

```sh
python benchmarks/study.py TABLE --data DATA --corpus wiki.corpus --states states --steps {steps}
```

What has a row isn't trained again; `--seeds`, `--only` and `--steps` choose. The rows took {hours:.1f} \
hours of one core.

### How a verdict is drawn

{rules}"""


def part(rows: Rows, asked: Rows = ()) -> str:
    """All of it; without rows, that nothing was measured.

    Args:
        rows: of `benchmarks/study.py`.
        asked: of `benchmarks/quality.py`, the same questions with more and more passages.
    """
    if not rows:
        return f"## What the papers say of quality\n\n{NOTHING}"
    groups, last = grouped(rows), rows[-1]
    hours = sum(row["cpu_seconds"] + row["states_seconds"] for row in rows) / 3600
    head = HEAD.format(steps=last["steps"], questions=last["questions"], hours=hours, rules=RULES)
    blocks = [head, "### Verdicts", verdicts(groups)]
    if any(lumen(alpha) in groups for alpha in ALPHAS) or "fid" in groups:
        blocks.append("![Quality against time in the decoder, and against the live proportion](study.png)")
    for table, variants in TABLES.items():
        if found := {v.name: groups[v.name] for v in variants if v.name in groups}:
            blocks += [f"### {TITLES[table]}", _table(found), _about(found, table)]
    if asked:
        blocks += ["### Passages that are read", passages(asked)]
    return "\n\n".join(blocks)


def passages(asked: Rows) -> str:
    """Exact match of the bundled reader by passages retrieved, a line a set."""
    found = {(row["dataset"], row["passages"]): row for row in asked if row["context"] == "retrieved"}
    counts = sorted({n for _, n in found})
    names = list(dict.fromkeys(name for name, _ in found))
    lines = [line("EM (an answer is among the passages)", *map(str, counts)), rule(1 + len(counts))]
    for name in names:
        lines.append(line(name, *(_answered(found.get((name, n)), n) for n in counts)))
    last = asked[-1]
    about = f"The first {last['n']} questions of each set, where the reader has to answer; percent."
    return "\n".join([*lines, "", f"{about} `{last['command']}`"])


def _answered(row: Mapping[str, Any] | None, n: int) -> str:
    return "" if row is None else f"{row['forced_em']:.1f} ({row['recall'][str(n)]:.0f})"


def verdicts(groups: Groups) -> str:
    """A line a finding."""
    lines = [line("paper", "finding", "theirs", "ours (EM)", "verdict"), rule(5)]
    return "\n".join([*lines, *(_finding(finding, groups) for finding in FINDINGS)])


def _finding(finding: Finding, groups: Groups) -> str:
    if finding.judge is None:
        ours, word = NONE, f"not attempted: {finding.skipped}"
    else:
        found = finding.judge(groups)
        ours, word = found.ours, f"**{found.word}**"
    return line(finding.where, finding.claim, finding.theirs or NONE, ours, word)


def _table(found: Mapping[str, Group]) -> str:
    header = [f"{name}: {words}" for name in SETS for words in MEASURES.values()]
    names = ["reader", "seeds", *header, "first questions: EM after 1/4", "decoder ms, 1 passage",
             "20 passages", "decoder's GFLOPs, 20", "cross cache, MB, 20", "core minutes"]  # fmt: skip
    lines = [line(*names), rule(len(names))]
    for name, group in found.items():
        lines.append(line(f"`{name}`", str(len(group.rows)), *_cells(group)))
        lines += _with_beams(name, group, len(header))
    return "\n".join(lines)


def _cells(group: Group) -> Iterator[str]:
    seeds = len(group.rows) > 1
    for name in SETS:
        for measure in MEASURES:
            yield spread([row[name][measure] for row in group.rows.values()], seeds=seeds)
    early = group.on_the_way("1/4")
    yield spread(list(early.values()), seeds=seeds)
    yield from (f"{group.decoder_ms(passages):.1f}" for passages in ("1", "20"))
    flops = group.any["flops"]
    yield f"{sum(flops[stage] for stage in ('projection', 'decode', 'head')) / 1e9:.2f}"
    yield f"{group.any['cross_cache_bytes'] / 1e6:.1f}"
    yield f"{statistics.mean(row['cpu_seconds'] for row in group.rows.values()) / 60:.1f}"


def _with_beams(name: str, group: Group, columns: int) -> Iterator[str]:
    for width in group.any.get("beams", {}):
        points = [row["beams"][width] for row in group.rows.values()]
        cells = [
            spread([point[one][measure] for point in points], seeds=len(points) > 1)
            for one in SETS
            for measure in MEASURES
        ]
        ms = (f"{group.decoder_ms(passages, int(width)):.1f}" for passages in ("1", "20"))
        n = points[0][SETS[0]]["n"]
        yield line(
            f"`{name}`, {width} beams ({n} questions)", str(len(points)), *cells, NONE, *ms, NONE, NONE, NONE
        )


def _about(found: Mapping[str, Group], table: str) -> str:
    rows = [row for group in found.values() for row in group.rows.values()]
    last = rows[-1]
    revisions = ", ".join(dict.fromkeys(row["git"] for row in rows))
    return (
        f"Table `{table}`: mean over seeds, and from the least to the largest; {last['steps']} steps; "
        f"{last[SETS[0]]['n']} and {last[SETS[1]]['n']} questions; times are of one core, for answers of 8 "
        f"tokens, medians over seeds; FLOPs and caches by the cost model; "
        f"{last['hardware']['cpu']}, revision {revisions}."
    )


def panels(rows: Rows) -> Points:
    """Exact match against the decoder's time, and against the live proportion at each budget."""
    groups, drawn = grouped(rows), []
    decoders = {
        name: ([group.decoder_ms("20")], [statistics.mean(group.em().values())])
        for name, group in groups.items()
        if not name.startswith("lumen") and not name.endswith(("-hybrid", "-adafactor", "-tuned"))
    }
    if decoders:
        drawn.append({"kind": "dots", "title": "Decoders, 20 passages", "points": decoders,
                      "x": "ms a question in the decoder", "y": "EM, mean of both sets"})  # fmt: skip
    alphas = [alpha for alpha in ALPHAS if lumen(alpha) in groups]
    if alphas:
        lines = {
            f"{budget} of the steps": (
                [float(Fraction(alpha)) for alpha in alphas],
                [statistics.mean(groups[lumen(alpha)].on_the_way(budget).values()) for alpha in alphas],
            )
            for budget in BUDGETS
        }
        drawn.append({"kind": "lines", "title": "LUMEN, first questions", "lines": lines,
                      "x": "live proportion", "y": "EM, mean of both sets"})  # fmt: skip
    return drawn


PICTURES = {"study": (panels, "study.jsonl")}
"""How the plot is made, and of which rows."""
