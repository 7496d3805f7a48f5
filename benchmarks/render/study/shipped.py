"""Tables of readers as they come along: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from render.study.groups import Group
from render.summaries import line, rule

RANKED = {
    "words": "5 of 20, as words rank them",
    "meaning": "5 of 20, by meaning",
    "both": "5 of 20, by words and meaning",
    "shares": "5 of 20, by their shares in an answer out of all 20",
    "none": "all 20",
}
Groups = Mapping[str, Group]


def codecs(found: Groups) -> str:
    """A line a codec: bytes, what it loses of the memory, and what is answered from it."""
    sets = next(iter(found.values())).decides
    heads = ["codec", "bytes a passage", "a token", "error"]
    heads += [f"{name}: EM / F1 / nats" for name in sets]
    lines = [line(*heads), rule(len(heads))]
    for group in found.values():
        row = group.any
        scores = (
            f"{row[name]['em']:.1f} / {row[name]['f1']:.1f} / {row[name]['log_likelihood']:.2f}"
            for name in sets
        )
        lines.append(
            line(
                f"`{row['codec']}`", f"{row['bytes_a_passage']:,.0f}", f"{row['bytes_a_token']:,.1f}",
                f"{row['error']:.2%}", *scores,
            )
        )  # fmt: skip
    said = "The error is the root of the mean square of what a codec changes, over that of the memory"
    return "\n".join([*lines, "", f"{_about(found)} {said}."])


def reranking(found: Groups) -> str:
    """A line a reader and ranking: what is read, how often it holds an answer, and what is answered."""
    sets = next(iter(found.values())).decides
    heads = ["reader", "reads"]
    heads += [f"{name}: EM / F1 (an answer is among it)" for name in sets]
    heads += ["core ms a question: ranking", "answering"]
    lines = [line(*heads), rule(len(heads))]
    for group in found.values():
        row = group.any
        scores = (
            f"{row[name]['em']:.1f} / {row[name]['f1']:.1f} ({row[name]['recall']:.0f})" for name in sets
        )
        ms = (f"{row['ms'][part]:,.0f}" for part in ("ranking", "answering"))
        lines.append(line(f"`{row['start']}`", RANKED[row["ranking"]], *scores, *ms))
    return "\n".join([*lines, "", _about(found)])


def _about(found: Groups) -> str:
    rows = [group.any for group in found.values()]
    last, decides = rows[-1], next(iter(found.values())).decides
    counts = ", ".join(f"{last[name]['n']} of {name}" for name in decides)
    revisions = ", ".join(dict.fromkeys(row["git"] for row in rows))
    return (
        f"Questions: {counts}, where the reader has to answer; {last['hardware']['cpu']}, revision "
        f"{revisions}. `{last['command']}`"
    )


TABLES: dict[str, Callable[[Groups], str]] = {"codecs": codecs, "reranking": reranking}
"""By the names that `study.variants.SHIPPED` has them under."""
