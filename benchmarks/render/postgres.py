"""A corpus in PostgreSQL: its speed, and many writers and readers at once."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]


def speed(records: Rows) -> str:
    """Seconds and milliseconds of the newest row."""
    measured = [row for row in records if row["of"] == "speed"]
    if not measured:
        return NOTHING
    last = measured[-1]
    local, replica = (last["search"][name] for name in ("local", "replica"))
    changed = f"{last['changed_files']} of {last['files']} files changed"
    lines = [
        line("", ""),
        rule(2),
        line("written to the database", f"{last['load_s']:.1f} s"),
        line("a replica made from it", f"{last['first_s']:.1f} s"),
        line("a directory built from the same files", f"{last['local_build_s']:.1f} s"),
        line(f"{changed}: written, followed", f"{last['change_s']:.2f} s, {last['catch_up_s']:.2f} s"),
        line("search by words in the replica", _milliseconds(replica)),
        line("search by words in the directory", _milliseconds(local)),
        line("on disk: database, replica", _megabytes(last["database_bytes"], last["replica_bytes"])),
        line("searches that differ among directory and replicas", str(last["faults"])),
    ]
    about = (
        f"{last['passages']:,} passages, {last['questions']} questions, 20 passages each; server and "
        f"replicas on {last['hardware']['cpu']}, cores: {last['hardware']['cores']}. `{last['command']}`"
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
        f"server on {last['hardware']['cpu']}, cores: {last['hardware']['cores']}. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def _milliseconds(found: dict[str, float]) -> str:
    return f"{found['median_ms']:.1f} ms, 95 %: {found['p95_ms']:.1f} ms"


def _megabytes(*sizes: int) -> str:
    return ", ".join(f"{size / 1e6:.0f} MB" for size in sizes)


TABLES = {
    "postgres-speed": (speed, "postgres.jsonl"),
    "postgres-load": (load, "postgres.jsonl"),
}
