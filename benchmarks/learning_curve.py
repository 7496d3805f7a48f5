"""Keep the logs of training runs as one: the rows of docs/learning-curve.png.

    python benchmarks/learning_curve.py runs/pocket/log.jsonl [MORE.jsonl ...] [--to ROWS.jsonl]

Logs are laid one after the other in time. The rows take the place of those in
benchmarks/results/learning-curve.jsonl; `python benchmarks/render.py` draws them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Keep the logs of training runs, one after the other.")
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "learning-curve.jsonl", metavar="ROWS")
    options = parser.parse_args(arguments)
    log = joined([list(rows.read(path)) for path in options.logs])
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text("".join(json.dumps(record) + "\n" for record in log), encoding="utf-8")


def joined(logs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of all logs with `minutes` since the start of the first."""
    result, offset = [], 0.0
    for number, log in enumerate(logs):
        result += [{"run": number, "minutes": round((offset + r["seconds"]) / 60, 2), **r} for r in log]
        offset += max(r["seconds"] for r in log)
    return result


if __name__ == "__main__":
    main()
