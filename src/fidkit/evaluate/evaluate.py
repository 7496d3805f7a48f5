"""From answered questions to one report. Knows answers, not what made them."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fidkit.errors import DataError, FidkitError
from fidkit.evaluate.calibration import Reliability, reliability
from fidkit.evaluate.metrics import exact_match, f1, is_loop, recall_at
from fidkit.questions.files import Question
from fidkit.types import Answer, Passage, distinct

CUTOFFS = (1, 5, 10, 20, 40, 100)
_MEANS = ("em", "f1", "forced_em", "forced_f1")
SMALLEST_SHARE = 1e-9
"""A passage without any share still has a finite score."""


class Result(NamedTuple):
    """A question, the passages that were read for it in rank order, and the answer they led to."""

    question: Question
    passages: Sequence[Passage]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Report:
    """Means over questions.

    Attributes:
        n: number of questions.
        em: exact match, percent (0 to 100).
        f1: word overlap, percent (0 to 100).
        recall: percent of questions with an answer among the first k passages, by k.
        seconds: wall time, the answering included.
        forced_em: exact match with the guess in place of answers that were withheld, percent.
        forced_f1: the same of word overlap.
        silent: percent of questions without an answer: withheld, or ended at once.
        verbatim: of the guesses that aren't empty, those that stand in a passage or a title, percent.
        loops: guesses that go round in a circle (`metrics.is_loop`), a count.
        calibration: how far confidence can be trusted (`fidkit.evaluate.calibration`).
    """

    n: int
    em: float
    f1: float
    recall: dict[int, float]
    seconds: float
    forced_em: float
    forced_f1: float
    silent: float
    verbatim: float
    loops: int
    calibration: Reliability

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; the keys of `recall` are strings there."""
        recall = {str(k): value for k, value in self.recall.items()}
        coverage = {str(percent): value for percent, value in self.calibration.coverage.items()}
        calibration = {"expected_error": self.calibration.expected_error, "coverage": coverage}
        return {**asdict(self), "recall": recall, "calibration": calibration}


def evaluate(
    results: Iterable[Result],
    *,
    predictions: Path | None = None,
    scores: Path | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> Report:
    """Judge results as they come.

    Each is written to `predictions` (JSONL) at once, so an interrupted run keeps what it has, and so is what
    the reader made of its passages to `scores` (see `scored`). Recall at k looks at the first k different
    passages of the ranked list, since a text that comes again can't add to what is found; it is reported for
    the cutoffs that some question has passages enough for.

    Raises:
        DataError: no results, or a question without answers to judge by.
        FidkitError: `predictions` or `scores` can't be written.
    """
    start = time.perf_counter()
    n, deepest, sums, found = 0, 0, Counter[str](), Counter[int]()
    confidences: list[float] = []
    right: list[bool] = []
    with _lines_to(predictions, "predictions") as file, _lines_to(scores, "scores") as scored_file:
        for question, passages, answer in results:
            row = _row(question, passages, answer)
            if file is not None:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if scored_file is not None:
                scored_file.write(json.dumps(scored(question, passages, answer), ensure_ascii=False) + "\n")
            n += 1
            deepest = max(deepest, len(distinct(passages)))
            sums.update({name: row[name] for name in _MEANS} | {"silent": not answer.text})
            sums.update(guesses=bool(answer.guess), verbatim=row["verbatim"], loops=is_loop(answer.guess))
            confidences.append(answer.confidence)
            right.append(bool(row["forced_em"]))
            found.update(_hits(question, passages, cutoffs))
    if not n:
        raise DataError("no questions to evaluate; expected at least one")
    recall = {k: 100 * found[k] / n for k in cutoffs if k <= deepest}
    seconds = time.perf_counter() - start
    means = {name: 100 * sums[name] / n for name in (*_MEANS, "silent")}
    means["verbatim"] = 100 * sums["verbatim"] / max(1, sums["guesses"])
    trusted = reliability(confidences, right)
    return Report(n=n, recall=recall, seconds=seconds, calibration=trusted, loops=sums["loops"], **means)


def _row(question: Question, passages: Sequence[Passage], answer: Answer) -> dict[str, Any]:
    if not question.answers and not question.near_ids:
        raise DataError(f"question {question.id!r} has no answers to judge by; add `answers` or `target`")

    def judged(text: str) -> dict[str, float]:
        # To say nothing is right where there is no answer (SQuAD 2.0).
        accepted = question.answers or ("",)
        return {"em": int(exact_match(text, accepted)), "f1": f1(text, accepted)}

    others = [alternative.to_json() for alternative in answer.alternatives]
    return {
        "id": question.id,
        "question": question.question,
        "prediction": answer.text,
        "guess": answer.guess,
        "confidence": answer.confidence,
        "verbatim": bool(answer.guess) and answer.verbatim,
        "score": answer.score,
        **({"alternatives": others} if others else {}),
        **judged(answer.text),
        **{f"forced_{name}": value for name, value in judged(answer.guess).items()},
        "answers": list(question.answers),
        "passage_ids": [passage.id for passage in passages],
    }


def scored(question: Question, passages: Sequence[Passage], answer: Answer) -> dict[str, Any]:
    """A question with what the reader made of its passages: a row of FiD's JSONL, to train a retriever on.

    The score of a passage is the logarithm of its share of the answer, so that the softmax over a question's
    scores, which FiD's retriever learns (Izacard and Grave, arXiv 2012.04584), gives the shares back. Equal
    passages are one row, with what all of them got.
    """
    shares: defaultdict[tuple[str, str], float] = defaultdict(float)
    for e in answer.evidence:
        shares[e.passage.title, e.passage.text] += e.score
    ctxs = [
        {
            "id": p.id,
            "title": p.title,
            "text": p.text,
            "score": math.log(max(shares[p.title, p.text], SMALLEST_SHARE)),
        }
        for p in distinct(passages)
    ]
    asked = {"id": question.id, "question": question.question, "answers": list(question.answers)}
    return {**asked, **({"target": question.target} if question.target else {}), "ctxs": ctxs}


def _hits(question: Question, passages: Sequence[Passage], cutoffs: Sequence[int]) -> list[int]:
    texts = (f"{passage.title} {passage.text}" for passage in distinct(passages))
    return [k for k, hit in recall_at(cutoffs, question.answers, texts).items() if hit]


@contextmanager
def _lines_to(path: Path | None, what: str) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8", buffering=1)  # a line a question reaches the disk at once
    except OSError as error:
        raise FidkitError(f"{path}: can't write {what} ({error.strerror}); choose another file") from error
    with file:
        yield file
