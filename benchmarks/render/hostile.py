"""What hostile files take, alone and all together."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule


def table(records: list[dict[str, Any]]) -> str:
    """Seconds and memory of the worst file of each group, by the newest row that has them."""
    measured = [row for row in records if row["kind"] == "hostile"]
    if not measured:
        return NOTHING
    last = measured[-1]
    rows = []
    for name, group in last.get("groups", {}).items():
        peaks = [f"{group[key] / 1e6:,.0f}" for key in ("peak_bytes", "worker_peak_bytes")]
        rows.append(line(name, group["files"], group["read"], f"{group['seconds']:.1f}", *peaks))
    whole = [f"{last[key] / 1e6:,.0f}" for key in ("peak_bytes", "worker_peak_bytes")]
    together = f"all, and {last['good']} good ones"
    rows.append(line(together, last["hostile"] + last["good"], "", f"{last['seconds']:.1f}", *whole))
    head = line("", "cases", "something is read of", "s, at most", "MB, at most", "MB of a worker, at most")
    hardware = f"{last['hardware']['cpu']}, cores: {last['hardware']['cores']}"
    return "\n".join([head, rule(6), *rows, "", f"{hardware}. `{last['command']}`"])


TABLES = {"hostile-files": (table, "documents.jsonl")}
