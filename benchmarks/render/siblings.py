"""The readers that come with fidkit beside one another: what they answer, and what a question costs."""

from __future__ import annotations

from typing import Any

SIGHTS = {"gold": "the passage with the answer", "retrieved-5": "5 retrieved passages"}
NOTHING = "Not measured yet."


def quality(records: list[dict[str, Any]]) -> str:
    """EM / F1 where the reader has to answer: a line a reader, a column a set and what is seen of it."""
    if not records:
        return NOTHING
    settings = list(dict.fromkeys(record["setting"] for record in records))
    heads = [_head(setting) for setting in settings]
    lines = [f"| reader | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for reader in dict.fromkeys(record["reader"] for record in records):
        found = {r["setting"]: r for r in records if r["reader"] == reader}
        cells = [_cell(found[setting]) if setting in found else "" for setting in settings]
        lines.append(f"| {reader} | {' | '.join(cells)} |")
    legend = "Exact match / F1 in percent (number of questions), where the reader has to answer."
    return "\n".join([*lines, "", f"{legend} `{_command(records)}`"])


def times(records: list[dict[str, Any]]) -> str:
    """Milliseconds of a question and bytes of a passage: a line a reader, and one with its memory."""
    if not records:
        return NOTHING
    latest = {(record["reader"], record["memory"]): record for record in records}
    plain = next(record["ms"] for record in latest.values())
    lines = [
        "| reader | passages are | ms a question | speed | memory of a passage |",
        "|---|---|---|---|---|",
    ]
    for (reader, stored), record in latest.items():
        size = f"{record['bytes_a_passage'] / 1e3:,.0f} KB in {record['codec']}" if stored else "-"
        how = "fetched" if stored else "encoded"
        lines.append(f"| {reader} | {how} | {record['ms']:,.0f} | {plain / record['ms']:.2f} | {size} |")
    one = records[-1]
    legend = (
        f"{one['passages']} passages of examples/own-folder for each of {one['questions']} questions, search "
        f"included; medians of {one['rounds']} interleaved rounds; {one['hardware']['cpu']}, threads: "
        f"{one['threads']}. `{one['command']}`"
    )
    return "\n".join([*lines, "", legend])


def _head(setting: str) -> str:
    dataset, _, sight = setting.partition("/")
    return f"{dataset}, {SIGHTS[sight]}"


def _cell(record: dict[str, Any]) -> str:
    return f"{record['forced_em']:.1f} / {record['forced_f1']:.1f} ({record['n']})"


def _command(records: list[dict[str, Any]]) -> str:
    """What measures all of it: the settings of a reader that comes along."""
    settings = " ".join(dict.fromkeys(record["setting"] for record in records))
    return (
        "python benchmarks/quality.py --reader READER --only "
        f"{settings} --data DATA --corpus wiki.corpus --to siblings-quality.jsonl"
    )


TABLES = {
    "siblings-quality": (quality, "siblings-quality.jsonl"),
    "siblings-times": (times, "siblings.jsonl"),
}
