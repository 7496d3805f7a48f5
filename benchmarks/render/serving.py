"""A server under load, in overload, and at its start."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
WAYS = {"batched": "", "alone": ", each question alone"}


def load(records: Rows) -> str:
    """What clients got, a line a number of them; the newest row of each."""
    rows = {(row["way"], row["clients"]): row for row in records if row["of"] == "load"}
    if not rows:
        return NOTHING
    heads = (
        "clients",
        "questions a second",
        "median ms",
        "95 %",
        "99 %",
        "of it HTTP, median",
        "wrong",
        "errors",
    )
    lines = [line(*heads), rule(len(heads))]
    for (way, clients), row in rows.items():
        times = [f"{row['ms'][of]:,.0f}" for of in ("median", "p95", "p99")]
        errors = sum(count for status, count in row["statuses"].items() if status != "200")
        lines.append(
            line(
                f"{clients}{WAYS[way]}",
                f"{row['questions_per_second']:.1f}",
                *times,
                f"{row['http_ms']['median']:.1f}",
                str(row["wrong"]),
                str(errors),
            )
        )
    last = list(rows.values())[-1]
    cpu, cores = last["hardware"]["cpu"], last["hardware"]["cores"]
    about = f"{last['passages']} passages a question. {cpu}, {cores} cores, which the clients use as well."
    return "\n".join([*lines, "", f"{about} `{last['command']}`"])


def overload(records: Rows) -> str:
    """What an overload did, of the newest row, and what a start takes."""
    last = next((row for row in reversed(records) if row["of"] == "overload"), None)
    started = next((row for row in reversed(records) if row["of"] == "start"), None)
    if last is None or started is None:
        return NOTHING
    refused = last["statuses"].get("503", 0)
    others = sum(count for status, count in last["statuses"].items() if status not in ("200", "503"))
    lines = [
        line("", ""),
        rule(2),
        line("asked a second", f"{last['asked_per_second']:.0f}, {last['times']:.0f} times what it can"),
        line("answered, of them wrong", f"{last['answered']}, {last['wrong']}"),
        line("503, of them without `Retry-After`", f"{refused}, {last['without_retry_after']}"),
        line("anything else", str(others)),
        line("memory before, at most", f"{last['mb_before']:.0f} MB, {last['peak_mb']:.0f} MB"),
        line("answers again after", f"{last['recovered_s']:.1f} s"),
        line("from the command to ready, memory then", f"{started['ready_s']:.1f} s, {started['mb']:.0f} MB"),
    ]
    return "\n".join([*lines, "", f"`{last['command']}`, `{started['command']}`"])


TABLES = {"serving-load": (load, "serving.jsonl"), "serving-overload": (overload, "serving.jsonl")}
