"""Tables of docs/lumen.md: what memory costs, and what it saves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from study.variants import SHIPPED

from fidkit.preset import PRESETS, SIZES
from fidkit.records import CODECS, bytes_per_token
from render.study import shipped
from render.study.groups import grouped
from render.summaries import MEASURES, NONE, NOTHING, circumstances, datasets, line, rule, spread, subject

Rows = Sequence[dict[str, Any]]

ALPHA = "live proportion"
WIKIPEDIA_PASSAGES = 21_015_324
"""Of psgs_w100.tsv, DPR's Wikipedia."""
FULL_TOKENS = 208
"""Of a passage, as the LUMEN paper reads them."""


def storage(_: Rows) -> str:
    """Terabytes of Wikipedia's memory, by size of the encoder and codec; by the cost model alone."""
    lines = [line("encoder", "bytes a token, bf16", *CODECS), rule(2 + len(CODECS))]
    for size in SIZES:
        config = PRESETS[f"lumen-{size}"]
        by_codec = {codec: bytes_per_token(config.memory_width, codec) for codec in CODECS}
        terabytes = [f"{by_codec[c] * WIKIPEDIA_PASSAGES * FULL_TOKENS / 1e12:,.2f} TB" for c in CODECS]
        lines.append(line(f"{size}, width {config.memory_width:,}", f"{by_codec['bf16']:,}", *terabytes))
    return "\n".join(lines)


def times(rows: Rows) -> str:
    """Medians of the last run of `fidkit bench` in each precision, with what the live proportion saves."""
    newest = {row["dtype"]: (row["git"], row["command"]) for row in rows}
    runs = ([row for row in rows if (row["git"], row["command"]) == run] for run in newest.values())
    return "\n\n".join(map(_times_of, runs)) or NOTHING


def _times_of(run: Rows) -> str:
    lines = [
        line("", ALPHA, "encoder ms", "of it waiting for memory", "decoder ms", "total ms",
              "encoder (`fid-base` = 1)", "total (`hf` = 1)"),
        rule(8),
    ]  # fmt: skip
    for row in run:
        waited = f"{row['memory_ms']['median']:.2f}" if row["memory_ms"] else NONE
        medians = [f"{row[stage]['median']:,.0f}" for stage in ("encoder_ms", "decoder_ms", "total_ms")]
        lines.append(
            line(
                subject(row["subject"]), _alpha(row), medians[0], waited, *medians[1:],
                _faster(row, "fid-base", "encoder_ms"), _faster(row, "hf", "total_ms"),
            )
        )  # fmt: skip
    return "\n".join([*lines, "", circumstances(run[0])])


def _alpha(row: dict[str, Any]) -> str:
    if row["preset"] is None:
        return NONE
    return str(PRESETS[row["preset"]].alpha)


def _faster(row: dict[str, Any], than: str, stage: str) -> str:
    ratios = row["faster_than"].get(than)
    return f"{ratios[stage]:.2f}" if ratios else "1"


def proportions(rows: Rows) -> str:
    """Quality by live proportion, a table a start: mean over seeds, and from the least to the largest."""
    if not rows:
        return NOTHING
    starts = list(dict.fromkeys(row.get("start", "pocket") for row in rows))
    return "\n\n".join(
        f"**From `{start}`**\n\n" + _of_start([row for row in rows if row.get("start", "pocket") == start])
        for start in starts
    )


def _of_start(rows: Rows) -> str:
    kept = {(row["alpha"], row["trained"], row["seed"]): row for row in rows}
    names = datasets(rows)
    header = [f"{name}: {words}" for name in names for words in MEASURES.values()]
    lines = [line(ALPHA, "trained for", *header), rule(2 + len(header))]
    groups = sorted({(trained, Fraction(alpha)) for alpha, trained, _ in kept}, reverse=True)
    for trained, alpha in groups:
        of_group = [row for (a, t, _), row in kept.items() if (t, Fraction(a)) == (trained, alpha)]
        steps = f"{of_group[-1]['steps']} steps" if trained else "nothing: just split"
        cells = [
            spread([row[name][score] for row in of_group], seeds=trained)
            for name in names
            for score in MEASURES
        ]
        lines.append(line(str(alpha), steps, *cells))
    seeds = len({seed for _, trained, seed in kept if trained})
    last = rows[-1]
    return "\n".join([*lines, "", f"{seeds} seeds; {last['hardware']['cpu']}. `{last['command']}`"])


def fetches(rows: Rows) -> str:
    """Latency of fetches by readers at once, cold and warm."""
    if not rows:
        return NOTHING
    last = rows[-1]
    run = [row for row in rows if row["git"] == last["git"] and row["codec"] == last["codec"]]
    lines = [line("pages", "readers", "way", "median ms", "95 % ms", "MB/s"), rule(6)]
    for row in run:
        pages = "cold" if row["cold"] else "warm"
        ms = (f"{row['ms'][name]:,.1f}" for name in ("median", "p95"))
        lines.append(line(pages, str(row["readers"]), row["way"], *ms, f"{row['megabytes_per_s']:,.0f}"))
    about = (
        f"{last['rows']} random rows a fetch ({last['megabytes']:.1f} MB), {last['codec']}, of "
        f"{last['stored_bytes'] / 1e9:,.1f} GB in {last['shards']} shards; {last['hardware']['cpu']}. "
        f"`{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def builds(rows: Rows) -> str:
    """Of the last builds: rate beside the bare encoder's, predicted bytes beside those on the disk."""
    if not rows:
        return NOTHING
    newest = {(row["reader"], row["precision"], row["codec"]): row for row in rows}
    lines = [
        line("reader", "computed in", "codec", "passages", "tokens/s, encoder alone", "tokens/s, build",
              "share of it", "bytes predicted", "bytes on disk"),
        rule(9),
    ]  # fmt: skip
    for row in newest.values():
        alone, built = (statistics.median(row[name]) for name in ("bare_s", "encode_s"))
        lines.append(
            line(
                f"`{row['reader']}`", row["precision"], row["codec"], f"{row['passages']:,}",
                f"{row['tokens'] / alone:,.0f}", f"{row['tokens'] / built:,.0f}", f"{alone / built:.0%}",
                f"{row['bytes_predicted']:,}", f"{row['bytes_on_disk']:,}",
            )
        )  # fmt: skip
    last = rows[-1]
    about = f"Medians of {len(last['bare_s'])} turns; {last['hardware']['cpu']}. `{last['command']}`"
    return "\n".join([*lines, "", about])


def codecs(rows: Rows) -> str:
    """Bytes, error and answers of each codec, by the rows of the study: the reader that comes along."""
    groups = grouped(rows)
    found = {one.name: groups[one.name] for one in SHIPPED["codecs"] if one.name in groups}
    return shipped.codecs(found) if found else NOTHING


TABLES = {
    "lumen-times": (times, "bench-lumen.jsonl"),
    "lumen-storage": (storage, "bench-lumen.jsonl"),
    "lumen-proportions": (proportions, "proportions.jsonl"),
    "lumen-fetches": (fetches, "memory-fetch.jsonl"),
    "lumen-builds": (builds, "memory-build.jsonl"),
    "lumen-codecs": (codecs, "study.jsonl"),
}
"""How each marked table is made, and of which rows."""
