"""What clients of a server saw while something broke."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Row = dict[str, Any]


def table(records: list[Row]) -> str:
    """A line a fault, by its newest row."""
    rows = {row["fault"]: row for row in records}
    if not rows:
        return NOTHING
    heads = ("under load", "answered", "wrong", "other statuses", "without a response", "longest pause", "")
    lines = [line(*heads), rule(len(heads))]
    for fault, row in rows.items():
        others = {status: n for status, n in row["statuses"].items() if status.isdigit() and status != "200"}
        said = ", ".join(f"{status}: {n}" for status, n in others.items()) or "none"
        pause = f"{row['longest_pause_s']:.1f} s"
        counts = (str(row["answered"]), str(row["wrong"]), said, str(row["lost"]), pause)
        lines.append(line(fault, *counts, CAME_OF_IT[fault](row)))
    last = list(rows.values())[-1]
    about = f"{last['clients']} clients; {last['hardware']['cpu']}, {last['hardware']['cores']} cores."
    command = last["command"].partition(" --only")[0]
    return "\n".join([*lines, "", f"{about} `{command}`"])


def _database(row: Row) -> str:
    return f"away for {row['away_s']:.0f} s, answers again {row['answered_again_s']:.1f} s after"


def _disk(row: Row) -> str:
    full = " and ".join(map(str, row["uploads"]["full"]))
    after = f"indexed {row['indexed_after_s']:.0f} s after there is room"
    return f"uploads get {full}; the next is {after}"


CAME_OF_IT = {
    "worker killed": lambda row: f"the upload: {row['upload']}; the next: {row['next_upload']}",
    "document changed": lambda row: (
        f"found after {row['found_s']:.1f} s, replaced after {row['replaced_s']:.1f} s, gone after "
        f"{row['gone_s']:.1f} s"
    ),
    "corpus refreshed": lambda row: f"{row['generations']} times, by another process",
    "corpus compacted": lambda row: f"in {row['compaction_s']:.0f} s, by another process",
    "corpus deleted": lambda row: "answered from what is open",
    "disk full": _disk,
    "reader swapped": lambda row: f"{row['swaps']} times, taken up within {row['taken_up_s']:.1f} s",
    "database gone": _database,
    "database gone, no replica": _database,
    "two servers": lambda row: (
        f"an upload to one is seen by the other after {row['seen_by_the_other_s']:.1f} s; on the same port "
        f"the second ends with exit code {row['same_port']}"
    ),
    "slow clients": lambda row: f"40 of them; memory {row['mb_before']:.0f} MB, then {row['mb']:.0f} MB",
}
"""What else there is to say of each fault."""
TABLES = {"serving-faults": (table, "serving-faults.jsonl")}
