"""Markdown of the part: rules, verdicts, tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from study.variants import REVISIONS, SHIPPED, START, TABLES

from fidkit import assets, checkpoint
from fidkit.checkpoint.shared import sha256
from render.pictures import Points
from render.study import shipped, tables
from render.study.findings import ALPHAS, FINDINGS, Finding, Groups, lumen
from render.study.groups import BUDGETS, Group, grouped, repeated
from render.study.titles import NOTES, TITLES
from render.study.verdicts import RULES
from render.summaries import NONE, NOTHING, line, rule

Rows = Sequence[Mapping[str, Any]]
Repeated = Mapping[str, tuple[Group, Group]]
"""By reader, its first rows and its newest."""
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

All tables but that of transfer decide by squad and newwiki. Later rows are judged by some questions of nq, \
webq and triviaqa, too. Annotators marked most passages of nq; the others were found by search and hold an \
answer.

```sh
{start}
```

What has a row isn't trained again, and rows of another start count as none; `--seeds`, `--only` and \
`--steps` choose. The rows took {hours:.1f} hours of one core. They were made on two kinds of processor: \
times of rows whose revisions differ say little beside each other.

### How a verdict is drawn

{rules}"""


def part(rows: Rows, asked: Rows = ()) -> str:
    """All of it; without a row of a training, that nothing was measured.

    Args:
        rows: of `benchmarks/study.py`.
        asked: of `benchmarks/quality.py`, the same questions with more and more passages.
    """
    if not any(row["steps"] for row in rows):
        return f"## What the papers say of quality\n\n{NOTHING}"
    groups = grouped(rows)
    *_, last = (row for group in groups.values() for row in group.rows.values() if row["steps"])
    hours = sum(row["cpu_seconds"] + row["states_seconds"] for row in rows) / 3600
    head = HEAD.format(
        steps=last["steps"], questions=last["questions"], hours=hours, rules=RULES, start=_commands(last)
    )
    blocks = [head, "### Verdicts", verdicts(groups)]
    if any(lumen(alpha) in groups for alpha in ALPHAS) or "fid" in groups:
        blocks.append("![Quality against time in the decoder, and against the live proportion](study.png)")
    again = repeated(rows)
    blocks += [_section(table, groups, again) for table in TITLES]
    if asked:
        blocks += ["### Passages that are read", passages(asked)]
    return "\n\n".join(blocks)


def _commands(row: Mapping[str, Any]) -> str:
    """How rows like this one are made: where another reader comes along by now, from the one of then."""
    command = (
        "python benchmarks/study.py TABLE --data DATA --corpus wiki.corpus --states states "
        f"--steps {row['steps']}"
    )
    weights, now = row.get("weights"), assets.reader(START) / checkpoint.WEIGHTS
    if weights is None or sha256(now).startswith(weights):
        return command
    if weights not in REVISIONS:
        return f"{command} --start READER  # of weights whose SHA-256 begins with {weights}"
    path = f"src/fidkit/assets/readers/{START}"
    return "\n".join([
        f"mkdir start && git archive {REVISIONS[weights]} {path} | tar -x -C start",
        f"{command} --start start/{path}",
    ])  # fmt: skip


def _section(table: str, groups: Groups, again: Repeated) -> str:
    """A table with its title, and what has to be known; without rows, how they are made."""
    names = [one.name for one in (TABLES[table] if table in TABLES else SHIPPED[table])]
    found = {name: groups[name] for name in names if name in groups}
    blocks = [f"### {TITLES[table]}", *([NOTES[table]] if table in NOTES else [])]
    if not found:
        blocks.append(f"{NOTHING} `python benchmarks/study.py {table} --data DATA --corpus wiki.corpus`")
    elif table in TABLES:
        blocks.append(tables.trained(found, table))
    else:
        blocks.append(shipped.TABLES[table](found))
    if all(name in again for name in names):
        blocks.append(_repeated({name: again[name] for name in names}))
    return "\n\n".join(blocks)


def _repeated(twice: Repeated) -> str:
    """How far a table that was run again is from what it was."""
    seeds = [(one.em()[seed], other.em()[seed]) for one, other in twice.values() for seed in one.rows]
    widest = max(max(one.em().values()) - min(one.em().values()) for one, _ in twice.values())
    furthest = max(abs(a - b) for a, b in seeds)
    row = next(iter(twice.values()))[1].any
    return (
        f"All {len(seeds)} readers were trained once more (`{row['command']}`): exact match of a seed "
        f"differs by {furthest:.1f} points at most, where seeds of a reader differ by up to {widest:.1f}."
    )


def passages(asked: Rows) -> str:
    """Exact match of the bundled reader by passages retrieved, a line a set."""
    found = {(row["dataset"], row["passages"]): row for row in asked if row["context"] == "retrieved"}
    counts = sorted({n for _, n in found})
    names = list(dict.fromkeys(name for name, _ in found))
    lines = [line("EM (an answer is among the passages)", *map(str, counts)), rule(1 + len(counts))]
    for name in names:
        lines.append(line(name, *(_answered(found.get((name, n)), n) for n in counts)))
    last = asked[-1]
    about = (
        f"The first {last['n']} questions of each set, where the reader has to answer; percent. "
        "It learnt with up to 20 passages."
    )
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


def _names(*tables: str) -> set[str]:
    return {variant.name for table in tables for variant in TABLES[table]}


def panels(rows: Rows) -> Points:
    """Exact match against the decoder's time, and against the live proportion at each budget."""
    groups, drawn = grouped(rows), []
    for title, names in DRAWN.items():
        decoders = {
            name: (group.decoder_ms("20"), list(group.em().values()))
            for name, group in groups.items()
            if name in names
        }
        if decoders:
            drawn.append({"kind": "dots", "title": title, "points": decoders,
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


DRAWN = {
    "What a decoder reads of 20 passages (table 4)": _names("table-4"),
    "How large it is (table 3, figure 5)": _names("table-3", "figure-5"),
}
"""Readers that differ in their decoders alone, by what is drawn of them."""
PICTURES = {"study": (panels, "study.jsonl")}
"""How the plot is made, and of which rows."""
