"""Questions a second, many at a time."""

from __future__ import annotations

import itertools
from typing import Any

from render.summaries import NOTHING, line, rule, subject

Rows = list[dict[str, Any]]


def answers(records: Rows) -> str:
    """The bundled reader from text to evidence, by the newest rows of each way and number of questions."""
    return _table([row for row in records if row["of"] == "answers"])


def readers(records: Rows) -> str:
    """Readers and peers from tokens to tokens; a table for each preset."""
    chosen = [row for row in records if row["of"] == "readers"]
    chosen.sort(key=lambda row: str(row["preset"]))
    tables = [_table(list(run)) for _, run in itertools.groupby(chosen, key=lambda row: row["preset"])]
    return "\n\n".join(tables) or NOTHING


def _table(records: Rows) -> str:
    if not records:
        return NOTHING
    newest = {(row["subject"], row["way"], row["questions"]): row for row in records}
    counts = sorted({row["questions"] for row in records})
    lines = [line("", "way", *(f"{count} questions, a second" for count in counts)), rule(2 + len(counts))]
    for name, way in dict.fromkeys((row["subject"], row["way"]) for row in records):
        found = [newest.get((name, way, count)) for count in counts]
        lines.append(line(subject(name), way, *(f"{row['a_second']:.2f}" if row else "" for row in found)))
    last, rounds = records[-1], sorted({row["rounds"] for row in newest.values()})
    counted = " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
    about = (
        f"{_read(last)}; {last['precision']}, {last['threads']} threads of {last['hardware']['cpu']}, "
        f"medians of {counted} rounds. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def _read(row: dict[str, Any]) -> str:
    shapes = row.get("shapes")
    if shapes is None:
        return f"{row['passages']} passages of {row['characters']:.0f} characters on average"
    length = shapes["question_tokens"] + shapes["passage_tokens"]
    return (
        f"{shapes['passages']} passages of {length} tokens, each with its question; "
        f"{shapes['output_tokens']} output tokens"
    )


TABLES = {
    "throughput-answers": (answers, "throughput.jsonl"),
    "throughput-readers": (readers, "throughput.jsonl"),
}
