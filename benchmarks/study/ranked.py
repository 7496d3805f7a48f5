"""Readers that come along answer from passages that words found, ranked again by other means.

Of each question's first passages by words, a few are read: the first as they are (`words`), the nearest in
meaning (`meaning`), the best by both as a hybrid search mixes them (`both`), or those with the largest share
in an answer out of all (`shares`). With `none` all are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import judging
from judging import Asked

from fidkit.engine.meaning import minilm
from fidkit.engine.runner import Runner
from fidkit.evaluate.evaluate import Result, evaluate
from fidkit.evaluate.metrics import exact_match
from fidkit.passages import Corpus
from fidkit.passages.search.hybrid import Convex
from fidkit.questions.files import Question, read_questions
from fidkit.reader import Reader
from fidkit.types import Hit, Passage
from study.variants import SETS, Shipped

FOUND, READ = 20, 5
ASKED = 200
"""Questions of each set at most: all passages are read for each."""

Found = list[tuple[Question, list[Hit]]]


class Ranked:
    """Judges readers by what they answer out of the best passages.

    Args:
        data: folder with qa.
        corpus: a built corpus, searched by words.
        limit: questions of each set.
        stack: closes what is opened here.
    """

    def __init__(self, data: Path, corpus: Path, limit: int, stack: ExitStack) -> None:
        searched = stack.enter_context(Corpus.open(corpus))
        self._found: dict[str, Found] = {}
        for name in SETS:
            questions = list(read_questions(data / "qa" / f"dev.{name}.jsonl.gz"))[: min(limit, ASKED)]
            hits = searched.search_all([q.question for q in questions], FOUND, "words")
            self._found[name] = list(zip(questions, hits, strict=True))
        self._runner, self._all = cache(_runner), cache(self._answers_of_all)
        self._meaning = cache(self._similarities)

    def judged(self, one: Shipped) -> dict[str, Any]:
        """The outcome part of a row; times are of a processor, in milliseconds a question."""
        scores, milliseconds = {}, {"ranking": 0.0, "answering": 0.0}
        for name in self._found:
            asked, took = self._ranked(one, name)
            if one.ranking == "none":
                results, answering = self._all(one.reader, name)
            else:
                began = time.process_time()
                results = judging.results(self._runner(one.reader), asked)
                answering = time.process_time() - began
            milliseconds["ranking"] += 1000 * took / len(asked) / len(self._found)
            milliseconds["answering"] += 1000 * answering / len(asked) / len(self._found)
            scores[name] = guessed(results)
        n = sum(len(found) for found in self._found.values())
        seconds = sum(milliseconds.values()) * n / 1000
        return {
            "decides": list(scores), **scores, "cpu_seconds": round(seconds, 1), "states_seconds": 0.0,
            "ranking": one.ranking, "found": FOUND, "passages": FOUND if one.ranking == "none" else READ,
            "ms": milliseconds,
        }  # fmt: skip

    def _ranked(self, one: Shipped, name: str) -> tuple[Asked, float]:
        """Questions with the passages that are read, best first, and seconds of ranking them."""
        found = self._found[name]
        if one.ranking == "shares":
            results, took = self._all(one.reader, name)
            shares = [[e.passage for e in answer.evidence][:READ] for _, _, answer in results]
            return [(question, best) for (question, _), best in zip(found, shares, strict=True)], took
        if one.ranking in ("words", "none"):
            kept = READ if one.ranking == "words" else FOUND
            return [(question, [hit.passage for hit in hits[:kept]]) for question, hits in found], 0.0
        similarities, took = self._meaning(name)
        asked = [
            (question, _best(hits, near, one.ranking))
            for (question, hits), near in zip(found, similarities, strict=True)
        ]
        return asked, took

    def _answers_of_all(self, reader: str, name: str) -> tuple[list[Result], float]:
        began = time.process_time()
        asked = [(question, [hit.passage for hit in hits]) for question, hits in self._found[name]]
        return judging.results(self._runner(reader), asked), time.process_time() - began

    def _similarities(self, name: str) -> tuple[list[list[float]], float]:
        """Of each question, how near in meaning its passages are: products of vectors of length 1."""
        began, encoder, near = time.process_time(), minilm(), []
        for question, hits in self._found[name]:
            vector_D = encoder.of_questions([question.question])[0]
            near.append((encoder.of_passages([hit.passage for hit in hits]) @ vector_D).tolist())
        return near, time.process_time() - began


def _runner(reader: str) -> Runner:
    """In the precision that this machine is fastest in."""
    return Runner(Reader.from_pretrained(reader), "auto")


def _best(hits: Sequence[Hit], near: Sequence[float], ranking: str) -> list[Passage]:
    """The passages that are read; of equal ones, those first that words found first."""
    scores = list(near)
    if ranking == "both":
        mix, ranks = Convex(), range(1, len(hits) + 1)
        by_words = mix.shares(ranks, [hit.score for hit in hits], full=True)
        by_meaning = mix.shares(ranks, scores, full=True)
        scores = [
            (1 - mix.weight) * words + mix.weight * meaning
            for words, meaning in zip(by_words, by_meaning, strict=True)
        ]
    order = sorted(range(len(hits)), key=lambda at: -scores[at])
    return [hits[at].passage for at in order[:READ]]


def guessed(results: Sequence[Result]) -> dict[str, Any]:
    """What answers are worth where the reader has to give one; `right` has a character a question."""
    report = evaluate(results)
    right = [exact_match(answer.guess, question.answers) for question, _, answer in results]
    return {
        "n": report.n, "em": report.forced_em, "f1": report.forced_f1,
        "recall": max(report.recall.items())[1], "right": "".join(str(int(one)) for one in right),
    }  # fmt: skip
