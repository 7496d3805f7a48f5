"""Questions with answers as a task: joined with their passages, each once before any comes again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fidkit.errors import DataError
from fidkit.questions.files import Question, read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.cloze import SENTENCE_END
from fidkit.train.data.examples import Drawn
from fidkit.train.data.joined import Ranked, TrainingQuestion, holds, join_passages
from fidkit.train.data.others import Fetch, Others, as_they_are
from fidkit.train.passages import Ref, Say
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec, Unread
from fidkit.types import Passage


class QuestionTask:
    """Questions with answers; every question once before any comes again.

    Args:
        questions: at least one.
        seed: of their orders.
        fetch: the passages that numbers stand for; by default all are passages already.
        unanswerable: kinds of passages to read, none of which holds an answer, where nothing is to be
            written; empty where answers are.

    Raises:
        DataError: no questions.
    """

    def __init__(
        self,
        questions: Sequence[TrainingQuestion],
        seed: int,
        fetch: Fetch = as_they_are,
        unanswerable: Sequence[Unread] = (),
    ) -> None:
        if not questions:
            raise DataError(
                "a task has no questions left; loosen its `where` or `verbatim`, or check its files"
            )
        self.questions, self.seed, self.fetch = questions, seed, fetch
        self.unanswerable, self.others = unanswerable, Others(questions, fetch)
        self._epoch, self._order = -1, list[int]()

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        item = self.questions[self._place(number)]
        if self.unanswerable:
            read = self.others.without_answer(item, rng.choice(self.unanswerable), stage.passages, rng)
            return Drawn(item.question, "", read)
        if stage.context == "retrieved" or not item.positives:
            refs = item.ranked[: stage.passages]
            refs = self.others.fill(refs, item, stage.passages, rng) if stage.fill else refs
            return Drawn(item.question, rng.choice(item.targets), self.fetch(refs) or [Passage("", "", "")])
        chosen = rng.choice(item.positives)
        [positive] = self.fetch([chosen])
        target = rng.choice([t for t in item.targets if holds(positive, t)] or item.targets)
        if stage.sentences:
            positive = cut_around(positive, target, rng, stage.sentences)
        others = self._beside(item, rng, stage)
        if stage.fill:
            others = self.others.fill([chosen, *others], item, stage.passages, rng)[1:]
        return Drawn(item.question, target, _shuffled([positive, *self.fetch(others)], rng))

    def _beside(self, item: TrainingQuestion, rng: random.Random, stage: StageSpec) -> list[Ref]:
        """Retrieved passages that are read beside a positive one."""
        negatives = [p for p in item.ranked if p not in item.positives][: 3 * stage.passages]
        if stage.hardest and rng.random() < stage.hardest:
            return negatives[: stage.passages - 1]
        return rng.sample(negatives, min(len(negatives), stage.passages - 1))

    def _place(self, number: int) -> int:
        epoch, place = divmod(number, len(self.questions))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(len(self.questions)))
            random.Random(f"{self.seed}/{epoch}").shuffle(self._order)
        return self._order[place]


def _shuffled(passages: list[Passage], rng: random.Random) -> list[Passage]:
    rng.shuffle(passages)
    return passages


def cut_around(passage: Passage, answer: str, rng: random.Random, size: int) -> Passage:
    """A window of `size` sentences that holds `answer`; the whole passage if no sentence does."""
    sentences = SENTENCE_END.split(passage.text)
    holding = [i for i, sentence in enumerate(sentences) if answer in sentence]
    if not holding or len(sentences) <= size:
        return passage
    start = rng.choice(holding) - rng.randint(0, size - 1)
    start = max(0, min(start, len(sentences) - size))
    return Passage(passage.id, passage.title, " ".join(sentences[start : start + size]), passage.source)


# Loading


def load_questions(recipe: Recipe, name: str, ranked: Ranked, tokenizer: Tokenizer, say: Say) -> QuestionTask:
    """The task `name` of a recipe; what it leaves out or has to do without is counted and said.

    Raises:
        DataError: a file is malformed, or no question is left.
    """
    spec, left_out, kept = recipe.tasks[name], Counter[str](), list[TrainingQuestion]()
    too_long = (
        f"with answers of more than {recipe.target_tokens} tokens (a higher target_tokens trains on them too)"
    )
    found = ranked.of(spec.retrieved)
    for file in spec.files:
        for question in read_questions(recipe.path(file), where=spec.where):
            item = join_passages(question, ranked.table, found, verbatim=spec.verbatim)
            if spec.unanswerable:
                item = replace(item, targets=("",), answers=question.answers)
            fitting = _with_targets_that_fit(item, tokenizer, recipe.target_tokens)
            if fitting.targets:
                kept.append(fitting)
            else:
                left_out[too_long if item.targets else why_without_targets(question)] += 1
    if left_out:
        counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        note = f"task {name!r}: {left_out.total():,} of {len(kept) + left_out.total():,} questions left out: "
        if not kept:
            raise DataError(f"{note}{counts}; check its files")
        say(f"{note}{counts}")
    if not spec.unanswerable:
        _say_without_passage(recipe, name, kept, say)
    return QuestionTask(kept, recipe.seed, ranked.table.fetch, spec.unanswerable)


def why_without_targets(question: Question) -> str:
    """What a question lacks that `join_passages` found nothing to write for."""
    if not question.answers:
        return "without answers"
    return "without a positive passage that holds an answer word for word (`verbatim`)"


def _with_targets_that_fit(
    item: TrainingQuestion, tokenizer: Tokenizer, target_tokens: int
) -> TrainingQuestion:
    targets = tuple(target for target in item.targets if len(tokenizer.target(target)) <= target_tokens)
    return replace(item, targets=targets)


def _say_without_passage(recipe: Recipe, name: str, items: Sequence[TrainingQuestion], say: Say) -> None:
    lacking = [item for item in items if not item.positives]
    wanted = any(name in stage.mix and stage.context == "positive" for stage in recipe.stages)
    if wanted and lacking:
        unread = sum(not item.ranked for item in lacking)
        say(
            f"task {name!r}: {len(lacking):,} of {len(items):,} questions have no positive passage; "
            'where a stage has context = "positive" they read what was retrieved'
            + (f", {unread:,} of them nothing at all" if unread else "")
            + ("; check the recipe's `passages`" if len(lacking) == len(items) else "")
        )
