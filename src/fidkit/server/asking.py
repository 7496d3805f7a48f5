"""From a request to the questions of a service, within its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import fields
from typing import TypeVar

from fastapi import Request

from fidkit.engine.asked import is_blank
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError
from fidkit.passages.filter import Filter
from fidkit.server.errors import RequestError
from fidkit.server.limits import Limits
from fidkit.server.schemas import AnswerRequest, GivenPassage
from fidkit.server.service import Question, Service
from fidkit.types import Hit, Passage

T = TypeVar("T")
GONE = 499  # what nginx says of a client that closed its connection


def asked(request: AnswerRequest, limits: Limits) -> list[Question]:
    """The questions of a request.

    Raises:
        RequestError: beyond a limit, or a condition on documents that is none; says what was given.
    """
    within("max_tokens", request.max_tokens, limits.answer_tokens, "tokens of an answer")
    within("test_evidence", request.test_evidence, limits.tests, "passages to be left out")
    given = request.passages
    k, passages = (given, None) if isinstance(given, int) else (1, _given(given, limits))
    counted_passages(k, limits)
    where = _conditions(request.where)
    return [
        Question(
            text, request.reader, k, where, passages, request.test_evidence,
            Decoding(max_tokens=request.max_tokens),
        )
        for text in questions(request.question, limits)
    ]  # fmt: skip


async def searched(
    service: Service, question: str | list[str], k: int, where: list[str]
) -> list[tuple[str, list[Hit]]]:
    """The questions, and the passages that match each best.

    Raises:
        RequestError: beyond a limit, or a condition on documents that is none.
    """
    texts = questions(question, service.limits)
    counted_passages(k, service.limits)
    chosen = _conditions(where)
    found = await asyncio.gather(*(service.search(text, k, chosen) for text in texts))
    return list(zip(texts, found, strict=True))


@contextlib.contextmanager
def given_as(param: str) -> Iterator[None]:
    """What is refused within is said to be of this field of a request."""
    try:
        yield
    except UsageError as error:
        raise RequestError(422, str(error), param) from error


def _conditions(given: list[str]) -> Filter | None:
    with given_as("where"):
        return Filter.parse(given) if given else None


def questions(given: str | list[str], limits: Limits) -> list[str]:
    """One question or several, as a list."""
    listed = [given] if isinstance(given, str) else given
    if not listed:
        raise RequestError(422, "question: an empty list; expected one question or more", "question")
    within("question", len(listed), limits.questions, "questions of one request")
    for text in listed:
        within("question", len(text), limits.question_characters, "characters of a question")
        if is_blank(text):
            raise RequestError(422, "question: it is empty; expected some words", "question")
    return listed


def counted_passages(k: int, limits: Limits) -> None:
    """Refuse a number of passages that can't be read."""
    if k < 1:
        raise RequestError(422, f"passages: {k}; expected 1 or more", "passages")
    within("passages", k, limits.passages, "passages of a question")


def within(param: str, given: int, most: int, what: str) -> None:
    """Refuse what is beyond a limit."""
    if given > most:
        raise RequestError(
            422,
            f"{param}: {given:,} {what}; this server takes {most:,} at most",
            param,
            given=given,
            most=most,
        )


def _given(given: Sequence[GivenPassage], limits: Limits) -> list[Passage]:
    within("passages", len(given), limits.passages, "passages of a question")
    for one in given:
        within(
            "passages", len(one.text) + len(one.title), limits.passage_characters, "characters of a passage"
        )
    return [Passage(one.id or str(number), one.title, one.text) for number, one in enumerate(given, 1)]


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """What the work gives; it is cancelled when the client leaves, whom nothing has to be told then.

    Raises:
        RequestError: the client left.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise RequestError(GONE, "the client left")
    finally:
        for one in (task, leaving):
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def documented(limits: Limits) -> str:
    """The limits, for the API's documentation."""
    return "\n".join(f"- `{of.name}`: {getattr(limits, of.name):,}" for of in fields(limits))
