"""Vectors and memory in one pass; late interaction over stored memory."""

from __future__ import annotations

import statistics
from typing import Any

from render.retrieval import by_depth
from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
FORMS = {"together": "one text", "apart": "title and text apart"}


def speed(records: Rows) -> str:
    """Median seconds of one pass and of two, by the newest row."""
    measured = [row for row in records if row["of"] == "speed"]
    if not measured:
        return NOTHING
    last = measured[-1]
    alike = last["cosines"]
    one, two = statistics.median(last["one_s"]), statistics.median(last["two_s"])
    return (
        f"{last['passages']:,} passages take {one:.1f} s in one pass and {two:.1f} s in two, "
        f"{100 * (1 - one / two):.0f} % less (medians of {len(last['one_s'])} rounds in turns, "
        f"{last['hardware']['cpu']}, threads: {last['threads']}). Vectors of {alike['n']} passages have "
        f"a cosine of {alike['least']:.4f} or more with those that are made by themselves, "
        f"{alike['median']:.4f} in the median. `{last['command']}`"
    )


def recall(records: Rows, of: str = "recall") -> str:
    """Recall by meaning of both forms of a passage, the newest row of each set."""
    return by_depth(records, of, FORMS, ", by meaning alone")


def far(records: Rows) -> str:
    """The same where passages apart begin behind the questions' positions, before they began at 0."""
    return recall(records, "recall-far")


def late(records: Rows) -> str:
    """Recall of what is found and of the same reranked, the newest row of each set; and what it costs."""
    newest = {row["set"]: row for row in records if row["of"] == "recall"}
    costs = [row for row in records if row["of"] == "cost"]
    if not newest or not costs:
        return NOTHING
    last, cost = next(reversed(newest.values())), costs[-1]
    ways = list(last["recall"])
    lines = [line("", *newest), rule(1 + len(newest))]
    for way in ways:
        found = ("/".join(f"{value:.0f}" for value in row["recall"][way].values()) for row in newest.values())
        lines.append(line(way, *found))
    trained = cost["trained"]
    about = (
        f"Recall at {', '.join(last['recall'][ways[0]])} of {last['passages']:,} passages, {last['n']} "
        f"questions a set; late 1.0 is by late interaction alone, 0.5 half by it. {trained['examples']:,} "
        f"training questions, {trained['steps']:,} steps, {trained['train_s']:.0f} s. "
        f"A question takes {cost['question_ms']:.1f} ms to encode and {cost['score_ms']:.1f} ms to score 50 "
        f"passages, a passage {cost['bytes_a_passage']:,.0f} bytes. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


TABLES = {
    "one-pass-speed": (speed, "one-pass.jsonl"),
    "one-pass-recall": (recall, "one-pass.jsonl"),
    "one-pass-far": (far, "one-pass.jsonl"),
    "late-interaction": (late, "late-interaction.jsonl"),
}
