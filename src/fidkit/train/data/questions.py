"""Questions with answers as a task: joined with their passages, each once before any comes again."""

from __future__ import annotations

import gzip
import random
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fidkit.errors import DataError
from fidkit.questions.fields import parse_json, text_of
from fidkit.questions.files import Question, read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.cloze import SENTENCE_END
from fidkit.train.data.examples import Drawn
from fidkit.train.passages import PassageTable, Ref, Say
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec
from fidkit.types import Passage


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question joined with its passages: their numbers in a table, or those that it brought along."""

    question: str
    targets: tuple[str, ...]
    positives: Sequence[Ref]
    ranked: Sequence[Ref]


Fetch = Callable[[Sequence[Ref]], list[Passage]]


def as_they_are(refs: Sequence[Ref]) -> list[Passage]:
    """Passages that questions brought along."""
    assert not any(isinstance(ref, int) for ref in refs), "a number, but no table"
    return [ref for ref in refs if isinstance(ref, Passage)]


class QuestionTask:
    """Questions with answers; every question once before any comes again.

    Args:
        questions: at least one.
        seed: of their orders.
        fetch: the passages that numbers stand for; by default all are passages already.

    Raises:
        DataError: no questions.
    """

    def __init__(self, questions: Sequence[TrainingQuestion], seed: int, fetch: Fetch = as_they_are) -> None:
        if not questions:
            raise DataError(
                "a task has no questions left; loosen its `where` or `verbatim`, or check its files"
            )
        self.questions, self.seed, self.fetch = questions, seed, fetch
        self._epoch, self._order = -1, list[int]()

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        item = self.questions[self._place(number)]
        if stage.context == "retrieved" or not item.positives:
            passages = self.fetch(item.ranked[: stage.passages]) or [Passage("", "", "")]
            return Drawn(item.question, rng.choice(item.targets), passages)
        [positive] = self.fetch([rng.choice(item.positives)])
        target = rng.choice([t for t in item.targets if holds(positive, t)] or item.targets)
        if stage.sentences:
            positive = cut_around(positive, target, rng, stage.sentences)
        negatives = [p for p in item.ranked if p not in item.positives][: 3 * stage.passages]
        others = rng.sample(negatives, min(len(negatives), stage.passages - 1))
        return Drawn(item.question, target, _shuffled([positive, *self.fetch(others)], rng))

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


class Ranked:
    """The passages of a recipe by number, and what its files rank for each question; a file is read once.

    Args:
        recipe: says where files are.
        table: its passages.
        say: told how many of a file's ids it lacks.
    """

    def __init__(self, recipe: Recipe, table: PassageTable, say: Say) -> None:
        self.recipe, self.table, self.say = recipe, table, say
        self._files: dict[str, dict[str, Sequence[int]]] = {}

    def of(self, files: Iterable[str]) -> dict[str, Sequence[int]]:
        """Numbers of ranked passages by question id; where two files rank for one, the later counts.

        Raises:
            DataError: a file is malformed; names file and line.
        """
        merged: dict[str, Sequence[int]] = {}
        for file in files:
            if file not in self._files:
                self._files[file] = self._numbered(self.recipe.path(file))
            merged |= self._files[file]
        return merged

    def _numbered(self, path: Path) -> dict[str, Sequence[int]]:
        numbered: dict[str, Sequence[int]] = {}
        ids = missing = 0
        for identity, listed in ranked_rows(path):
            found = [self.table.number(passage) for passage in listed]
            numbered[identity] = array("q", (number for number in found if number is not None))
            ids, missing = ids + len(found), missing + len(found) - len(numbered[identity])
        if missing:
            self.say(
                f"{path}: {missing:,} of {ids:,} ranked ids left out, which no passage has; "
                "check the recipe's `passages`"
            )
        return numbered


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
    _say_without_passage(recipe, name, kept, say)
    return QuestionTask(kept, recipe.seed, ranked.table.fetch)


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


def join_passages(
    question: Question, table: PassageTable, ranked: Mapping[str, Sequence[int]], *, verbatim: bool
) -> TrainingQuestion:
    """A question with its passages, and no targets where it has no answer, or none that is right.

    Args:
        question: of a file.
        table: the passages that it names.
        ranked: numbers of passages by question id, for questions that bring none along.
        verbatim: keep only positive passages that hold an answer word for word, and write that form.
    """
    listed: Sequence[Ref] = question.passages or ranked.get(question.id, ())
    positives: list[Ref] = []
    for identity in question.positive_ids:
        number = table.number(identity)
        positives += [number] if number is not None else [p for p in question.passages if p.id == identity]
    targets = (question.target,) if question.target else question.answers
    if not question.positive_ids:
        texts = table.fetch(listed)
        holding = [any(holds(p, a) for a in question.answers) for p in texts]
        positives = [ref for ref, holds_one in zip(listed, holding, strict=True) if holds_one]
    if verbatim:
        found = [
            (ref, verbatim_forms(targets, p) or verbatim_forms(question.answers, p))
            for ref, p in zip(positives, table.fetch(positives), strict=True)
        ]
        positives = [ref for ref, forms in found if forms]
        targets = tuple(dict.fromkeys(form for _, forms in found for form in forms))
    return TrainingQuestion(question.question, targets, positives, listed)


def read_ranked(path: Path) -> dict[str, list[str]]:
    """Ranked passage ids by question id, as `ranked_rows` has them."""
    return dict(ranked_rows(path))


def ranked_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Question id and ranked passage ids, from JSONL rows `{"id", "ctx_ids"}`.

    Raises:
        DataError: names file and line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                yield _ranked(line, f"{path}:{number}")
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: expected a readable UTF-8 file of ranked passages, but {reason}; check the path"
        ) from error


def _ranked(line: str, where: str) -> tuple[str, list[str]]:
    row = parse_json(line, where)
    if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("ctx_ids"), list):
        raise DataError(f'{where}: expected {{"id": ..., "ctx_ids": [...]}}, got {line.strip()[:60]!r}')
    return text_of(row["id"], "id", where), [text_of(i, "ctx_ids", where) for i in row["ctx_ids"]]
