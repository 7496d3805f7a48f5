"""Which passages a reader gets for an evaluation question: its own, or those of a control."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

from fidkit.errors import DataError
from fidkit.passages.protocol import Passages
from fidkit.questions.files import Question
from fidkit.types import Passage, distinct
from fidkit.wording import counted

ContextKind = Literal["retrieved", "gold", "near", "foreign", "foreign-gold", "none"]
"""`retrieved`: the best by search, or the file's own. `gold`: one passage known to hold the answer.
`near`: one on the topic known to hold none. `foreign` and `foreign-gold`: what another question of the file
would get. `none`: no passage at all."""

_log = logging.getLogger(__name__)
_NO_CORPUS = "the questions bring no passages of their own (`ctxs`); give --corpus to search in"


def passages_for(
    questions: Sequence[Question], kind: ContextKind, n: int, corpus: Passages | None
) -> Iterator[tuple[Question, list[Passage]]]:
    """Each question with what it is to read.

    With `gold`, `near` and `foreign-gold`, questions without a known passage are left out. Another
    question is the one half a file away: neighbours often share an article. Equal passages of a question are
    one, so that n passages are n different texts.

    Args:
        questions: in the order of the file.
        kind: see `ContextKind`.
        n: passages a question, for `retrieved` and `foreign`.
        corpus: for questions that bring no passages of their own.

    Raises:
        DataError: one question alone has no other to take passages from, or a question brings no passages
            and there is no corpus to search in.
    """
    if kind in ("gold", "foreign-gold"):
        questions = _knowing("positive_ids", kind, questions)
    if kind == "near":
        questions = _knowing("near_ids", kind, questions)
    if kind in ("retrieved", "foreign") and corpus is None:
        _require_passages(questions)
    shift = len(questions) // 2 if kind in ("foreign", "foreign-gold") else 0
    if kind in ("foreign", "foreign-gold") and not shift:
        raise DataError(
            f"{kind} passages come from other questions; expected 2 or more, got {len(questions)}"
        )
    for number, question in enumerate(questions):
        other = questions[(number + shift) % len(questions)]
        if kind == "none":
            yield question, []
        elif kind == "near":
            yield question, _known(question, question.near_ids, corpus)
        elif kind in ("gold", "foreign-gold"):
            yield question, _known(other, other.positive_ids, corpus)
        else:
            yield question, distinct(other.passages)[:n] or _found(other, n, corpus)


def _knowing(
    key: Literal["positive_ids", "near_ids"], kind: ContextKind, questions: Sequence[Question]
) -> list[Question]:
    """Those that name such a passage; that others don't is said."""
    kept = [question for question in questions if getattr(question, key)]
    if left := len(questions) - len(kept):
        of = counted(len(questions), "question")
        _log.warning("%s of %s left out of what reads %s passages: without `%s`", f"{left:,}", of, kind, key)
    return kept


def _found(question: Question, n: int, corpus: Passages | None) -> list[Passage]:
    if corpus is None:
        raise DataError(_NO_CORPUS)
    return [hit.passage for hit in corpus.search(question.question, n)]


def _known(question: Question, ids: Sequence[str], corpus: Passages | None) -> list[Passage]:
    """The first of some passages: as the question brings it, else the corpus's."""
    own = [p for p in question.passages if p.id == ids[0]]
    if own:
        return own[:1]
    if corpus is None:
        raise DataError(_NO_CORPUS)
    return list(corpus.get(ids[:1]))


def _require_passages(questions: Sequence[Question]) -> None:
    lacking = [question for question in questions if not question.passages]
    if not lacking:
        return
    if len(lacking) == len(questions):
        raise DataError(_NO_CORPUS)
    raise DataError(
        f"{len(lacking):,} of {len(questions):,} questions bring no passages of their own (`ctxs`), first "
        f"{lacking[0].id!r} ({lacking[0].question[:60]!r}), while the others do; give --corpus to search in "
        "for these, or leave them out"
    )
