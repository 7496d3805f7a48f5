"""Examples for training: drawn from questions and clozes, batched by length, the same at every resume."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fidkit.corpus.rows import Row, read_document, read_passages
from fidkit.corpus.sources import SourceFile, discover
from fidkit.errors import DataError
from fidkit.evaluate.data import Question, read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.cloze import SENTENCE_END, make_cloze
from fidkit.train.recipe import Recipe, SourceSpec, StageSpec
from fidkit.types import Passage

POOL = 8
"""Batches that are drawn together and sorted by length, so that little is padded."""
CLOZE_ATTEMPTS = 10_000
"""Passages to try for a cloze; where none of so many has a span to ask for, there is hardly one at all."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question to learn from: what to write, what to read."""

    question: str
    target: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Example:
    """`Drawn` as tokens; the target ends with the end of sequence."""

    question: list[int]
    passages: list[list[int]]
    target: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return len(self.question) * len(self.passages) + sum(map(len, self.passages))

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return len(self.question) + max(map(len, self.passages))


class Source(Protocol):
    """Something examples are drawn from."""

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        """The `number`-th example of this source; all that is random comes from `rng`."""


class ClozeSource:
    """Clozes made of passages, in any order."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not passages:
            raise DataError(
                "no passages to make cloze questions of; give `passages` that are not all held out"
            )
        self.passages = passages

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        for _ in range(CLOZE_ATTEMPTS):
            cloze = make_cloze(
                rng.choice(self.passages),
                rng,
                sentences=stage.sentences,
                noise=stage.noise,
                removed=stage.removed,
            )
            if cloze:
                others = rng.sample(self.passages, min(len(self.passages), stage.passages - 1))
                return Drawn(cloze.question, cloze.answer, _shuffled([cloze.passage, *others], rng))
        raise DataError(
            f"{CLOZE_ATTEMPTS:,} passages gave no cloze question; expected sentences of five words or more "
            "with a name, a number or a phrase to ask for"
        )


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question joined with its passages."""

    question: str
    targets: tuple[str, ...]
    positives: tuple[Passage, ...]
    ranked: tuple[Passage, ...]


class QuestionSource:
    """Questions with answers; every question once before any comes again."""

    def __init__(self, questions: Sequence[TrainingQuestion], seed: int) -> None:
        if not questions:
            raise DataError(
                "a source has no questions left; loosen its `where` or `verbatim`, or check its files"
            )
        self.questions, self.seed = questions, seed
        self._epoch, self._order = -1, list[int]()

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        item = self.questions[self._place(number)]
        if stage.context == "retrieved" or not item.positives:
            passages = item.ranked[: stage.passages] or (Passage("", "", ""),)
            return Drawn(item.question, rng.choice(item.targets), passages)
        positive = rng.choice(item.positives)
        target = rng.choice([t for t in item.targets if holds(positive, t)] or item.targets)
        if stage.sentences:
            positive = cut_around(positive, target, rng, stage.sentences)
        negatives = [p for p in item.ranked if p not in item.positives][: 3 * stage.passages]
        others = rng.sample(negatives, min(len(negatives), stage.passages - 1))
        return Drawn(item.question, target, _shuffled([positive, *others], rng))

    def _place(self, number: int) -> int:
        epoch, place = divmod(number, len(self.questions))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(len(self.questions)))
            random.Random(f"{self.seed}/{epoch}").shuffle(self._order)
        return self._order[place]


def _shuffled(passages: list[Passage], rng: random.Random) -> list[Passage]:
    rng.shuffle(passages)
    return passages


def holds(passage: Passage, answer: str) -> bool:
    """Whether `answer` stands in the passage or its title, word for word."""
    return answer in passage.text or answer in passage.title


def cut_around(passage: Passage, answer: str, rng: random.Random, size: int) -> Passage:
    """A window of `size` sentences that holds `answer`; the whole passage if no sentence does."""
    sentences = SENTENCE_END.split(passage.text)
    holding = [i for i, sentence in enumerate(sentences) if answer in sentence]
    if not holding or len(sentences) <= size:
        return passage
    start = rng.choice(holding) - rng.randint(0, size - 1)
    start = max(0, min(start, len(sentences) - size))
    return Passage(passage.id, passage.title, " ".join(sentences[start : start + size]), passage.source)


def verbatim_forms(answers: Iterable[str], passage: Passage) -> list[str]:
    """The answers as they are written in the passage, whatever their case."""
    lower = passage.text.lower()
    forms = []
    for answer in answers:
        start = lower.find(answer.lower())
        # Lower-casing may change the length of a text (İ); then offsets don't carry over.
        if answer and start >= 0 and len(lower) == len(passage.text):
            forms.append(passage.text[start : start + len(answer)])
    return forms


# Loading


def load_passages(recipe: Recipe) -> dict[str, Passage]:
    """All passages of the recipe's sources by id, in memory."""
    files = discover([recipe.path(source) for source in recipe.passages]) if recipe.passages else []
    return {row.id: Passage(row.id, row.title, row.text, file.name) for file in files for row in _rows(file)}


def _rows(file: SourceFile) -> Iterator[Row]:
    if file.kind == "skipped":
        return
    read = read_passages if file.kind == "passages" else read_document
    # As a corpus does: a document that is no text is passed over.
    with file.path.open("rb") as raw, contextlib.suppress(UnicodeDecodeError):
        yield from read(raw, file.name)


