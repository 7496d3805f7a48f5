"""Readers in 8 bits beside what the cost model says of them."""

from __future__ import annotations

from typing import Any

from fidkit.bench.outcome import predicted_again
from render.summaries import NOTHING, line, rule

WITHIN = 0.25
STAGES = ("encoder", "decoder")


def table(records: list[dict[str, Any]]) -> str:
    """The newest row of each reader, workload and number of threads: medians, and predictions made anew."""
    if not records:
        return NOTHING
    newest = {(row["threads"], row["workload"], row["subject"]): row for row in records}
    cells = ("threads", "questions x passages x tokens", "reader")
    lines = [line(*cells, *(f"{stage}{of}" for stage in STAGES for of in (" ms", ", predicted", ", off")))]
    lines.append(rule(len(cells) + 6))
    off: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for row in newest.values():
        shapes, predicted = row["shapes"], predicted_again(row)
        assert predicted is not None
        length = shapes["question_tokens"] + shapes["passage_tokens"]
        read = f"{shapes['questions']} x {shapes['passages']} x {length}"
        found = [str(row["threads"]), read, f"`{row['subject']}`"]
        for stage in STAGES:
            took, said = row[f"{stage}_ms"]["median"], predicted[f"{stage}_ms"]
            off[stage].append(said / took - 1)
            found += [f"{took:,.0f}", f"{said:,.0f}", f"{said / took - 1:+.0%}"]
        lines.append(line(*found))
    summed = ", ".join(_summed(stage, of_stage) for stage, of_stage in off.items())
    last = records[-1]
    about = f"{summed}. int8, medians of {_rounds(newest)} rounds; {last['hardware']['cpu']}."
    return "\n".join([*lines, "", f"{about} `{last['command'].split(' --')[0]}`"])


def _summed(stage: str, off: list[float]) -> str:
    near = sum(abs(each) <= WITHIN for each in off)
    return f"{stage}: {near} of {len(off)} within {WITHIN:.0%}, from {min(off):+.0%} to {max(off):+.0%}"


def _rounds(newest: dict[Any, dict[str, Any]]) -> str:
    counts = sorted({row["rounds"] for row in newest.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


TABLES = {"predictions-int8": (table, "predictions-int8.jsonl")}
