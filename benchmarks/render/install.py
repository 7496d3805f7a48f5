"""What an extra adds to an installation."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule


def table(records: list[dict[str, Any]]) -> str:
    """Packages, size, seconds and the time of `fidkit --help`, by the newest row of the extra `documents`."""
    found = [row for row in records if row["kind"] == "install" and row["extra"] == "documents"]
    if not found:
        return NOTHING
    row = found[-1]
    names = ", ".join(row["brought"])
    before = f"{row['packages_before']} packages, {row['bytes_before'] / 1e6:,.0f} MB"
    help_ms, modules = row["help_ms"], row["help_modules"]
    lines = [
        line("the extra brings", f"{len(row['brought'])} packages, {row['bytes'] / 1e6:,.0f} MB: {names}"),
        line("beside what fidkit needs, without PyTorch", before),
        line("fetched from a mirror nearby, and installed", f"{row['seconds']:.0f} s"),
        line("`fidkit --help` without it", f"{help_ms['without']:.0f} ms, {modules['without']:,} modules"),
        line("`fidkit --help` with it", f"{help_ms['with']:.0f} ms, {modules['with']:,} modules"),
    ]
    hardware = f"{row['hardware']['cpu']}, cores: {row['hardware']['cores']}"
    return "\n".join([line("", ""), rule(2), *lines, "", f"{hardware}. `{row['command']}`"])


TABLES = {"documents-install": (table, "documents.jsonl")}
