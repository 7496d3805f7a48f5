"""How a corpus grows: tables and a plot of what building and searching take, and a line through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from render.pictures import Points
from render.summaries import NOTHING, line, rule

Row = dict[str, Any]
Rows = list[Row]
AHEAD = 20_000_000
WAYS = ("words", "meaning", "both")
_PARTS = {"catalogue": "catalogue", "index": "lexical index", "vectors": "vectors"}


def _megabytes(part: str) -> Callable[[Row], float]:
    """Reads what a part of a corpus takes on the disk."""
    return lambda row: row["sizes"][part] / 1e6


def _milliseconds(by: str, of: str) -> Callable[[Row], float]:
    """Reads the median or the 95 % of searches in one way."""
    return lambda row: row["milliseconds"][by][of]


FIGURES: dict[str, tuple[str, Callable[[Row], float], str]] = {
    "built by words, s": ("words", lambda row: row["seconds"], "{:,.1f}"),
    "vectors written, s": ("vectors", lambda row: row["seconds"], "{:,.1f}"),
    "1 % changed, s": ("refresh", lambda row: row["seconds"], "{:,.1f}"),
    "then the index anew, s": ("refresh", lambda row: row["anew_seconds"], "{:,.1f}"),
    "memory to build by words, MB": ("words", lambda row: row["own_peak_bytes"] / 1e6, "{:,.0f}"),
    "memory to add vectors, MB": ("vectors", lambda row: row["own_peak_bytes"] / 1e6, "{:,.0f}"),
    "memory to search, MB": ("search", lambda row: row["private_bytes"] / 1e6, "{:,.0f}"),
    "files mapped to search, MB": ("search", lambda row: row["mapped_bytes"] / 1e6, "{:,.0f}"),
    **{
        f"{said} on disk, MB": ("vectors", _megabytes(part), "{:,.0f}")
        for part, said in _PARTS.items()
    },
    "encoded, hours of a core": (
        "search", lambda row: row["passages"] / row["encoded_a_second"] / 3600, "{:,.1f}"
    ),
    "opened, ms": ("search", lambda row: row["open_ms"], "{:,.1f}"),
    **{
        f"search by {by}, ms": ("search", _milliseconds(by, "median"), "{:,.1f}")
        for by in WAYS
    },
    **{
        f"95 % by {by}, ms": ("search", _milliseconds(by, "p95"), "{:,.1f}")
        for by in WAYS
    },
    "`fidkit ask`, a process, s": ("ask", lambda row: row["median"], "{:,.2f}"),
    "`corpus info`, ms": ("search", lambda row: row["info_ms"], "{:,.0f}"),
}  # fmt: skip
"""What is shown: of which stage, how it is read from its row, and how it is written."""


def table(records: Rows) -> str:
    """A column a size, and what a line through them says of 20 million."""
    newest, sizes = _newest(records)
    if not sizes:
        return NOTHING
    lines = [line("passages", *(f"{size:,}" for size in sizes), f"{AHEAD:,}, on paper")]
    lines.append(rule(2 + len(sizes)))
    for name, (stage, read, form) in FIGURES.items():
        values = {size: read(newest[stage, size]) for size in sizes if (stage, size) in newest}
        cells = [form.format(values[size]) if size in values else "" for size in sizes]
        ahead = form.format(_ahead(values)) if len(values) > 1 else ""
        lines.append(line(name, *cells, ahead))
    last = newest["search", sizes[-1]]
    about = (
        f"{last['hardware']['cpu']}, cores: {last['hardware']['cores']}; 300 searches for 40 passages one "
        "after the other, after the question was asked for the first time. On paper: as from the one before "
        f"the last to the last. Memory is the process' own, mapped files aside. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def panels(records: Rows) -> Points:
    """Four, by passages: seconds of a build, memory, disk, milliseconds of a search."""
    newest, sizes = _newest(records)
    if not sizes:
        return []
    shown = {
        "Building": ("s", {
            "by words": "built by words, s", "vectors": "vectors written, s",
            "1 % changed": "1 % changed, s",
        }),
        "Memory": ("MB", {
            "build by words": "memory to build by words, MB", "add vectors": "memory to add vectors, MB",
            "search": "memory to search, MB",
        }),
        "On disk": ("MB", {said: f"{said} on disk, MB" for said in _PARTS.values()}),
        "A search, median": ("ms", {f"by {by}": f"search by {by}, ms" for by in WAYS}),
    }  # fmt: skip
    drawn: Points = []
    for title, (unit, names) in shown.items():
        lines = {}
        for said, name in names.items():
            stage, read, _ = FIGURES[name]
            places = [size for size in sizes if (stage, size) in newest]
            lines[said] = (places, [read(newest[stage, size]) for size in places])
        drawn.append(
            {"kind": "lines", "title": title, "x": "passages", "y": unit, "lines": lines, "log": True}
        )
    return drawn


def _newest(records: Rows) -> tuple[dict[tuple[str, int], Row], list[int]]:
    """The newest row of each stage and size, and the sizes that were searched."""
    newest = {(row["of"], row["passages"]): row for row in records}
    return newest, sorted(size for stage, size in newest if stage == "search")


def _ahead(values: dict[int, float]) -> float:
    """The straight line through the two largest sizes, at 20 million passages; level where it would fall."""
    (small, before), (large, last) = sorted(values.items())[-2:]
    return last + max(0.0, (last - before) / (large - small)) * (AHEAD - large)


TABLES = {"corpus-growth": (table, "growth.jsonl")}
PICTURES = {"corpus-growth": (panels, "growth.jsonl")}
