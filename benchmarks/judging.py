"""Readers judged by the questions kept for it, each with the one passage that holds the answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

from fidkit.context import IGNORED, Batch, Context, collate
from fidkit.engine.answering import answer_batch
from fidkit.engine.runner import Runner
from fidkit.evaluate.contexts import passages_for
from fidkit.evaluate.evaluate import Result, evaluate
from fidkit.memory import MemoryStore
from fidkit.passages import Corpus
from fidkit.passages.token_cache import passage_key
from fidkit.questions.files import Question, read_questions
from fidkit.reader import Reader
from fidkit.types import Passage

SETS = ("squad", "newwiki")
BATCH = 20
Asked = Sequence[tuple[Question, list[Passage]]]
"""Questions with what is read for them."""


def gold(data: Path, corpus: Path, limit: int | None = None, names: Sequence[str] = SETS) -> dict[str, Asked]:
    """By dataset, questions with the passage that is known to hold the answer.

    Args:
        data: folder with `qa/dev.*.jsonl.gz`.
        corpus: a built corpus of their passages.
        limit: questions of each; None takes all.
        names: of datasets.
    """
    return {name: _gold(data / "qa" / f"dev.{name}.jsonl.gz", corpus, limit) for name in names}


def _gold(file: Path, corpus: Path, limit: int | None) -> list[tuple[Question, list[Passage]]]:
    with Corpus.open(corpus) as opened:
        return list(islice(passages_for(list(read_questions(file)), "gold", 1, opened), limit))


def judge_all(reader: Reader, sets: dict[str, Asked]) -> dict[str, dict[str, float]]:
    """`judge` by dataset, as the part of a row that says how good a reader is."""
    return {name: judge(reader, asked) for name, asked in sets.items()}


def judge(reader: Reader, asked: Asked) -> dict[str, float]:
    """Exact match and F1 (percent), and the log-likelihood (nats) of the first answer given its passage."""
    runner, likelihood = Runner(reader, "float32"), 0.0
    for at in range(0, len(asked), BATCH):
        questions, passages = zip(*asked[at : at + BATCH], strict=True)
        likelihood += log_likelihood(runner, questions, passages)
    report = evaluate(results(runner, asked))
    return {
        "n": report.n, "em": report.em, "f1": report.f1, "log_likelihood": likelihood / len(asked),
        "seconds": report.seconds,
    }  # fmt: skip


def results(runner: Runner, asked: Asked, memory: MemoryStore | None = None) -> list[Result]:
    """Questions with a reader's answers, from a stored memory if there is one."""
    found: list[Result] = []
    for at in range(0, len(asked), BATCH):
        questions, passages = zip(*asked[at : at + BATCH], strict=True)
        answers = answer_batch(runner, [q.question for q in questions], passages, memory=memory)
        found += map(Result, questions, passages, answers)
    return found


@torch.inference_mode()
def log_likelihood(
    runner: Runner,
    questions: tuple[Question, ...],
    passages: tuple[list[Passage], ...],
    memory: MemoryStore | None = None,
) -> float:
    """Summed over questions: the logarithm of the probability that the reader writes the first answer.

    With a memory, passages are read from it; it has to have all of them.
    """
    reader, tokenizer = runner.reader, runner.reader.tokenizer
    assert tokenizer is not None
    batch = collate(
        [tokenizer.question(question.question).ids for question in questions],
        [tokenizer.passages(of_one) for of_one in passages],
        [tokenizer.target(question.answers[0]) for question in questions],
    )
    assert batch.labels is not None
    assert (batch.labels != IGNORED).any()
    context = runner.read(batch) if memory is None else _remembered(runner, batch, passages, memory)
    return -float(reader.answer_loss(batch.labels, context))


def _remembered(
    runner: Runner, batch: Batch, passages: tuple[list[Passage], ...], memory: MemoryStore
) -> Context:
    keys = [passage_key(passage) for of_one in passages for passage in of_one]
    return runner.read_memory(batch, memory.fetch(memory.find(keys), runner.memory_type).result().memory_XD)
