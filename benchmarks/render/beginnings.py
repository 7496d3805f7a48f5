"""Table and plot of pre-training in docs/training.md: does it help what comes after?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from render.summaries import MEASURES, NOTHING, datasets, line, rule, spread

Rows = Sequence[dict[str, Any]]

INITIALISATIONS = {"t5": "T5's weights", "matching": "weights that match and copy"}
OBJECTIVES = {"span-corruption": "text", "mixture": "text and questions made of passages", None: "none"}
Key = tuple[str, str | None]
"""Initialisation and objective of pre-training."""


def pretraining(rows: Rows) -> str:
    """Fine-tuned readers with and without pre-training, the margin, and the loss's fall."""
    groups = _groups(rows)
    if not groups:
        return NOTHING
    names = datasets(rows)
    header = [f"{name}: {words}" for name in names for words in MEASURES.values()]
    lines = [line("random weights", "pre-training", "fine-tuning steps", *header), rule(3 + len(header))]
    for (initialisation, objective), group in groups.items():
        cells = [
            spread([row[name][m] for row in group], seeds=len(group) > 1) for name in names for m in MEASURES
        ]
        steps = f"{group[0]['steps']:,}"
        lines.append(line(INITIALISATIONS[initialisation], OBJECTIVES[objective], steps, *cells))
    last = rows[-1]
    about = f"{_costs(rows)} {last['hardware']['cpu']}. `{last['command']}`"
    said = [*_falls(rows), *_margins(groups, names)]
    return "\n".join(
        [*lines, "", *said, "", about, "", "![Loss of pre-training and fine-tuning](pretraining.png)"]
    )


def _falls(rows: Rows) -> list[str]:
    """The loss of text to restore, at both ends of pre-training."""
    said = []
    for row in (row for row in rows if row["stage"] == "pretrain"):
        first, last = row["curve"][0], row["curve"][-1]
        start, objective = INITIALISATIONS[row["initialisation"]], OBJECTIVES[row["objective"]]
        said.append(
            f"Pre-training from {start} with {objective} reads {row['text_tokens'] / 1e6:.1f} million tokens "
            f"of text; the loss falls from {first['loss']:.2f} nats a token (up to step {first['step']}) to "
            f"{last['loss']:.2f}. Other text to restore costs {row['text_loss']:.2f} nats a token afterwards."
        )
    return said


def _margins(groups: dict[Key, Rows], names: Sequence[str]) -> list[str]:
    said = []
    for (initialisation, objective), group in groups.items():
        without = groups.get((initialisation, None))
        if objective and without:
            margins = (_margin(group, without, name) for name in names)
            said.append(
                f"From {INITIALISATIONS[initialisation]}, fine-tuning gains by pre-training with "
                f"{OBJECTIVES[objective]} {'; '.join(margins)}."
            )
    return said


def _margin(with_it: Rows, without: Rows, name: str) -> str:
    em, f1, nats = (
        statistics.mean(row[name][m] for row in with_it) - statistics.mean(row[name][m] for row in without)
        for m in MEASURES
    )
    return f"{em:+.2f} EM, {f1:+.2f} F1 and {nats:+.2f} nats on {name}"


def _costs(rows: Rows) -> str:
    costs = []
    for stage, words in (("pretrain", "Pre-training"), ("finetune", "Fine-tuning")):
        of_stage = [row for row in rows if row["stage"] == stage]
        if of_stage:
            minutes = statistics.mean(row["cpu_seconds"] for row in of_stage) / 60
            steps, questions = (
                " or ".join(f"{n:,}" for n in sorted({row[key] for row in of_stage}))
                for key in ("steps", "questions")
            )
            costs.append(f"{words}: {steps} steps of {questions}, {minutes:.0f} minutes of a CPU core.")
    return " ".join(costs)


def panels(rows: Rows) -> list[dict[str, Any]]:
    """Losses against steps: of pre-training, of fine-tuning."""
    drawn = []
    for stage, title in (("pretrain", "Pre-training"), ("finetune", "Fine-tuning, first seed")):
        lines = {_label(row): _curve(row) for row in reversed(rows) if row["stage"] == stage}
        if lines:
            lines = dict(reversed(lines.items()))
            drawn.append({"kind": "curves", "title": title, "lines": lines, "x": "step", "y": "nats a token"})
    return drawn


def _label(row: dict[str, Any]) -> str:
    words = INITIALISATIONS[row["initialisation"]]
    return f"{words}; {OBJECTIVES[row['objective']]}" if row["objective"] else words


def _curve(row: dict[str, Any]) -> tuple[list[int], list[float]]:
    return [point["step"] for point in row["curve"]], [point["loss"] for point in row["curve"]]


def _groups(rows: Rows) -> dict[Key, Rows]:
    """Fine-tuned readers of each initialisation, those without pre-training last."""
    groups: dict[Key, list[dict[str, Any]]] = {}
    for row in rows:
        if row["stage"] == "finetune":
            groups.setdefault((row["initialisation"], row["objective"]), []).append(row)
    order, last = list(INITIALISATIONS), list(OBJECTIVES)
    return dict(sorted(groups.items(), key=lambda item: (order.index(item[0][0]), last.index(item[0][1]))))


TABLES = {"pretraining": (pretraining, "pretraining.jsonl")}
PICTURES = {"pretraining": (panels, "pretraining.jsonl")}
"""How each plot is made, by its name, and of which rows."""
