"""Tested evidence: what it costs, and what a right answer becomes without the first piece and the last.

    python benchmarks/tested_evidence.py --data DATA --corpus DIR [--reader pocket] [--answers 300]

Questions of dev.squad, dev.newwiki and dev.nq in turn, each with the passages that a search finds, until so
many answers were right. Each of these is given twice, with and without the test of all its passages. Evidence
that was tested is listed by what the answer loses without it; beside its first piece, the passage that had
the largest share before is counted. Appends a row to benchmarks/results/tested-evidence.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import rows

from fidkit import Answer, Answerer
from fidkit.engine.generation.decoding import Decoding
from fidkit.evaluate.contexts import passages_for
from fidkit.evaluate.metrics import exact_match
from fidkit.native.threads import threads
from fidkit.questions.files import Question, read_questions
from fidkit.types import Passage

SETS = ("squad", "newwiki", "nq")
FORCED = Decoding(min_tokens=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tested evidence.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/dev.*.jsonl.gz")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus")
    parser.add_argument("--reader", default="pocket")
    parser.add_argument("--passages", type=int, default=20, help="read for a question, and left out in turn")
    parser.add_argument("--answers", type=int, default=300, help="right ones")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "tested-evidence.jsonl")
    options = parser.parse_args()
    sets = (read_questions(options.data / "qa" / f"dev.{name}.jsonl.gz") for name in SETS)
    questions = [*itertools.chain.from_iterable(zip(*sets, strict=False))]
    with Answerer.open(options.corpus, options.reader) as qa:
        asked = passages_for(questions, "retrieved", options.passages, qa.corpus)
        found = measure(qa, asked, options.passages, options.answers)
    rows.append(options.to, rows.row("tested-evidence", reader=options.reader, **found))


def measure(
    qa: Answerer, questions: Iterator[tuple[Question, list[Passage]]], passages: int, answers: int
) -> dict[str, Any]:
    """Shares of right answers that became another, and medians of milliseconds."""
    plain_ms: list[float] = []
    tested_ms: list[float] = []
    changed = {"first": 0, "largest_share": 0, "last": 0}
    asked = tests = 0
    for question, read in questions:
        if len(plain_ms) == answers:
            break
        if len(read) < passages:
            continue
        asked += 1
        answer, ms = timed(qa, question, read, 0)
        if not exact_match(answer.guess, question.answers):
            continue
        largest = answer.evidence[0].passage
        answer, with_ms = timed(qa, question, read, passages)
        plain_ms.append(ms)
        tested_ms.append(with_ms)
        others = [(e.passage, e.without.text) for e in answer.evidence if e.without]
        tests += len(others)
        without = {
            "first": others[0][1],
            "largest_share": next(text for passage, text in others if passage == largest),
            "last": others[-1][1],
        }
        for name, text in without.items():
            changed[name] += not exact_match(text, [answer.guess])
    n = len(plain_ms)
    return {
        "threads": threads(), "asked": asked, "n": n, "passages": passages,
        **{f"changed_without_{name}": 100 * count / n for name, count in changed.items()},
        "answer_ms": median(plain_ms), "tested_ms": median(tested_ms),
        "ms_a_passage": (median(tested_ms) - median(plain_ms)) / (tests / n),
    }  # fmt: skip


def timed(qa: Answerer, question: Question, read: list[Passage], tests: int) -> tuple[Answer, float]:
    """An answer and its milliseconds."""
    start = time.perf_counter()
    answer = qa.read(question.question, read, decoding=FORCED, test_evidence=tests)
    return answer, 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