def load_sources(recipe: Recipe, passages: dict[str, Passage]) -> dict[str, Source]:
    """The recipe's sources, ready to draw from.

    Raises:
        DataError: a file is malformed, or a source comes out empty.
    """
    sources: dict[str, Source] = {}
    for name, spec in recipe.sources.items():
        if spec.kind == "cloze":
            sources[name] = ClozeSource(_not_held_out(recipe, passages))
        else:
            sources[name] = QuestionSource(list(_training_questions(recipe, spec, passages)), recipe.seed)
    return sources


def _not_held_out(recipe: Recipe, passages: dict[str, Passage]) -> list[Passage]:
    held_out = (q for file in recipe.held_out for q in read_questions(recipe.path(file)))
    titles = {passages[i].title for question in held_out for i in question.positive_ids if i in passages}
    return [p for p in passages.values() if p.title not in titles]


def _training_questions(
    recipe: Recipe, spec: SourceSpec, passages: dict[str, Passage]
) -> Iterator[TrainingQuestion]:
    ranked = {k: v for file in spec.retrieved for k, v in read_ranked(recipe.path(file)).items()}
    for file in spec.files:
        for question in read_questions(recipe.path(file), where=spec.where):
            item = join_passages(question, passages, ranked, verbatim=spec.verbatim)
            if item:
                yield item


def join_passages(
    question: Question, passages: dict[str, Passage], ranked: dict[str, list[str]], *, verbatim: bool
) -> TrainingQuestion | None:
    """A question with its passages; None where it has no answer, or none word for word if that is asked."""
    listed = question.passages or tuple(passages[i] for i in ranked.get(question.id, ()) if i in passages)
    positives = tuple(passages[i] for i in question.positive_ids if i in passages)
    if not question.positive_ids:
        positives = tuple(p for p in listed if any(holds(p, a) for a in question.answers))
    targets = (question.target,) if question.target else question.answers
    if verbatim:
        forms = {p.id: verbatim_forms(targets, p) or verbatim_forms(question.answers, p) for p in positives}
        positives = tuple(p for p in positives if forms[p.id])
        targets = tuple(dict.fromkeys(form for p in positives for form in forms[p.id]))
    return TrainingQuestion(question.question, targets, positives, listed) if targets else None


def read_ranked(path: Path) -> dict[str, list[str]]:
    """Ranked passage ids by question id, from JSONL rows `{"id", "ctx_ids"}`.

    Raises:
        DataError: names file and line.
    """
    ranked = {}
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                identity, found = _ranked(line, f"{path}:{number}")
                ranked[identity] = found
    except (OSError, EOFError, UnicodeError) as error:
        raise DataError(f"{path}: expected a readable UTF-8 file of ranked passages, but {error}") from error
    return ranked


def _ranked(line: str, where: str) -> tuple[str, list[str]]:
    try:
        row = json.loads(line)
        return str(row["id"]), [str(i) for i in row["ctx_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: expected {{'id', 'ctx_ids'}}, but {error!r}") from error


# Batches


class Stream:
    """Batches of examples, a pure function of recipe, sources and position.

    `state()` and `restore()` carry the position through a checkpoint; a restored stream goes on with
    exactly the batches that would have come.
    """

    def __init__(self, recipe: Recipe, sources: dict[str, Source], tokenizer: Tokenizer) -> None:
        self.recipe, self.sources, self.tokenizer = recipe, sources, tokenizer
        self._stage = 0
        self._counts = dict.fromkeys(sources, 0)
        self._start = dict(self._counts)
        self._pool: list[list[Example]] = []
        self._taken = 0

    def state(self) -> dict[str, Any]:
        """Where the current pool started and how much of it is used."""
        return {"stage": self._stage, "start": dict(self._start), "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of `state()`."""
        self._stage, self._counts, taken = state["stage"], dict(state["start"]), state["taken"]
        self._start, self._pool, self._taken = dict(self._counts), [], 0
        for _ in range(taken):
            self.next(self._stage)

    def next(self, stage: int) -> list[Example]:
        """The next batch of a stage, by its number in the recipe."""
        if stage != self._stage or self._taken == len(self._pool):
            self._stage, self._taken = stage, 0
            self._start = dict(self._counts)
            self._pool = self._draw_pool(self.recipe.stages[stage])
        self._taken += 1
        return self._pool[self._taken - 1]

    def _draw_pool(self, stage: StageSpec) -> list[list[Example]]:
        examples = sorted((self._draw(stage) for _ in range(POOL * stage.questions)), key=lambda e: e.longest)
        pool = [examples[i : i + stage.questions] for i in range(0, len(examples), stage.questions)]
        random.Random(f"{self.recipe.seed}/{sum(self._counts.values())}").shuffle(pool)
        return pool

    def _draw(self, stage: StageSpec) -> Example:
        rng = random.Random(f"{self.recipe.seed}/{sorted(self._counts.items())}")
        [name] = rng.choices(list(stage.mix), list(stage.mix.values()))
        drawn = self.sources[name].draw(self._counts[name], rng, stage)
        self._counts[name] += 1
        return encode(drawn, self.tokenizer, self.recipe.target_tokens)


def encode(drawn: Drawn, tokenizer: Tokenizer, target_tokens: int) -> Example:
    """Tokens of a drawn question, cut to what the reader takes."""
    return Example(
        tokenizer.question(drawn.question, sentinels=True).ids,
        tokenizer.passages(drawn.passages),
        tokenizer.target(drawn.target, target_tokens),
    )
