"""Say how a training run goes: its evaluations against minutes of a processor core, as a table.

    python benchmarks/learning_curve.py runs/default/log.jsonl [MORE.jsonl ...] [--to ROWS.jsonl]

Logs are laid one after the other in time; a log may be of a run that still goes on. With `--to` their rows
are kept as one log; `python benchmarks/render.py` draws docs/learning-curve.png of those in
benchmarks/results/learning-curve.jsonl. Minutes are those of training steps in process 0, without evaluations
and saves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rows

MEASURES = {"f1": "F1", "em": "EM", "forced_f1": "F1, forced", "forced_em": "EM, forced", "silent": "silent"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Show the logs of training runs, one after the other.")
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, metavar="ROWS", help="where the rows are kept as one log")
    options = parser.parse_args(arguments)
    log = joined([list(rows.read(path)) for path in options.logs])
    print(*table(log), sep="\n")
    if options.to is not None:
        options.to.parent.mkdir(parents=True, exist_ok=True)
        options.to.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")


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
    for record in log:
        if record["kind"] in ("evaluation", "pointing"):
            for name, scores in record.items():
                if isinstance(scores, dict):
                    shown = (f"{scores[key]:.1f}" if key in scores else "" for key in MEASURES)
                    yield f"| {record['minutes']:.1f} | {record['step']:,} | {name} | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()
