"""Corpora that are kept up to date, beside fresh builds."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule


def table(records: list[dict[str, Any]]) -> str:
    """What following and refreshing gave, by the newest row of each."""
    newest = {row["kind"]: row for row in records}
    about: dict[str, str] = {}
    legends = []
    if row := newest.get("corpus-watch"):
        about["operations, while it was followed"] = f"{row['operations']:,} in {row['seconds']:g} s"
        about["files, states that were committed"] = f"{row['files']:,}, {row['generations']:,}"
        about["caught up after the last operation"] = f"{row['behind_s']:.1f} s"
        about |= {f"followed: {name}": said for name, said in _beside(row["beside_fresh"]).items()}
        legends.append(_legend(row))
    refreshes = {row["of"]: row for row in records if row["kind"] == "corpus-refresh"}
    for row in refreshes.values():
        about |= _refreshed(row)
        legends.append(_legend(row))
    kills = {row["command"]: row for row in records if row["kind"] == "corpus-kill"}
    about |= dict(map(_killed, kills.values()))
    rows = [line(*pair) for pair in about.items()]
    return "\n".join([line("", ""), rule(2), *rows, "", *legends]) if rows else NOTHING


_FILES = {"texts": "made-up texts", "mixed": "files of many kinds"}


def _refreshed(row: dict[str, Any]) -> dict[str, str]:
    """One folder of which a share was changed."""
    of, full, after = _FILES[row["of"]], row["full_s"], _beside(row["beside_fresh_after_build"])
    about = {
        f"{of}, changed": f"{row['files']:,}, {100 * row['changed']:g} %",
        f"{of}: full build": f"{full:.1f} s",
        f"{of}: refresh": f"{row['refresh_s']:.2f} s ({100 * row['refresh_s'] / full:.1f} %)",
        f"{of}: build": f"{row['build_s']:.2f} s ({100 * row['build_s'] / full:.1f} %)",
    }
    about |= {f"{of}: {name} after a refresh": said for name, said in _beside(row["beside_fresh"]).items()}
    about[f"{of}: hits and scores equal after a build"] = after["hits and scores equal"]
    if "unchanged_s" in row:
        about["a look at unchanged files"] = f"{row['unchanged_files']:,} in {row['unchanged_s']:.1f} s"
    return about


def object_store(records: list[dict[str, Any]]) -> str:
    """Seconds of builds of a folder and of a store, by whom, by the newest row."""
    found = [row for row in records if row["kind"] == "object-store"]
    if not found:
        return NOTHING
    row = found[-1]
    who = {"local": "workers here", "ray": "Ray"}
    lines = [line("", "build", "again, unchanged"), rule(3)]
    for name, took in row["seconds"].items():
        source, _, by = name.partition("-")
        lines.append(line(f"{source}, {who[by]}", f"{took['build']:.1f} s", f"{took['unchanged']:.2f} s"))
    return "\n".join([*lines, "", f"{row['files']:,} texts, {row['bytes'] / 1e6:.1f} MB. {_legend(row)}"])


_KILLED = {"--first": "first builds", "--watch": "following", "--vectors": "vectors being made"}


def _killed(row: dict[str, Any]) -> tuple[str, str]:
    """What was killed, and what was left each time."""
    what = next((said for flag, said in _KILLED.items() if flag in row["command"]), "rebuilds")
    states = [f"{state.removeprefix('killed: ')} {count}" for state, count in row["outcomes"].items()]
    return f"killed: {what}", f"{row['n']} times; left: {', '.join(states)}; then a build {row['rebuild']}"


def _beside(found: dict[str, Any]) -> dict[str, str]:
    same = all(found[name] for name in ("equal_passages", "equal_fingerprint", "equal_documents"))
    asked = found["questions"]
    return {
        "passages and documents": f"{'equal' if same else 'differ'}, {found['passages']:,}",
        "first hit equal": f"{found['equal_first']} of {asked}",
        "hits and scores equal": f"{found['equal_hits_and_scores']} of {asked}",
        "largest difference of a score": f"{100 * found['largest_score_difference']:.2f} %",
    }


def _legend(row: dict[str, Any]) -> str:
    hardware = row["hardware"]
    return f"{hardware['cpu']}, cores: {hardware['cores']}. `{row['command']}`"


TABLES = {
    "corpus-kept": (table, "corpora.jsonl"),
    "object-store": (object_store, "corpora.jsonl"),
}
