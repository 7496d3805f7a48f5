"""A server under load, in overload, at its start; its page; its evidence when it is tested."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
WAYS = {
    "batched": "fidkit",
    "unbatched": "fidkit, each question alone",
    "transformers": "FiD on transformers",
}


def load(records: Rows) -> str:
    """What clients got, a line a way and a number of them; the newest row of each."""
    rows = _under_load(records)
    if not rows:
        return NOTHING
    heads = ["clients", "served by", "questions a second", "transformers = 1"]
    heads += ["median ms", "95 %", "99 %", "wrong", "errors"]
    lines = [line(*heads), rule(len(heads))]
    order = sorted(rows, key=lambda key: (key[1], list(WAYS).index(key[0])))
    for way, clients in order:
        row = rows[way, clients]
        times = [f"{row['ms'][of]:,.0f}" for of in ("median", "p95", "p99")]
        errors = sum(count for status, count in row["statuses"].items() if status != "200")
        wrong = "" if way == "transformers" else str(row["wrong"])
        lines.append(
            line(
                str(clients),
                WAYS[way],
                f"{row['questions_per_second']:.2f}",
                f"{row['times_transformers']:.1f}",
                *times,
                wrong,
                str(errors),
            )
        )
    last = rows[order[-1]]
    cpu, cores = last["hardware"]["cpu"], last["hardware"]["cores"]
    about = (
        f"{last['passages']} passages a question; {last['seconds']:.0f} s of each way, in rounds in which "
        f"they take turns. {cpu}, {cores} cores, which the clients use as well.{_way(records, rows)} "
        f"{_commands([rows[key] for key in order])}"
    )
    return "\n".join([*lines, "", about])


def _commands(made: Rows) -> str:
    """What was run, each once."""
    return _quoted(row["command"] for row in made)


def _quoted(commands: Iterable[str]) -> str:
    return ", ".join(f"`{command}`" for command in dict.fromkeys(commands))


def _under_load(records: Rows) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["way"], row["clients"]): row for row in records if row["of"] == "load"}


def _way(records: Rows, rows: dict[tuple[str, int], dict[str, Any]]) -> str:
    """How the peer runs, and how many ways were tried."""
    used = next((row["peer"] for row in rows.values() if "peer" in row), None)
    tried = {
        (row["readers"], row["threads"], row["dtype"]): row["command"]
        for row in records
        if row["of"] == "peer"
    }
    if used is None or not tried:
        return ""
    return (
        f" On transformers, {used['readers']} questions are read at once, in {used['dtype']} (threads of "
        f"each: {used['threads']}), which was the fastest of {len(tried)} ways: {_quoted(tried.values())}."
    )


def together(records: Rows) -> str:
    """What reading questions together gains, and how much of the cores each way uses."""
    rows = _under_load(records)
    batched, alone = rows.get(("batched", 16)), rows.get(("unbatched", 16))
    if batched is None or alone is None:
        return NOTHING
    return (
        f"With 16 clients, reading questions together makes {batched['times_unbatched']:.2f} times as many "
        f"answers as reading each alone. The server computes on {batched['cores']:.2f} of the "
        f"{batched['hardware']['cores']} cores then, and on {alone['cores']:.2f} when each is read alone: "
        f"{1000 * batched['cores'] / batched['questions_per_second']:.0f} and "
        f"{1000 * alone['cores'] / alone['questions_per_second']:.0f} ms of a core for a question."
    )


def short(records: Rows) -> str:
    """What 16 clients get, and a start, in a sentence."""
    busy, started = _under_load(records).get(("batched", 16)), _last(records, "start")
    if busy is None or started is None:
        return NOTHING
    return (
        f"16 clients that ask all the time get {busy['questions_per_second']:.1f} answers a second out of "
        f"{busy['passages']} passages each on {busy['hardware']['cores']} cores, "
        f"{busy['times_transformers']:.1f} times what FiD of the same size on transformers gives behind the "
        f"same route. The server is ready {started['ready_s']:.1f} s after the command, with "
        f"{started['mb']:.0f} MB of memory ({busy['hardware']['cpu']})."
    )


def overload(records: Rows) -> str:
    """What an overload did, of the newest row."""
    last = _last(records, "overload")
    if last is None:
        return NOTHING
    refused = last["statuses"].get("503", 0)
    others = sum(count for status, count in last["statuses"].items() if status not in ("200", "503"))
    asked = f"{last['asked_per_second']:.0f} for {last['seconds']:.0f} s"
    lines = [
        line("", ""),
        rule(2),
        line("asked a second", f"{asked}, {last['times']:.0f} times what it can"),
        line("answered, of them wrong", f"{last['answered']:,}, {last['wrong']}"),
        line("503, of them without `Retry-After`", f"{refused:,}, {last['without_retry_after']}"),
        line("anything else", str(others)),
        line("memory before, at most", f"{last['mb_before']:.0f} MB, {last['peak_mb']:.0f} MB"),
        line("answers again after", f"{last['recovered_s']:.1f} s"),
    ]
    return "\n".join([*lines, "", f"`{last['command']}`"])


def beginning(records: Rows) -> str:
    """From the command to an answer, and memory; what HTTP adds; the page."""
    found = [_last(records, of) for of in ("start", "python", "page")]
    loads = [row["peak_mb"] for row in records if row["of"] == "load" and row["way"] == "batched"]
    if None in found or not loads:
        return NOTHING
    started, python, page = (row for row in found if row is not None)
    cold, warm = page["cold"], page["warm"]
    lines = [
        line("", ""),
        rule(2),
        line("from the command to ready", f"{started['ready_s']:.1f} s"),
        line("memory at rest, under load at most", f"{started['mb']:.0f} MB, {max(loads):.0f} MB"),
        line(
            "an answer over HTTP, in Python, what HTTP adds to its stages (medians)",
            f"{python['http_ms']['median']:.0f} ms, {python['python_ms']['median']:.0f} ms, "
            f"{python['over_ms']['median']:.1f} ms",
        ),
        line(
            "first paint of the page in a new browser, and again",
            f"{cold['paint_ms']:.0f} ms, {warm['paint_ms']:.0f} ms",
        ),
        line(
            "the page over the wire, and again",
            f"{cold['bytes'] / 1000:.0f} kB in {cold['requests']:.0f} requests, "
            f"{warm['bytes'] / 1000:.0f} kB in {warm['requests']:.0f}",
        ),
    ]
    return "\n".join([*lines, "", _commands([started, python, page])])


def tested(records: Rows) -> str:
    """What right answers become without a piece of evidence, as measured last."""
    measured = [row for row in records if "changed_without_largest_share" in row]
    if not measured:
        return NOTHING
    last = measured[-1]
    without = {
        "the piece that is listed first": last["changed_without_first"],
        "the passage with the largest share": last["changed_without_largest_share"],
        "the piece that is listed last": last["changed_without_last"],
    }
    lines = [
        line(f"of {last['n']} right answers, without", "became another"),
        rule(2),
        *(line(name, f"{share:.1f} %") for name, share in without.items()),
    ]
    about = (
        f"{last['passages']} passages were read, and each of them left out: {last['ms_a_passage']:.1f} ms a "
        f"passage beside {last['answer_ms']:.0f} ms for the answer (threads: {last['threads']}). "
        f"`{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def _last(records: Rows, of: str) -> dict[str, Any] | None:
    return next((row for row in reversed(records) if row["of"] == of), None)


TABLES = {
    "serving-load": (load, "serving.jsonl"),
    "serving-together": (together, "serving.jsonl"),
    "serving-short": (short, "serving.jsonl"),
    "serving-overload": (overload, "serving.jsonl"),
    "serving-beginning": (beginning, "serving.jsonl"),
    "serving-tested": (tested, "tested-evidence.jsonl"),
}
