"""A fleet while it changes, and the container that a member of it runs in."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
HAPPENS = {
    "steady": "nothing",
    "update": "all replicas are replaced, since a reader was added",
    "kill": "a replica is killed",
}


def changes(records: Rows) -> str:
    """What clients saw, a line a thing that happened; the newest row of each."""
    rows = {row["of"]: row for row in records}
    if not {"start", *HAPPENS} <= set(rows):
        return NOTHING
    heads = (
        *("meanwhile", "it took", "answered", "median ms", "99 %"),
        *("wrong", "without an answer", "answered when asked again"),
    )
    lines = [line(*heads), rule(len(heads))]
    for of, said in HAPPENS.items():
        row = rows[of]
        lines.append(
            line(
                said,
                f"{row['took_s']:.0f} s" if row["took_s"] else "",
                f"{row['answered']:,}",
                *(f"{row['ms'][which]:,.0f}" for which in ("median", "p99")),
                *(str(row[which]) for which in ("wrong", "failed", "answered_then")),
            )
        )
    started = rows["start"]
    cpu, cores = started["hardware"]["cpu"], started["hardware"]["cores"]
    about = (
        f"{started['replicas']} replicas of {started['passages']:,} passages, and {started['clients']} "
        f"clients. Ray and Ray Serve start in {started['ray_s']:.0f} s, the replicas in "
        f"{started['ready_s']:.0f} s. {cpu}, {cores} cores for all of them. `{started['command']}`"
    )
    return "\n".join([*lines, "", about])


def image(records: Rows) -> str:
    """Sizes of what the container file installs, the newest row of each choice of extras."""
    rows = {row["extras"]: row for row in records if row["of"] == "image"}
    if not rows:
        return NOTHING
    lines = [line("extras", "installed", "of it fidkit", "healthy after"), rule(4)]
    for extras, row in rows.items():
        own = row["sizes"]["fidkit"]
        lines.append(
            line(
                f"`{extras}`",
                f"{row['bytes'] / 1e6:,.0f} MB",
                f"{own / 1e6:,.0f} MB",
                f"{row['healthy_s']:.1f} s",
            )
        )
    without = all(row["sizes"]["torch"] == 0 for row in rows.values())
    about = "PyTorch isn't among it. " if without else ""
    return "\n".join([*lines, "", f"{about}`{list(rows.values())[-1]['command']}`"])


TABLES = {"fleet-changes": (changes, "fleet.jsonl"), "fleet-image": (image, "container.jsonl")}
