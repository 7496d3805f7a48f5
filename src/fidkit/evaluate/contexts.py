"""Which passages a reader gets for an evaluation question: its own, or those of a control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from fidkit.errors import DataError
from fidkit.questions.files import Question
from fidkit.types import Passage

ContextKind = Literal["retrieved", "gold", "foreign", "foreign-gold", "none"]
"""`retrieved`: the best by search, or the file's own. `gold`: one passage known to hold the answer.
`foreign` and `foreign-gold`: what another question of the file would get. `none`: no passage at all."""

Search = Callable[[str, int], Sequence[Passage]]
Get = Callable[[Sequence[str]], Sequence[Passage]]


def passages_for(
    questions: Sequence[Question], kind: ContextKind, n: int, *, search: Search, get: Get
) -> Iterator[tuple[Question, list[Passage]]]:
    """Each question with what it is to read.

    With `gold` and `foreign-gold`, questions without a known passage are left out. Another question is the
    one half a file away: neighbours often share an article.

    Args:
        questions: in the order of the file.
        kind: see `ContextKind`.
        n: passages a question, for `retrieved` and `foreign`.
        search: passages for a question, the best first.
        get: passages by id.

    Raises:
        DataError: one question alone has no other to take passages from.
    """
    if kind in ("gold", "foreign-gold"):
        questions = [question for question in questions if question.positive_ids]
    shift = len(questions) // 2 if kind in ("foreign", "foreign-gold") else 0
    if kind in ("foreign", "foreign-gold") and not shift:
        raise DataError(
            f"{kind} passages come from other questions; expected 2 or more, got {len(questions)}"
        )
    for number, question in enumerate(questions):
        other = questions[(number + shift) % len(questions)]
        if kind == "none":
            yield question, []
        elif kind in ("gold", "foreign-gold"):
            yield question, list(get(other.positive_ids[:1]))
        else:
            yield question, list(other.passages[:n] or search(other.question, n))


def no_corpus(*_: Any) -> Sequence[Passage]:
    """Stands in for `search` and `get` where no corpus was given.

    Raises:
        DataError: always.
    """
    raise DataError("the questions bring no passages of their own (`ctxs`); give --corpus to search in")
