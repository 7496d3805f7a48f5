"""Tested evidence: what it costs, and what a right answer becomes without the first piece and the last.

    python benchmarks/tested_evidence.py --data DATA --corpus DIR [--reader pocket] [--answers 300]

Questions of dev.squad and dev.newwiki in turn, each with the passages that a search finds, until so many
answers were right. Each of these is given twice, with and without the test. Appends a row to
benchmarks/results/tested-evidence.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import rows
import torch
from judging import SETS

from fidkit import Answer, Answerer
from fidkit.engine.generation.decoding import Decoding
from fidkit.evaluate.contexts import passages_for
from fidkit.evaluate.metrics import exact_match
from fidkit.passages import Corpus
from fidkit.questions.files import Question, read_questions
from fidkit.types import Passage

FORCED = Decoding(min_tokens=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tested evidence.")
    parser.add_argument("--data", type=Path, required=True, help="folder with qa/dev.*.jsonl.gz")
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus")
    parser.add_argument("--reader", default="pocket")
    parser.add_argument("--passages", type=int, default=5, help="read for a question, and left out in turn")
    parser.add_argument("--answers", type=int, default=300, help="right ones")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "tested-evidence.jsonl")
    options = parser.parse_args()
    sets = (read_questions(options.data / "qa" / f"dev.{name}.jsonl.gz") for name in SETS)
    questions = [*itertools.chain.from_iterable(zip(*sets, strict=False))]
    with Corpus.open(options.corpus) as corpus, Answerer(options.reader) as qa:
        asked = passages_for(questions, "retrieved", options.passages, corpus)
        found = measure(qa, asked, options.passages, options.answers)
    rows.append(options.to, rows.row("tested-evidence", reader=options.reader, **found))


def measure(
    qa: Answerer, questions: Iterator[tuple[Question, list[Passage]]], passages: int, answers: int
) -> dict[str, object]:
    """Shares of right answers, and medians of milliseconds."""
    plain_ms: list[float] = []
    tested_ms: list[float] = []
    first = last = asked = 0
    for question, read in questions:
        if len(plain_ms) == answers:
            break
        if len(read) < passages:
            continue
        asked += 1
        answer, ms = timed(qa, question, read, 0)
        if not exact_match(answer.guess, question.answers):
            continue
        answer, with_ms = timed(qa, question, read, passages)
        plain_ms.append(ms)
        tested_ms.append(with_ms)
        tested = [e.without for e in answer.evidence if e.without]
        first += not exact_match(tested[0].text, [answer.guess])
        last += not exact_match(tested[-1].text, [answer.guess])
    n = len(plain_ms)
    return {
        "threads": torch.get_num_threads(), "asked": asked, "n": n, "passages": passages,
        "changed_without_first": 100 * first / n, "changed_without_last": 100 * last / n,
        "answer_ms": median(plain_ms), "tested_ms": median(tested_ms),
        "ms_a_passage": (median(tested_ms) - median(plain_ms)) / passages,
    }  # fmt: skip


def timed(qa: Answerer, question: Question, read: list[Passage], tests: int) -> tuple[Answer, float]:
    """An answer and its milliseconds."""
    start = time.perf_counter()
    answer = qa.read(question.question, read, decoding=FORCED, test_evidence=tests)
    return answer, 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
