"""What hostile files take, a group of them at a time."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule


def table(records: list[dict[str, Any]]) -> str:
    """Seconds and memory of each group, by the newest row of it."""
    groups = {", ".join(row["of"]): row for row in records if row["kind"] == "hostile"}
    if not groups:
        return NOTHING
    rows = []
    for name, row in groups.items():
        peaks = [f"{row[key] / 1e6:,.0f}" for key in ("peak_bytes", "worker_peak_bytes")]
        name = "all of them at once" if len(row["of"]) > 1 else name
        rows.append(line(name, str(row["hostile"]), f"{row['left_out']:,}", f"{row['seconds']:.0f}", *peaks))
    head = line("", "cases", "files and folders left out", "s", "MB", "MB of a worker, at most")
    last = next(reversed(groups.values()))
    hardware = f"{last['hardware']['cpu']}, cores: {last['hardware']['cores']}"
    beside = f"With {last['good']} good files beside them, some while other programs ran; {hardware}."
    return "\n".join([head, rule(6), *rows, "", f"{beside} `python benchmarks/hostile.py check FOLDER`"])


TABLES = {"hostile-files": (table, "documents.jsonl")}
