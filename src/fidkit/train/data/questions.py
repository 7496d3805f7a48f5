"""Questions with answers as a source: joined with their passages, each once before any comes again."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fidkit.errors import DataError
from fidkit.questions.files import Question, read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.cloze import SENTENCE_END
from fidkit.train.data.examples import Drawn
from fidkit.train.recipe import Recipe, SourceSpec, StageSpec
from fidkit.types import Passage


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


def load_questions(
    recipe: Recipe, name: str, passages: dict[str, Passage], tokenizer: Tokenizer, say: Callable[[str], None]
) -> QuestionSource:
    """The source `name` of a recipe; what it leaves out or has to do without is counted and said.

    Raises:
        DataError: a file is malformed, or no question is left.
    """
    found = list(_training_questions(recipe, recipe.sources[name], passages))
    fitting = (_with_targets_that_fit(item, tokenizer, recipe.target_tokens) for item in found)
    kept = [item for item in fitting if item]
    if len(kept) < len(found):
        left_out = (
            f"source {name!r}: {len(found) - len(kept):,} of {len(found):,} questions left out, whose "
            f"answers have more than {recipe.target_tokens} tokens; a higher target_tokens trains on them too"
        )
        if not kept:
            raise DataError(left_out)
        say(left_out)
    _say_without_passage(recipe, name, kept, say)
    return QuestionSource(kept, recipe.seed)


def _with_targets_that_fit(
    item: TrainingQuestion, tokenizer: Tokenizer, target_tokens: int
) -> TrainingQuestion | None:
    targets = tuple(target for target in item.targets if len(tokenizer.target(target)) <= target_tokens)
    return replace(item, targets=targets) if targets else None


def _say_without_passage(
    recipe: Recipe, name: str, items: Sequence[TrainingQuestion], say: Callable[[str], None]
) -> None:
    lacking = [item for item in items if not item.positives]
    wanted = any(name in stage.mix and stage.context == "positive" for stage in recipe.stages)
    if wanted and lacking:
        unread = sum(not item.ranked for item in lacking)
        say(
            f"source {name!r}: {len(lacking):,} of {len(items):,} questions have no positive passage; "
            'where a stage has context = "positive" they read what was retrieved'
            + (f", {unread:,} of them nothing at all" if unread else "")
            + ("; check the recipe's `passages`" if len(lacking) == len(items) else "")
        )


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
    # Not one table of both: of a large corpus it would be copied for every question.
    own = {p.id: p for p in listed}
    found = (passages.get(i) or own.get(i) for i in question.positive_ids)
    positives = tuple(p for p in found if p is not None)
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
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: expected a readable UTF-8 file of ranked passages, but {reason}; check the path"
        ) from error
    return ranked


def _ranked(line: str, where: str) -> tuple[str, list[str]]:
    try:
        row = json.loads(line)
        return str(row["id"]), [str(i) for i in row["ctx_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: expected {{'id', 'ctx_ids'}}, but {error!r}") from error
