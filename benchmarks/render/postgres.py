"""A corpus in PostgreSQL: its speed, and many writers and readers at once."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]


def speed(records: Rows) -> str:
    """Seconds and megabytes of the newest row."""
    last = _newest(records)
    if last is None:
        return NOTHING
    changed = f"{last['changed_files']} of {last['files']} files changed"
    made = _seconds(last, "first_s", "without_vectors_s")
    sizes = _megabytes(*(last[f"{what}_bytes"] for what in ("database", "vector", "replica")))
    lines = [
        line("", ""),
        rule(2),
        line("written to the database", _seconds(last, "load_s")),
        line("vectors put beside", _seconds(last, "share_s")),
        line("a replica made from it, with vectors and without", made),
        line("a directory built from the same files", _seconds(last, "local_build_s")),
        line(f"{changed}: written, encoded", _seconds(last, "change_s", "change_share_s")),
        line("followed by a replica", _seconds(last, "catch_up_s")),
        line("on disk: database, of it vectors, replica", sizes),
        line("comparisons that show a difference, of 8", str(last["faults"])),
    ]
    about = (
        f"{last['passages']:,} passages, encoded before, {last['questions']} questions. A directory and a "
        "second replica are compared with the first: the fingerprints, and all questions by each of three "
        f"ways. Server and replicas on {_where(last)}"
    )
    return "\n".join([*lines, "", about])


def search(records: Rows) -> str:
    """Milliseconds of a search by each way in each place, of the newest row."""
    last = _newest(records)
    if last is None:
        return NOTHING
    places = {"a directory": last["search"]["local"], "a replica": last["search"]["replica"]}
    places["the server, `replica=none`"] = last["server"]["search"]
    ways = list(places["a replica"])
    lines = [line("", *(f"by {way}" for way in ways)), rule(1 + len(ways))]
    lines += [line(place, *(_milliseconds(found[way]) for way in ways)) for place, found in places.items()]
    server = last["server"]
    indexed = ", ".join(
        f"{one['recall']:.3f} in {one['median_ms']:.1f} ms with ef_search {one['ef']}"
        for one in server["hnsw"]
    )
    about = (
        f"20 of {last['passages']:,} passages, medians and 95 %, {last['questions']} questions, of which the "
        f"server had {server['questions']}. Of what a replica finds by meaning, the server finds "
        f"{server['recall']:.3f}. An HNSW index would find {indexed}; it took "
        f"{server['hnsw_made_s']:.0f} s to make and {_megabytes(server['hnsw_bytes'])}. On {_where(last)}"
    )
    return "\n".join([*lines, "", about])


def load(records: Rows) -> str:
    """The newest row without kills and the newest with some, a column each."""
    runs = [row for row in records if row["of"] == "load"]
    quiet, killed = ([row for row in runs if bool(row["kills"]) is kills] for kills in (False, True))
    shown = [some[-1] for some in (quiet, killed) if some]
    if not shown:
        return NOTHING
    facts = [
        ("seconds", lambda row: f"{row['seconds']:.0f}"),
        ("times that the server was killed", lambda row: str(len(row["kills"]))),
        ("files written, files removed", lambda row: f"{row['writes']:,}, {row['removals']:,}"),
        ("writes that gave up and said so", lambda row: f"{sum(row['said'].values()):,}"),
        ("reads, each of all passages", lambda row: f"{row['reads']:,}"),
        ("lost, doubled, torn, or different in two replicas", lambda row: str(row["faults"])),
    ]
    lines = [line("", *("killed" if row["kills"] else "left alone" for row in shown)), rule(1 + len(shown))]
    lines += [line(name, *map(say, shown)) for name, say in facts]
    last = shown[-1]
    about = (
        f"{last['writers']} processes that write and {last['readers']} that read from two replicas, with the "
        f"server on {_where(last)}"
    )
    return "\n".join([*lines, "", about])


def _newest(records: Rows) -> dict[str, Any] | None:
    return next((row for row in reversed(records) if row["of"] == "speed" and "server" in row), None)


def _where(row: dict[str, Any]) -> str:
    return f"{row['hardware']['cpu']}, cores: {row['hardware']['cores']}. `{row['command']}`"


def _seconds(row: dict[str, Any], *names: str) -> str:
    return ", ".join(f"{row[name]:.{2 if row[name] < 1 else 1}f} s" for name in names)


def _milliseconds(found: dict[str, float]) -> str:
    return f"{found['median_ms']:.1f} ms, {found['p95_ms']:.1f}"


def _megabytes(*sizes: int) -> str:
    return ", ".join(f"{size / 1e6:.0f} MB" for size in sizes)


TABLES = {
    "postgres-speed": (speed, "postgres.jsonl"),
    "postgres-search": (search, "postgres.jsonl"),
    "postgres-load": (load, "postgres.jsonl"),
}
