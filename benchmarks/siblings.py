"""What a question costs with each reader that comes with fidkit: as it is, and from a stored memory.

    python benchmarks/siblings.py [--reader NAME ...] [--passages 20] [--rounds 7] [--threads 2]

The questions of examples/own-folder over its documents, whose memory is built for each reader that can have
one. All readers take turns at each question; a round asks all questions. Appends a row a reader, and one
more with its memory, to benchmarks/results/siblings.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import rows
import torch

from fidkit import Answerer, assets
from fidkit.cli.app import run
from fidkit.reader import Reader

EXAMPLE = Path(__file__).parents[1] / "examples" / "own-folder"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the readers that come with fidkit.")
    parser.add_argument("--reader", nargs="*", default=list(assets.READERS), help="names or directories")
    parser.add_argument("--passages", type=int, default=20)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--codec", default="bf16", help="of memories")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "siblings.jsonl", help="rows go here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = (EXAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines][: options.questions]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        subjects, bytes_a_passage = opened(options.reader, Path(folder), options.codec, stack)
        seconds = timed(subjects, questions, options.passages, options.rounds)
        for (name, stored), found in seconds.items():
            record = {"reader": name, "memory": stored, "passages": options.passages, "codec": options.codec}
            record |= {"questions": len(questions), "rounds": options.rounds, "threads": options.threads}
            record |= {"ms": 1000 * median(found), "bytes_a_passage": bytes_a_passage.get(name)}
            rows.append(options.to, rows.row("siblings", **record))


def opened(
    readers: list[str], folder: Path, codec: str, stack: contextlib.ExitStack
) -> tuple[dict[tuple[str, bool], Answerer], dict[str, float]]:
    """An answerer for each reader without a memory, and with one where it has any; bytes of a passage."""
    subjects: dict[tuple[str, bool], Answerer] = {}
    bytes_a_passage: dict[str, float] = {}
    for number, name in enumerate(readers):
        corpus = folder / f"{number}.corpus"
        called("corpus", "build", str(EXAMPLE / "documents"), "--to", str(corpus))
        subjects[name, False] = stack.enter_context(Answerer.open(corpus, name, stored=False))
        if Reader.from_pretrained(name).config.memory_layers:
            built = called("memory", "build", str(corpus), "--reader", name, "--codec", codec, "--json")
            bytes_a_passage[name] = built["bytes"] / built["encoded"]
            subjects[name, True] = stack.enter_context(Answerer.open(corpus, name))
    return subjects, bytes_a_passage


def called(*arguments: str) -> dict[str, Any]:
    """What a command prints as JSON, if it does."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if code := run(list(arguments)):
            raise SystemExit(code)
    found: dict[str, Any] = json.loads(out.getvalue()) if "--json" in arguments else {}
    return found


def timed(
    subjects: dict[tuple[str, bool], Answerer], questions: list[str], passages: int, rounds: int
) -> dict[tuple[str, bool], list[float]]:
    """Seconds of each answer, after a round that counts for nothing."""
    seconds: dict[tuple[str, bool], list[float]] = {subject: [] for subject in subjects}
    for turn in range(rounds + 1):
        for question in questions if turn else questions[:2]:
            for subject, qa in subjects.items():
                start = time.perf_counter()
                qa.answer(question, k=passages)
                if turn:
                    seconds[subject].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
