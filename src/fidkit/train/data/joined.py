"""Questions of files joined with their passages: by id, by rank, or as they brought them along."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fidkit.errors import DataError
from fidkit.questions.fields import parse_json, text_of
from fidkit.questions.files import Question
from fidkit.train.passages import PassageTable, Ref, Say
from fidkit.train.recipe import Recipe
from fidkit.types import Passage


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question joined with its passages: their numbers in a table, or those that it brought along.

    Attributes:
        question: the question.
        targets: to be written, one of them; an empty one is no answer.
        positives: passages known to hold an answer.
        ranked: retrieved passages, the best first.
        near: passages about its topic that are known to hold none.
        document: what its passages are from; empty if unknown.
        answers: all that count as right; looked for where there should be none.
    """

    question: str
    targets: tuple[str, ...]
    positives: Sequence[Ref]
    ranked: Sequence[Ref]
    near: Sequence[Ref] = ()
    document: str = ""
    answers: tuple[str, ...] = ()


def holds(passage: Passage, answer: str) -> bool:
    """Whether `answer` stands in the passage or its title, word for word."""
    return answer in passage.text or answer in passage.title


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
    near = tuple(number for number in map(table.number, question.near_ids) if number is not None)
    return TrainingQuestion(question.question, targets, positives, listed, near, question.document)


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
