"""What a reader's answers lose to 8 bits."""

from __future__ import annotations

from typing import Any

from render.summaries import NOTHING, line, rule

Rows = list[dict[str, Any]]
EXACT = "float32"


def answers(records: Rows) -> str:
    """Exact match and F1 of each setting, in float32 and in 8 bits, by the newest rows."""
    newest = {(row["setting"], row["precision"]): row for row in records}
    lines = [line("", "questions", "float32", "int8", "int8 less float32"), rule(5)]
    for setting in dict.fromkeys(row["setting"] for row in records):
        exact, rounded = newest.get((setting, EXACT)), newest.get((setting, "int8"))
        if exact is None or rounded is None:
            continue
        apart = " / ".join(f"{rounded[of] - exact[of]:+.1f}" for of in ("em", "f1"))
        lines.append(line(setting, f"{exact['n']:,}", _scores(exact), _scores(rounded), apart))
    if len(lines) == 2:
        return NOTHING
    last = records[-1]
    about = f"`{last['reader']}`, {last['hardware']['cpu']}. `{last['command']}`"
    return "\n".join([*lines, "", about])


def _scores(row: dict[str, Any]) -> str:
    return f"{row['em']:.1f} / {row['f1']:.1f}"


TABLES = {"precisions": (answers, "quality-precision.jsonl")}
