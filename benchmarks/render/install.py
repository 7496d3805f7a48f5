"""What an extra adds to an installation."""

from __future__ import annotations

from collections.abc import Callable
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


def sizes(*extras: str) -> Callable[[list[dict[str, Any]]], str]:
    """Packages and size that each of some extras brings, by its newest row."""

    def table(records: list[dict[str, Any]]) -> str:
        newest = {row["extra"]: row for row in records if row["kind"] == "install"}
        if not newest.keys() >= set(extras):
            return NOTHING
        lines = [line("the extra", "packages that it brings", "size"), rule(3)]
        for extra in extras:
            row = newest[extra]
            lines.append(line(f"`{extra}`", str(len(row["brought"])), f"{row['bytes'] / 1e6:,.0f} MB"))
        commands = ", ".join(f"`{newest[extra]['command']}`" for extra in extras)
        return "\n".join([*lines, "", commands])

    return table


TABLES = {
    "documents-install": (table, "documents.jsonl"),
    "s3-ray-install": (sizes("s3", "ray"), "documents.jsonl"),
}
