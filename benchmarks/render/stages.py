"""What the bundled reader answered after its last recipes: what more questions and more hours gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from render.summaries import NOTHING, line, rule

SETTINGS = {
    "squad/gold": "squad, the passage with the answer",
    "newwiki/gold": "newwiki, the same",
    "everyday/gold": "everyday, the same",
    "squad/retrieved-5": "squad, 5 retrieved",
    "newwiki/retrieved-5": "newwiki, 5 retrieved",
    "nq/retrieved-5": "nq, 5 retrieved",
}
"""Settings of `benchmarks/quality.py` that every stage was judged in, and their heads."""


@dataclass(frozen=True)
class Stage:
    """A reader that was bundled.

    Attributes:
        recipe: that it was trained by last.
        hours: of core time in all that it had had by then.
        everyday, encyclopedia: questions that were written for it.
    """

    recipe: str
    hours: int
    everyday: int
    encyclopedia: int


STAGES = {
    "f1e1d0a63ee72f48": Stage("everyday-all", 7, 7_935, 0),
    "5f421faed405c351": Stage("longer-retrieved", 9, 14_789, 6_070),
    "9754b28de8d45235": Stage("further", 12, 36_708, 32_907),
}
"""By the fingerprint of the reader, as rows have it."""


def stages(records: list[dict[str, Any]]) -> str:
    """EM / F1 where the reader has to answer: a line a stage, a column a set and what is seen of it."""
    found = {(record["fingerprint"], record["setting"]): record for record in records}
    heads = ["after", "core hours", "questions about everyday documents", "about an encyclopedia"]
    heads += SETTINGS.values()
    lines = [line(*heads), rule(len(heads))]
    for fingerprint, stage in STAGES.items():
        judged = [found.get((fingerprint, setting)) for setting in SETTINGS]
        if any(judged):
            cells = [f"`recipes/{stage.recipe}.toml`", f"{stage.hours}"]
            cells += [f"{count:,}" if count else "none" for count in (stage.everyday, stage.encyclopedia)]
            cells += [f"{r['forced_em']:.1f} / {r['forced_f1']:.1f}" if r else "" for r in judged]
            lines.append(line(*cells))
    if len(lines) == 2:
        return NOTHING
    legend = "Exact match / F1 in percent, where the reader has to answer. `python benchmarks/quality.py`"
    return "\n".join([*lines, "", legend])


TABLES = {"reader-stages": (stages, "quality.jsonl")}
