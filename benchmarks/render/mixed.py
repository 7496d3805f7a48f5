"""Questions about a folder of many kinds of documents."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule


def table(records: list[dict[str, Any]]) -> str:
    """What became of the files and of the questions, by the newest row."""
    measured = [row for row in records if row["kind"] == "mixed-folder"]
    if not measured:
        return NOTHING
    last = measured[-1]
    left = "; ".join(f"{count}: {reason}" for reason, count in last["left_out"].items())
    found = last["search"]
    asked, build = last["questions"], f"{last['seconds']:.1f} s"
    about = {
        "files with passages": f"{last['files_read']} of {last['files']}, {last['megabytes']:.1f} MB",
        "files without, and why": left or "none",
        "documents, passages": f"{last['documents']:,}, {last['passages']:,}",
        "read and indexed": f"{build}, {last['bytes_on_disk'] / 1e6:.1f} MB on disk",
        "memory": f"{last['peak_bytes'] / 1e6:.0f} MB, and {last['worker_peak_bytes'] / 1e6:.0f} MB a worker",
        "the passage is found": ", ".join(f"{n} of {asked} among the first {k}" for k, n in found.items()),
        "search names its place and characters": f"{last['search_right']} of {asked}",
        "evidence names its place and characters": f"{last['evidence_right']} of {asked}",
        "the answer is right": f"{last['answers']} of {asked}",
    }
    kinds = f"{last['kinds']} folders of one kind each; {last['hardware']['cpu']}, cores: "
    legend = f"{kinds}{last['hardware']['cores']}. `{last['command']}`"
    rows = [line(*pair) for pair in about.items()]
    return "\n".join([line("", ""), rule(2), *rows, "", legend])


TABLES = {"mixed-folder": (table, "documents.jsonl")}
