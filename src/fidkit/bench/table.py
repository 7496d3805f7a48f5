"""Rows as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fidkit.wording import counted

STAGES = ("encoder", "decoder", "step", "total")
NOTHING = "\N{EN DASH}"
Record = Mapping[str, Any]
"""A row as `fidkit.bench.outcome` makes it."""


def make_table(rows: Sequence[Record], against: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of cells, a line for each subject and stage.

    Args:
        rows: of one run.
        against: the subject that others are compared with.
    """
    header = ["subject", "stage", "ms", "min", "max", f"x {against}", "predicted", "ceiling", "of ceiling"]
    header.append("error")
    lines = []
    for row in rows:
        name = row["subject"]
        for stage in STAGES:
            lines.append([name, stage, *_cells(row, f"{stage}_ms", against)])
            name = ""
    return header, lines


def make_title(rows: Sequence[Record]) -> str:
    """What all subjects did, and on what: two lines."""
    row = rows[0]
    shapes, hardware = row["shapes"], row["hardware"]
    questions, passages = shapes["questions"], shapes["passages"]
    mean = shapes["row_tokens"] / (questions * passages)
    dtypes = ", ".join(dict.fromkeys(of_subject["dtype"] for of_subject in rows))
    rates = ", ".join(f"{dtype} {rate:,.2f}" for dtype, rate in hardware["matrix_tflops"].items())
    return (
        f"{counted(questions, 'question')} x {counted(passages, 'passage')} of {mean:,.0f} tokens, question "
        f"included; {shapes['output_tokens']} output tokens; {dtypes}; medians of "
        f"{counted(row['total_ms']['n'], 'round')}\n"
        f"{hardware['device']}: {rates} TFLOP/s, {hardware['bandwidth_gbs']:,.1f} GB/s"
    )


def make_notes(rows: Sequence[Record]) -> Iterator[str]:
    """What the table doesn't say: subjects that took long to get ready, and the choices they made."""
    for row in rows:
        if row["config"].get("compiled"):
            yield (
                f"{row['subject']}: {row['warm_up_ms'] / 1000:,.0f} s to compile and warm up; "
                f"fastest decoder here: {row['config']['decoder']}"
            )


def milliseconds(ms: float) -> str:
    """Three digits or more."""
    if abs(ms) >= 100:
        return f"{ms:,.0f}"
    return f"{ms:.1f}" if abs(ms) >= 10 else f"{ms:.2f}"


def _cells(row: Record, stage: str, against: str) -> list[str]:
    measured = row[stage]
    return [
        *(_of(measured, key, milliseconds) for key in ("median", "min", "max")),
        _of(row["faster_than"].get(against), stage, lambda ratio: f"{ratio:.2f}"),
        _of(row["predicted"], stage, milliseconds),
        _of(row["ceiling"], stage, milliseconds),
        _of(row["fraction"], stage, lambda share: f"{share:.0%}"),
        _error(row) if stage == "encoder_ms" else "",
    ]


def _error(row: Record) -> str:
    error = row.get("encoder_error")  # rows of earlier versions have none
    return NOTHING if error is None else f"{error:.2g}"


def _of(values: Mapping[str, float | None] | None, name: str, show: Callable[[float], str]) -> str:
    value = None if values is None else values[name]
    return NOTHING if value is None else show(value)
