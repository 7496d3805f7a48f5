"""Question files of the field, told apart by their keys and brought into FiD's.

FiD's layout, which DPR's retrieval output has too, is
`{"id"?, "question", "target"?, "answers"?, "ctxs"?: [{"id"?, "title"?, "text", "score"?}], "positive_ids"?,
"near_ids"?, "doc"?}`; the last two are ours: passages near the topic without an answer, and the document.
Keys that a layout doesn't name are somebody else's and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fidkit.errors import DataError
from fidkit.questions.fields import listed, objects, string

Record = dict[str, Any]
# An item of sempre's `(list (description "a b") (description c))`; quotes within are escaped.
DESCRIPTION = re.compile(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()"]+))\)')


class QuestionLayout(NamedTuple):
    """A way to write a question down.

    Attributes:
        name: whose it is.
        keys: what tells it; all of them are there.
        into_fid: the record in FiD's keys; the second argument is its place, for messages.
        without: keys that none of its records has.
    """

    name: str
    keys: tuple[str, ...]
    into_fid: Callable[[Record, str], Record]
    without: tuple[str, ...] = ()

    def fits(self, record: Record) -> bool:
        return all(key in record for key in self.keys) and not any(key in record for key in self.without)


def into_fid(record: Record, where: str) -> Record:
    """The record in FiD's keys, whichever of `LAYOUTS` it has; the first that fits is taken.

    Raises:
        DataError: none fits; names the keys found and the layouts known.
    """
    for layout in LAYOUTS:
        if layout.fits(record):
            return layout.into_fid(record, where)
    known = "; ".join(f"{layout.name} ({', '.join(layout.keys)})" for layout in LAYOUTS)
    found = ", ".join(map(str, list(record)[:12])) or "none"
    raise DataError(
        f"{where}: expected `question` to be a string, got nothing; the record's keys are {found}; "
        f"known layouts: {known}; rename its keys to one of these"
    )


def _fid(record: Record, where: str) -> Record:
    return record


def _trivia(record: Record, where: str) -> Record:
    """TriviaQA's own JSON; its evidence is in files of its own and isn't read."""
    answer = _object(record, "Answer", where)
    return {
        "id": record.get("QuestionId"),
        "question": record["Question"],
        **_trivia_answer(string(answer, "Value", where), listed(answer, "Aliases", where)),
    }


def _trivia_hub(record: Record, where: str) -> Record:
    """TriviaQA as the Hugging Face hub has it, or NQ-open's rows: both say `answer`."""
    answer = record["answer"]
    identity = record.get("id", record.get("question_id"))
    found: Record = {"id": identity, "question": record["question"]}
    if isinstance(answer, dict):
        return found | _trivia_answer(string(answer, "value", where), listed(answer, "aliases", where))
    return found | {"answers": [answer] if isinstance(answer, str) else answer}


def _trivia_answer(value: str, aliases: list[Any]) -> Record:
    """The value is the target; where it shouts, FiD writes it as a title."""
    answers = aliases if value in aliases or not value else [value, *aliases]
    return {"target": (value.title() if value.isupper() else value) or None, "answers": answers}


def _web_questions(record: Record, where: str) -> Record:
    """The files of sempre, whose answers are a Lisp list."""
    found = DESCRIPTION.findall(string(record, "targetValue", where))
    answers = [re.sub(r"\\(.)", r"\1", quoted) or bare.strip() for quoted, bare in found]
    return {"id": record.get("id"), "question": record["utterance"], "answers": answers}


def _kilt(record: Record, where: str) -> Record:
    """An output may be an answer, or only where one stands; pages aren't passages and are left out."""
    given = [output["answer"] for output in objects(record, "output", where) if output.get("answer")]
    return {"id": record.get("id"), "question": record["input"], "answers": list(dict.fromkeys(given))}


def _flashrag(record: Record, where: str) -> Record:
    """What was retrieved stands in `output`, where a run has written it."""
    output = record.get("output")
    hits = objects(output, "retrieval_result", where) if isinstance(output, dict) else []
    return {
        "id": record.get("id"),
        "question": record["question"],
        "answers": record["golden_answers"],
        "ctxs": [_flashrag_passage(hit, where) for hit in hits],
    }


def _flashrag_passage(hit: Record, where: str) -> Record:
    if "text" in hit:
        return hit
    title, _, text = string(hit, "contents", where, required=True).partition("\n")
    return {**hit, "title": title.strip().strip('"'), "text": text}


def _dpr_training(record: Record, where: str) -> Record:
    """Positive passages first, then the hard negatives, then the others."""
    kinds = ("positive_ctxs", "hard_negative_ctxs", "negative_ctxs")
    passages = [[_dpr_passage(p) for p in objects(record, kind, where)] for kind in kinds]
    return {
        "id": record.get("id"),
        "question": record["question"],
        "answers": record.get("answers"),
        "ctxs": [passage for of_kind in passages for passage in of_kind],
        "positive_ids": [passage["id"] for passage in passages[0] if "id" in passage],
    }


def _dpr_passage(passage: Record) -> Record:
    identity = next((passage[key] for key in ("id", "passage_id", "psg_id") if passage.get(key)), None)
    # Scores of the three lists don't compare.
    kept = {key: passage.get(key) for key in ("title", "text")}
    return kept if identity is None else {"id": identity, **kept}


def _atlas(record: Record, where: str) -> Record:
    """Atlas' task rows; its passages may have a section, which belongs to the title."""
    query = record.get("question", record.get("query"))
    passages = [_atlas_passage(p, where) for p in objects(record, "passages", where)]
    return {
        **{key: record[key] for key in ("id", "target", "answers", "positive_ids") if key in record},
        "question": query,
        "ctxs": passages,
    }


def _atlas_passage(passage: Record, where: str) -> Record:
    parts = (string(passage, "title", where), string(passage, "section", where))
    return {**passage, "title": ": ".join(part for part in parts if part)}


def _object(record: Record, key: str, where: str) -> Record:
    value = record.get(key) or {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected `{key}` to be a JSON object, got {type(value).__name__}")
    return value


LAYOUTS = (
    QuestionLayout("TriviaQA", ("Question", "QuestionId"), _trivia),
    QuestionLayout("WebQuestions", ("utterance", "targetValue"), _web_questions),
    QuestionLayout("FlashRAG", ("question", "golden_answers"), _flashrag),
    QuestionLayout("DPR training", ("question", "positive_ctxs"), _dpr_training),
    QuestionLayout("Atlas with passages", ("question", "passages"), _atlas, without=("ctxs",)),
    QuestionLayout(
        "NQ-open, or TriviaQA on the hub", ("question", "answer"), _trivia_hub, ("answers", "target")
    ),
    QuestionLayout("FiD, or DPR's retrieval output", ("question",), _fid),
    QuestionLayout("Atlas", ("query",), _atlas),
    QuestionLayout("KILT", ("input",), _kilt),
)
"""In the order they are tried."""
