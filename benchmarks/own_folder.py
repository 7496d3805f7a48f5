"""Measure readers and small language models on the folder of examples/own-folder.

    python benchmarks/own_folder.py [--reader pocket] [--passages 3 10] [--model NAME=FILE.gguf ...]

Appends a row each to benchmarks/results/own-folder.jsonl; `python benchmarks/render.py` renders them into
README. Language models read the first 3 passages that the same search finds (examples/own-folder/peers.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import rows

EXAMPLE = Path(__file__).parents[1] / "examples" / "own-folder"


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge readers by questions about a folder.")
    parser.add_argument("--reader", default="pocket")
    parser.add_argument("--passages", nargs="*", type=int, default=[3, 10])
    parser.add_argument("--model", action="append", default=[], help="NAME=FILE.gguf; repeatable")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "own-folder.jsonl", help="rows go here")
    options = parser.parse_args()
    for n in options.passages:
        append(options.to, judged("judge.py", "--reader", options.reader, "--passages", str(n)))
    for model in options.model:
        for record in judged("peers.py", "--model", model)["models"]:
            append(options.to, record)


def judged(script: str, *given: str) -> dict[str, Any]:
    """The JSON that a script of the example prints."""
    command = [sys.executable, str(EXAMPLE / script), "--json", *given]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def append(to: Path, record: dict[str, Any]) -> None:
    """A row without the single answers."""
    rows.append(to, rows.row("own-folder", **{key: record[key] for key in record if key != "answers"}))


if __name__ == "__main__":
    main()
