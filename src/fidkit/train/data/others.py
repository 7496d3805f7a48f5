"""Passages to read that weren't retrieved for a question, and those that must not hold an answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property

from fidkit.evaluate.metrics import has_answer
from fidkit.train.data.joined import TrainingQuestion
from fidkit.train.passages import Ref
from fidkit.train.specs import Unread
from fidkit.types import Passage

Fetch = Callable[[Sequence[Ref]], list[Passage]]
ATTEMPTS = 10
"""Questions to look at for each passage that is wanted."""


def as_they_are(refs: Sequence[Ref]) -> list[Passage]:
    """Passages that questions brought along."""
    assert not any(isinstance(ref, int) for ref in refs), "a number, but no table"
    return [ref for ref in refs if isinstance(ref, Passage)]


class Others:
    """The passages of all questions of a task, as passages beside those of one.

    Args:
        questions: of the task.
        fetch: the passages that numbers stand for.
    """

    def __init__(self, questions: Sequence[TrainingQuestion], fetch: Fetch) -> None:
        self.questions, self.fetch = questions, fetch

    def fill(
        self, chosen: Sequence[Ref], item: TrainingQuestion, count: int, rng: random.Random
    ) -> list[Ref]:
        """`chosen`, and others behind them up to `count`: of the same document, then of other questions.

        Fewer where the task has no more; none is known to be positive.
        """
        filled = list(chosen)
        if len(filled) < count:
            filled += self._new(self._of_document(item, rng), item, filled)[: count - len(filled)]
        for _ in range(ATTEMPTS * (count - len(filled))):
            if len(filled) == count:
                break
            filled += self._new(self._foreign(item, rng), item, filled)
        return filled

    def without_answer(
        self, item: TrainingQuestion, kind: Unread, count: int, rng: random.Random
    ) -> list[Passage]:
        """Up to `count` passages that don't hold an answer as far as is known, in any order; one at least."""
        candidates: list[Ref] = []
        if kind == "near":
            near = list(item.near)
            rng.shuffle(near)
            candidates = near or self._of_document(item, rng)
        if kind != "foreign":
            candidates += self._new(item.ranked, item, candidates)
        read = self._unanswering(self._new(candidates, item, ()), item, count)
        for _ in range(ATTEMPTS * (count - len(read))):
            if len(read) == count:
                break
            new = self._unanswering(self._new(self._foreign(item, rng), item, ()), item, 1)
            read += [passage for passage in new if passage not in read]
        rng.shuffle(read)
        return read or [Passage("", "", "")]

    def _unanswering(self, refs: Sequence[Ref], item: TrainingQuestion, count: int) -> list[Passage]:
        """The first `count` without an answer; read a few at a time."""
        found: list[Passage] = []
        for start in range(0, len(refs), count):
            passages = self.fetch(refs[start : start + count])
            found += [p for p in passages if not has_answer(item.answers, f"{p.title} {p.text}")]
            if len(found) >= count:
                break
        return found[:count]

    def _new(self, refs: Sequence[Ref], item: TrainingQuestion, chosen: Sequence[Ref]) -> list[Ref]:
        """Those that are neither chosen yet nor positive."""
        return [ref for ref in refs if ref not in chosen and ref not in item.positives]

    def _of_document(self, item: TrainingQuestion, rng: random.Random) -> list[Ref]:
        """All passages of the question's document, in any order."""
        refs = list(self._by_document.get(item.document, ())) if item.document else []
        rng.shuffle(refs)
        return refs

    def _foreign(self, item: TrainingQuestion, rng: random.Random) -> list[Ref]:
        """A passage of another question, about something else; none where the draw had no luck."""
        other = self.questions[rng.randrange(len(self.questions))]
        refs = other.positives or other.near or other.ranked[:1]
        same = other is item or (other.document and other.document == item.document)
        return [rng.choice(refs)] if refs and not same else []

    @cached_property
    def _by_document(self) -> dict[str, list[Ref]]:
        found: dict[str, dict[Ref, None]] = {}
        for item in self.questions:
            if item.document:
                of_one = found.setdefault(item.document, {})
                of_one |= dict.fromkeys([*item.positives, *item.near, *item.ranked])
        return {document: list(refs) for document, refs in found.items()}
