"""Plot the log of a training run.

    python benchmarks/learning_curve.py runs/pocket/log.jsonl [MORE.jsonl ...] --to docs/learning-curve.png

Logs are laid one after the other in time. The rows that are plotted go to benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import rows

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend must be chosen first


def main() -> None:
    parser = argparse.ArgumentParser(description="Plot the logs of training runs, one after the other.")
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="the picture to write")
    options = parser.parse_args()
    log = joined([list(rows.read(path)) for path in options.logs])
    kept = rows.RESULTS / f"{options.to.stem}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")
    draw(log, options.to)


def joined(logs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of all logs with `minutes` since the start of the first."""
    result, offset = [], 0.0
    for number, log in enumerate(logs):
        result += [{"run": number, "minutes": round((offset + r["seconds"]) / 60, 2), **r} for r in log]
        offset += max(r["seconds"] for r in log)
    return result


def draw(log: list[dict[str, Any]], path: Path) -> None:
    """Losses above, exact match and F1 of the development samples below."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    train = [record for record in log if record["kind"] == "train"]
    for name in ("loss", "guide", "pointer", "overlap"):
        points = [(r["minutes"], r[name]) for r in train if name in r]
        above.plot(*zip(*points, strict=True), label="answer" if name == "loss" else name)
    above.set_ylabel("loss (nats)")
    above.legend()
    evaluations = [record for record in log if record["kind"] == "evaluation"]
    for name in sorted({key for r in evaluations for key, value in r.items() if isinstance(value, dict)}):
        for measure, style in (("f1", "o-"), ("em", "s--")):
            points = [(r["minutes"], r[name][measure]) for r in evaluations if name in r]
            below.plot(*zip(*points, strict=True), style, label=f"{name} {measure.upper()}")
    below.set_ylabel("percent")
    below.set_xlabel("minutes of training steps")
    below.legend()
    for boundary in {r["run"] for r in log} - {0}:
        start = min(r["minutes"] for r in log if r["run"] == boundary)
        for axis in (above, below):
            axis.axvline(start, color="grey", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
