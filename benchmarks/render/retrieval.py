"""Search by words, by meaning and by both."""

from __future__ import annotations

import statistics
from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
WORDS, MEANING, BOTH = "words", "meaning", "both, 0.5"


def recall(records: Rows) -> str:
    """Recall by set, a column a way and depth: the newest rows of each set."""
    return by_depth(records, "recall", {way: _said(way) for way in (WORDS, MEANING, BOTH)}, "")


def by_depth(records: Rows, of: str, columns: dict[str, str], how: str) -> str:
    """Percent of questions with an answer among the first k, a line a set: the newest rows of each.

    Args:
        records: rows of a benchmark.
        of: which of them.
        columns: of the recall in a row, each with what it is called.
        how: what was searched by, as the end of a sentence.
    """
    newest = {row["set"]: row for row in records if row["of"] == of}
    if not newest:
        return NOTHING
    last = next(reversed(newest.values()))
    depths = list(last["recall"][next(iter(columns))])
    lines = [line("", *(f"{said}, {depth}" for depth in depths for said in columns.values()))]
    lines.append(rule(1 + len(columns) * len(depths)))
    for name, row in newest.items():
        lines.append(line(name, *(f"{row['recall'][key][d]:.1f}" for d in depths for key in columns)))
    about = (
        f"Percent of {last['n']} questions of each set with an answer among the first k of "
        f"{last['passages']:,} passages{how}. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def mixes(records: Rows) -> str:
    """Recall at 20 by way to mix, a line a set; and of a folder of documents, where it was measured."""
    newest = {row["set"]: row for row in records if row["of"] == "recall"}
    folders = [row for row in records if row["of"] == "folder"]
    if not newest:
        return NOTHING
    ways = list(next(reversed(newest.values()))["recall"])
    lines = [line("recall", *ways), rule(1 + len(ways))]
    for name, row in newest.items():
        lines.append(line(f"{name} at 20", *(f"{row['recall'][way]['20']:.1f}" for way in ways)))
    for depth in folders[-1]["recall"][WORDS] if folders else ():
        found = folders[-1]["recall"]
        lines.append(line(f"a folder at {depth}", *(f"{found[way][depth]:.1f}" for way in ways)))
    about = "The numbers are the weight of meaning; by rank is reciprocal rank fusion, by spread adds "
    about += "standard deviations from the mean."
    if folders:
        last = folders[-1]
        about += f" The folder is examples/own-folder: {last['n']} questions, {last['passages']} passages."
    return "\n".join([*lines, "", about])


def speed(records: Rows) -> str:
    """Milliseconds of a search and of its parts, by the newest row."""
    measured = [row for row in records if row["of"] == "speed"]
    if not measured:
        return NOTHING
    last = measured[-1]
    lines = [line("", "median, ms", "95 %, ms"), rule(3)]
    for way, found in last["milliseconds"].items():
        lines.append(line(f"by {_said(way)}", f"{found['median']:.1f}", f"{found['p95']:.1f}"))
    lines.append(line("the question encoded", f"{last['question_ms']:.1f}", ""))
    lines.append(line("its vector searched for", f"{last['scan_ms']:.1f}", ""))
    sizes = {name: size / last["passages"] for name, size in last["bytes"].items()}
    about = (
        f"40 of {last['passages']:,} passages, one question after the other, {last['hardware']['cpu']}, "
        f"threads: {last['threads']}. {last['encoded_a_second']:.0f} passages are encoded a second; one "
        f"takes {sizes['lexical-1']:.0f} bytes in the lexical index and {sizes['vectors-1']:.0f} as a vector."
        f" `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def scans(records: Rows) -> str:
    """The scan of binary codes beside faiss, the newest of each size."""
    newest = {(row["passages"], row["questions"]): row for row in records if row["of"] == "scan"}
    if not newest:
        return NOTHING
    lines = [line("codes", "questions at once", "here, ms a question", "faiss, ms a question"), rule(4)]
    for (passages, questions), row in sorted(newest.items()):
        lines.append(line(f"{passages:,}", str(questions), f"{row['ours_ms']:.2f}", f"{row['faiss_ms']:.2f}"))
    last = next(reversed(newest.values()))
    about = (
        f"The nearest {last['found']:,} of codes of 384 bits, one thread of {last['hardware']['cpu']}; "
        f"medians of 9. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def answers(records: Rows) -> str:
    """What the reader makes of passages that are found by words and by both, the newest of each."""
    newest = {(row["set"], row["by"]): row for row in records if row["of"] == "answers"}
    if not newest:
        return NOTHING
    last = next(reversed(newest.values()))
    depth = str(last["passages"])
    shown = {"recall": lambda row: row["recall"][depth], "EM": lambda row: row["forced_em"],
             "F1": lambda row: row["forced_f1"], "EM as it comes": lambda row: row["em"]}  # fmt: skip
    ways = list(dict.fromkeys(by for _, by in newest))
    lines = [line("", *(f"{name}, {by}" for name in shown for by in ways)), rule(1 + len(shown) * len(ways))]
    for name in dict.fromkeys(name for name, _ in newest):
        of_set = [newest[name, by] for by in ways]
        lines.append(line(name, *(f"{read(row):.1f}" for read in shown.values() for row in of_set)))
    of_ways = [[row for (_, by), row in newest.items() if by == way] for way in ways]
    means = [statistics.mean(map(read, rows)) for read in shown.values() for rows in of_ways]
    lines.append(line("mean", *(f"{mean:.1f}" for mean in means)))
    about = (
        f"{last['n']} questions of each set, {depth} passages of {last['corpus_passages']:,} each, read by "
        f"`{last['reader']}`. EM and F1 are of all answers; as it comes, the reader may say that "
        f"the passages don't tell. `{last['command']}`"
    )
    return "\n".join([*lines, "", about])


def _said(way: str) -> str:
    return "both" if way == BOTH else way


TABLES = {
    "retrieval-recall": (recall, "retrieval.jsonl"),
    "retrieval-mixes": (mixes, "retrieval.jsonl"),
    "retrieval-speed": (speed, "retrieval.jsonl"),
    "retrieval-answers": (answers, "retrieval.jsonl"),
    "retrieval-scans": (scans, "retrieval.jsonl"),
}
