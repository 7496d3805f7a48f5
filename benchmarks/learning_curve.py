"""Plot the log of a training run against minutes of a processor core, and print its evaluations as a table.

    python benchmarks/learning_curve.py runs/pocket/log.jsonl [MORE.jsonl ...] --to docs/learning-curve.png
    python benchmarks/learning_curve.py runs/default/log.jsonl

Logs are laid one after the other in time; a log may be of a run that is still going on. The rows that are
plotted go to benchmarks/results/ too. Minutes are those of training steps in process 0, without evaluations
and saves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import rows

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend must be chosen first

LOSSES = {"loss": "answer", "guide": "guide", "pointer": "pointer", "overlap": "overlap"}
MEASURES = {"f1": "F1", "em": "EM", "forced_f1": "F1, forced", "forced_em": "EM, forced", "silent": "silent"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Plot the logs of training runs, one after the other.")
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, help="the picture to write; without it, only the table is printed")
    options = parser.parse_args()
    log = joined([list(rows.read(path)) for path in options.logs])
    print(*table(log), sep="\n")
    if options.to is None:
        return
    kept = rows.RESULTS / f"{options.to.stem}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")
    draw(log, options.to)


def joined(logs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of all logs with `minutes` of a core since the start of the first."""
    result, offset = [], 0.0
    for number, log in enumerate(logs):
        seconds = [r.get("cpu_seconds", r["seconds"]) for r in log]
        for s, r in zip(seconds, log, strict=True):
            result.append({"run": number, "minutes": round((offset + s) / 60, 2), **r})
        offset += max(seconds, default=0.0)
    return result


def table(log: list[dict[str, Any]]) -> Iterator[str]:
    """A row of Markdown for each evaluation and set: exact match and F1, free and forced, and silence."""
    yield f"| core minutes | step | set | {' | '.join(MEASURES.values())} |"
    yield f"|---|---|---|{'---|' * len(MEASURES)}"
    for record in evaluations(log):
        for name, scores in sets(record):
            shown = (f"{scores[key]:.1f}" if key in scores else "" for key in MEASURES)
            yield f"| {record['minutes']:.1f} | {record['step']:,} | {name} | {' | '.join(shown)} |"


def evaluations(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have some."""
    return [record for record in log if record["kind"] in ("evaluation", "pointing")]


def sets(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Names and scores of an evaluation's sets."""
    return ((name, value) for name, value in record.items() if isinstance(value, dict))


def draw(log: list[dict[str, Any]], path: Path) -> None:
    """Losses above, exact match and F1 of the development samples below: forced ones where there are any."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    train = [record for record in log if record["kind"] == "train"]
    for name, label in LOSSES.items():
        points = [(r["minutes"], r[name]) for r in train if name in r]
        if points:
            above.plot(*zip(*points, strict=True), label=label)
    above.set_ylabel("loss (nats)")
    above.legend()
    found = evaluations(log)
    for name in sorted({name for record in found for name, _ in sets(record)}):
        for measure, style in (("f1", "o-"), ("em", "s--")):
            points = [
                (r["minutes"], value) for r in found if (value := _best(r.get(name), measure)) is not None
            ]
            if points:
                below.plot(*zip(*points, strict=True), style, label=f"{name} {measure.upper()}")
    below.set_ylabel("percent")
    below.set_xlabel("core minutes of training steps")
    below.legend(fontsize="x-small", ncols=2)
    for boundary in {r["run"] for r in log} - {0}:
        start = min(r["minutes"] for r in log if r["run"] == boundary)
        for axis in (above, below):
            axis.axvline(start, color="grey", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _best(scores: dict[str, float] | None, measure: str) -> float | None:
    return None if scores is None else scores.get(f"forced_{measure}", scores.get(measure))


if __name__ == "__main__":
    main()
