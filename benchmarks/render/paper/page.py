"""docs/reproduce.md: every table and figure with its command, our numbers, the paper's, and a status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paper.record import Row

from fidkit.bench.rows import read
from render.paper.results import Results, gather
from render.paper.sections import sections

PREFIX = "paper-"

HEAD = """# What the papers say, measured here

Each table and figure of the FiDO paper (arXiv 2212.08153) that is about time or memory, with the command \
that measures it here; behind them, [what the papers say of quality](#what-the-papers-say-of-quality), FiDO \
and LUMEN (arXiv 2301.10448). `python benchmarks/render.py` makes this page and its plots of the rows in \
`benchmarks/results`. No number is typed in but the paper's own, which stand in `benchmarks/paper/facts.py`.

The paper's numbers are of T5 v1.1 base and XL on TPU v4, with 40 passages of 256 tokens and 32 output \
tokens. Ours have the same shapes. Size `base` has the paper's sizes. Size `small` takes T5 small for base \
and T5 large for XL: its numbers can be compared with the paper's in their order only. Weights are random, \
since they do not change the time. Times are milliseconds a sample, medians of interleaved rounds in one \
process, in bfloat16 unless a table says otherwise. A decoder's time includes the projection of \
cross-attention keys and values.

A command stops before `--limit-minutes` (9 by default) and goes on when it is called again. To measure \
anew, remove its rows. The commands for a GPU are in `benchmarks/gpu.md`.
"""


def load(folder: Path, name: str) -> list[Results]:
    """What was measured of an experiment."""
    return gather(read(folder / f"{PREFIX}{name}.jsonl"))


def status(measured: Sequence[Results]) -> str:
    """In one line, honestly."""
    if not measured:
        return "Status: not measured."
    where = ", ".join(dict.fromkeys(f"size {r.setting.size} on {r.setting.machine}" for r in measured))
    on_gpu = any(r.setting.device == "cuda" and r.setting.size == "base" for r in measured)
    return f"Status: measured at {where}" + ("." if on_gpu else "; waits for a GPU at the paper's sizes.")


def command(name: str) -> str:
    """What measures it on a CPU."""
    return f"python benchmarks/paper.py {name} --size base"


def render(folder: Path, quality: Sequence[Row] = ()) -> str:
    """The whole page, of the rows in `folder`."""
    parts = [HEAD]
    for section in sections(exact_match(quality)):
        measured = load(folder, section.name)
        parts += [f"## {section.title}", section.text, f"```sh\n{command(section.name)}\n```"]
        parts.append(status(measured))
        if section.plot and measured:
            parts.append(f"![{section.title}]({PREFIX}{section.name}.png)")
        parts += [block for results in measured for block in section.blocks(results) if block]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def exact_match(quality: Sequence[Row]) -> dict[str, float]:
    """Of the reader that was measured last, by precision."""
    if not quality:
        return {}
    current = [row for row in quality if row["fingerprint"] == quality[-1]["fingerprint"]]
    return {row["precision"]: row["em"] for row in current if row["setting"] == "squad/gold"}
