"""Questions with their answers and, maybe, their passages: JSON and JSONL files of the field.

Which layout a record has is found out from its keys (`fidkit.questions.layouts`). Passages keep the order of
the file, since rank matters for recall and for which of them are read.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fidkit.errors import DataError
from fidkit.questions.fields import listed, objects, parse_json, required, string, text_of
from fidkit.questions.layouts import into_fid
from fidkit.types import Passage


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a training or evaluation file.

    Attributes:
        id: as the file says, or the record's number counted from 0.
        question: the question itself.
        answers: all accepted answers, blank ones left out; the target alone where the file has no others.
        target: the string to train on, if the file chose one and it isn't blank.
        passages: in the file's order, the best first.
        scores: the retriever's score of each passage; empty unless every passage has one.
        positive_ids: ids of passages known to hold an answer.
        near_ids: ids of passages about its topic that are known to hold none.
        document: names what the passages are from; questions about one document share it. Empty if unknown.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    target: str | None = None
    passages: tuple[Passage, ...] = ()
    scores: tuple[float, ...] = ()
    positive_ids: tuple[str, ...] = ()
    near_ids: tuple[str, ...] = ()
    document: str = ""


def read_questions(
    path: str | Path, where: Mapping[str, Collection[str]] | None = None
) -> Iterator[Question]:
    """The questions of a file: JSONL (streamed), a JSON list or TriviaQA's object (read whole), or gzipped.

    Args:
        path: the file.
        where: keep only records whose value of each key, as the file has it, is one of those given.

    Raises:
        DataError: the file can't be read, or a record is malformed or of no known layout; says which file
            and line.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            for number, (place, record) in enumerate(_records(file, path)):
                if all(isinstance(record, dict) and record.get(k) in v for k, v in (where or {}).items()):
                    yield _question(record, str(number), place, path.name)
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: expected a readable UTF-8 file of questions, but {reason}; check the path"
        ) from error


def _records(file: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    """Each record with the place it stands at, for messages."""
    whole = True
    for number, line in enumerate(file, start=1):
        if whole and (line.lstrip().startswith("[") or line.strip() == "{"):
            yield from _read_whole(line + file.read(), path)
        elif line.strip():
            whole = False
            where = f"{path}:{number}"
            yield from _unpacked(parse_json(line, where), where)


def _read_whole(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """A list, or one object that is written over several lines."""
    content = parse_json(text, str(path))
    if isinstance(content, list):
        content = {"Data": content}
    yield from _unpacked(content, str(path))


def _unpacked(record: Any, where: str) -> Iterator[tuple[str, Any]]:
    """TriviaQA has its questions in a list of one object."""
    if not isinstance(record, dict) or not isinstance(record.get("Data"), list):
        yield where, record
        return
    for number, inner in enumerate(record["Data"], start=1):
        yield f"{where}: record {number}", inner


def _question(record: Any, number: str, where: str, source: str) -> Question:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object with a question, got {type(record).__name__}")
    record = into_fid(record, where)
    identity = text_of(number if record.get("id") is None else record["id"], "id", where)
    # A blank answer is none: nobody can be right with it, or learn to write it.
    written = string(record, "target", where)
    target = written if written.strip() else None
    contexts = objects(record, "ctxs", where)
    given = [text_of(answer, "answers", where) for answer in listed(record, "answers", where)]
    answers = tuple(answer for answer in given if answer.strip())
    return Question(
        id=identity,
        question=required(record, "question", where),
        answers=answers or ((target,) if target is not None else ()),
        target=target,
        passages=tuple(
            _passage(context, f"{identity}/{rank}", where, source) for rank, context in enumerate(contexts)
        ),
        scores=_scores(contexts, where),
        positive_ids=_ids(record, "positive_ids", where),
        near_ids=_ids(record, "near_ids", where),
        document=_document(record.get("doc")),
    )


def _ids(record: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    return tuple(text_of(identity, key, where) for identity in listed(record, key, where))


def _document(given: Any) -> str:
    """Of `doc` as our files have it; what other people call so is left alone."""
    return str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""


def _passage(context: dict[str, Any], number: str, where: str, source: str) -> Passage:
    return Passage(
        id=text_of(context.get("id", number), "id", where),
        title=string(context, "title", where),
        text=string(context, "text", where, required=True),
        source=source,
    )


def _scores(contexts: list[dict[str, Any]], where: str) -> tuple[float, ...]:
    given = [context.get("score") for context in contexts]
    if any(score is None for score in given):
        return ()
    try:
        # FiD's own files hold scores as strings.
        return tuple(float(score) for score in given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: expected every `score` to be a number, but {error}") from error
