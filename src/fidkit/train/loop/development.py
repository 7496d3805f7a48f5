"""Answers development questions while training."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from fidkit.context import Batch, collate
from fidkit.engine.generation.decoding import GREEDY
from fidkit.engine.generation.generate import generate
from fidkit.errors import DataError
from fidkit.evaluate.metrics import exact_match, f1
from fidkit.questions.files import Question, read_questions
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.data.joined import Ranked, TrainingQuestion, join_passages
from fidkit.train.losses.auxiliary import Auxiliary
from fidkit.train.losses.pointing import point
from fidkit.train.passages import PassageTable, Ref, Say
from fidkit.train.recipe import Recipe
from fidkit.train.specs import EvaluationContext
from fidkit.types import Passage

BATCH = 32
"""Passages that are read together, or those of one question where it has more."""
FORCED = "forced_"
NEAR = "near"
"""What questions without an answer read."""
logger = logging.getLogger(__name__)
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its answers (none where nothing should be written), and the passages to read."""

    question: str
    answers: tuple[str, ...]
    passages: list[Passage]


class Development:
    """The first questions of each evaluation file that have passages to read, joined once.

    Args:
        recipe: its `evaluation`.
        table: the recipe's passages.
        say: told how many questions were left out, and why.

    Raises:
        DataError: a file is malformed, or none of its questions has passages.
    """

    def __init__(self, recipe: Recipe, table: PassageTable, say: Say = logger.info) -> None:
        self.spec, self.bfloat16 = recipe.evaluation, recipe.precision == "bfloat16"
        self.recipe, self.table, self.say = recipe, table, say
        ranked = Ranked(recipe, table, say)
        self.sets: dict[str, list[Asked]] = {}
        for name, file in self.spec.files.items():
            joined = self._join(file, name, ranked)
            for label, context in self._contexts(name):
                self.sets[label] = self._ask(file, label, context, joined)
        for name, file in self.spec.unanswerable.items():
            self.sets[name] = self._ask(file, name, NEAR, self._join(file, name, ranked))

    def _contexts(self, name: str) -> Iterator[tuple[str, EvaluationContext]]:
        """What a set is asked with, and what it is called in the log then."""
        given = self.spec.context
        if isinstance(given, str):
            yield name, given
            return
        for context in given:
            # Of several contexts, that of ranked passages is for sets with a ranking.
            if context != "retrieved" or name in self.spec.retrieved:
                yield f"{name}/{context}", context

    def _join(self, file: str, name: str, ranked: Ranked) -> list[tuple[Question, TrainingQuestion]]:
        found = ranked.of([self.spec.retrieved[name]] if name in self.spec.retrieved else [])
        questions = read_questions(self.recipe.path(file))
        return [(q, join_passages(q, self.table, found, verbatim=False)) for q in questions]

    def _ask(
        self,
        file: str,
        name: str,
        context: str,
        joined: Sequence[tuple[Question, TrainingQuestion]],
    ) -> list[Asked]:
        spec, chosen, left_out = self.spec, list[Asked](), Counter[str]()
        for (question, item), refs in zip(joined, self._refs(context, joined), strict=True):
            if refs and (item.targets or context == NEAR):
                chosen.append(Asked(question.question, question.answers, self.table.fetch(refs)))
            else:
                left_out[f"without {context} passages" if item.targets else "without answers"] += 1
            if len(chosen) == spec.limit:
                break
        counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        if not chosen:
            raise DataError(
                f"{self.recipe.path(file)}: no question with {context} passages, so nothing to evaluate on "
                f"({counts or 'no questions'}); check `passages` and `evaluation.retrieved`"
            )
        if left_out:
            looked_at = len(chosen) + left_out.total()
            self.say(
                f"evaluation {name!r}: {left_out.total():,} of {looked_at:,} questions left out: {counts}"
            )
        return sorted(chosen, key=lambda item: max(len(p.text) for p in item.passages))

    def _refs(
        self, context: str, joined: Sequence[tuple[Question, TrainingQuestion]]
    ) -> Iterator[Sequence[Ref]]:
        """What each question reads; foreign passages are of the question half a file away."""
        items = [item for _, item in joined]
        half = len(items) // 2
        for number, item in enumerate(items):
            if context == "retrieved":
                yield item.ranked[: self.spec.passages]
            elif context == "foreign":
                other = items[(number + half) % len(items)]
                yield [ref for ref in other.positives[:1] if ref not in item.positives]
            else:
                yield item.near[:1] if context == NEAR else item.positives[:1]

    # Answering

    def scores(self, reader: Reader) -> Scores:
        """EM and F1 (percent) of each set, and what else the recipe asks for.

        With `forced`, also EM and F1 where the first token may not end the answer, and how often it would
        (`silent`, percent); that alone of questions without an answer.
        """
        reader.eval()
        return {name: self._score(reader, items) for name, items in self.sets.items()}

    def pointed(self, reader: Reader, auxiliary: Auxiliary) -> Scores:
        """EM and F1 (percent) of the pieces of passages that the pointer finds; of sets with answers."""
        reader.eval()
        found = {}
        for name, items in self.sets.items():
            if any(item.answers for item in items):
                sums = {"em": 0.0, "f1": 0.0}
                for part in _parts(items):
                    for item, text in zip(part, self._pieces(reader, auxiliary, part), strict=True):
                        sums["em"] += exact_match(text, item.answers)
                        sums["f1"] += f1(text, item.answers)
                found[name] = {key: round(100 * value / len(items), 2) for key, value in sums.items()}
        return found

    def _score(self, reader: Reader, items: list[Asked]) -> dict[str, float]:
        answerable, sums = any(item.answers for item in items), defaultdict[str, float](float)
        for part in _parts(items):
            for item, (text, forced) in zip(part, self._answers(reader, part), strict=True):
                sums["em"] += exact_match(text, item.answers)
                sums["f1"] += f1(text, item.answers)
                if self.spec.forced:
                    sums[f"{FORCED}em"] += exact_match(forced, item.answers)
                    sums[f"{FORCED}f1"] += f1(forced, item.answers)
                if self.spec.forced or not answerable:
                    sums["silent"] += not text
        wanted = sums if answerable else ["silent"]
        return {name: round(100 * sums[name] / len(items), 2) for name in wanted}

    def _answers(self, reader: Reader, part: Sequence[Asked]) -> Iterator[tuple[str, str]]:
        """What is written for each, and what would be if the first token could not end it."""
        tokenizer, batch = _tokens(reader, part)
        with self._computing(reader):
            context = reader.read(batch)
            free = generate(reader, context).ids_BT
            forced = free
            if self.spec.forced and (free[:, 0] == reader.config.end_token).any():
                forced = generate(reader, context, replace(GREEDY, min_tokens=1)).ids_BT
        for ids in zip(free.tolist(), forced.tolist(), strict=True):
            written, otherwise = (tokenizer.decode([i for i in row if i >= 0]) for row in ids)
            yield written, otherwise

    def _pieces(self, reader: Reader, auxiliary: Auxiliary, part: Sequence[Asked]) -> list[str]:
        """What the pointer finds for each."""
        tokenizer, batch = _tokens(reader, part)
        with self._computing(reader):
            context = reader.read(batch)
            pieces = point(batch, context, auxiliary.pointer(context.states_BMD))
        return [tokenizer.passage_backend.decode(ids).strip() for ids in pieces]

    @contextmanager
    def _computing(self, reader: Reader) -> Iterator[None]:
        device = reader.embedding.weight.device.type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
            yield


def _parts(items: list[Asked]) -> Iterator[list[Asked]]:
    """Questions that are answered together."""
    step = max(1, BATCH // max(len(item.passages) for item in items))
    return (items[start : start + step] for start in range(0, len(items), step))


def _tokens(reader: Reader, part: Sequence[Asked]) -> tuple[Tokenizer, Batch]:
    assert reader.tokenizer is not None
    batch = collate(
        [reader.tokenizer.question(item.question).ids for item in part],
        [reader.tokenizer.passages(item.passages) for item in part],
    )
    return reader.tokenizer, batch.to(reader.embedding.weight.device)


def mean_f1(scores: Mapping[str, Mapping[str, float]]) -> float:
    """What picks the best reader: of all sets with answers in what they read, forced where that was asked."""
    found = [s.get(f"{FORCED}f1", s["f1"]) for name, s in scores.items() if _counts(name, s)]
    return sum(found) / len(found)


def _counts(name: str, score: Mapping[str, float]) -> bool:
    return "f1" in score and not name.endswith("/foreign")
