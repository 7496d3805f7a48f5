"""Questions with their answers and, maybe, their passages: FiD's JSON and JSONL files.

A record is `{"id"?, "question", "target"?, "answers"?, "ctxs"?: [{"id"?, "title"?, "text", "score"?}],
"positive_ids"?}`; other keys are somebody else's and are left alone. Passages keep the order of the file,
since rank matters for recall and for which of them are read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fidkit.errors import DataError
from fidkit.types import Passage


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a training or evaluation file.

    Attributes:
        id: as the file says, or the record's number counted from 0.
        question: the question itself.
        answers: all accepted answers; the target alone where the file has no others.
        target: the string to train on, if the file chose one.
        passages: in the file's order, the best first.
        scores: the retriever's score of each passage; empty unless every passage has one.
        positive_ids: ids of passages known to hold an answer.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    target: str | None = None
    passages: tuple[Passage, ...] = ()
    scores: tuple[float, ...] = ()
    positive_ids: tuple[str, ...] = ()


def read_questions(
    path: str | Path, where: Mapping[str, Collection[str]] | None = None
) -> Iterator[Question]:
    """The questions of a FiD file: a JSON list (read whole) or JSONL (streamed), gzipped or not.

    Args:
        path: the file.
        where: keep only records whose value of each key is one of those given.

    Raises:
        DataError: the file can't be read, or a record is malformed; says which file and line.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            for number, (place, record) in enumerate(_records(file, path)):
                if all(isinstance(record, dict) and record.get(k) in v for k, v in (where or {}).items()):
                    yield _question(record, str(number), place, path.name)
    except (OSError, EOFError, UnicodeError) as error:
        raise DataError(f"{path}: expected a readable UTF-8 file of questions, but {error}") from error


def _records(file: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """Each record with the place it stands at, for messages."""
    for number, line in enumerate(file, start=1):
        if line.lstrip().startswith("[") and number == 1:
            yield from _listed(line + file.read(), path)
        elif line.strip():
            where = f"{path}:{number}"
            yield where, _parse(line, where)


def _listed(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, record in enumerate(_parse(text, str(path)), start=1):
        yield f"{path}: record {number}", record


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: expected a JSON record, but {error}") from error


def _question(record: Any, number: str, where: str, source: str) -> Question:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object with a question, got {type(record).__name__}")
    identity = _text_of(record.get("id", number), "id", where)
    target = _string(record, "target", where) if record.get("target") is not None else None
    contexts = _list(record, "ctxs", where)
    answers = tuple(_text_of(answer, "answers", where) for answer in _list(record, "answers", where))
    return Question(
        id=identity,
        question=_required(record, "question", where),
        answers=answers or ((target,) if target is not None else ()),
        target=target,
        passages=tuple(
            _passage(context, f"{identity}/{rank}", where, source) for rank, context in enumerate(contexts)
        ),
        scores=_scores(contexts, where),
        positive_ids=tuple(_text_of(i, "positive_ids", where) for i in _list(record, "positive_ids", where)),
    )


def _passage(context: Any, number: str, where: str, source: str) -> Passage:
    if not isinstance(context, dict):
        raise DataError(f"{where}: expected `ctxs` to hold JSON objects, got {type(context).__name__}")
    return Passage(
        id=_text_of(context.get("id", number), "id", where),
        title=_string(context, "title", where),
        text=_string(context, "text", where, required=True),
        source=source,
    )


def _scores(contexts: list[Any], where: str) -> tuple[float, ...]:
    given = [context.get("score") for context in contexts]
    if any(score is None for score in given):
        return ()
    try:
        # FiD's own files hold scores as strings.
        return tuple(float(score) for score in given)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: expected every `score` to be a number, but {error}") from error


def _required(record: dict[str, Any], key: str, where: str) -> str:
    value = _string(record, key, where, required=True)
    if not value.strip():
        raise DataError(f"{where}: `{key}` is empty; give it a text or leave the record out")
    return value


def _string(record: dict[str, Any], key: str, where: str, *, required: bool = False) -> str:
    value = record.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        got = "nothing" if value is None else type(value).__name__
        raise DataError(f"{where}: expected `{key}` to be a string, got {got}")
    return value


def _list(record: dict[str, Any], key: str, where: str) -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where}: expected `{key}` to be a list, got {type(value).__name__}")
    return value


def _text_of(value: Any, key: str, where: str) -> str:
    """Ids and answers are often bare numbers in other people's files."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"{where}: expected `{key}` to hold strings or numbers, got {type(value).__name__}")
    return str(value)
