"""What people give to be answered or read, looked at before any work is done. No tensors."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError
from fidkit.types import Hit, Passage
from fidkit.wording import counted

_EXAMPLE = 'Passage("1", "Title", "text")'


def asked_questions(question: Any, *, streamed: bool) -> list[str]:
    """One question or many as a list.

    Args:
        question: one, or several.
        streamed: whether somebody wants to see an answer grow.

    Raises:
        UsageError: one of them is none, or several are to be seen at once.
    """
    many = isinstance(question, Iterable) and not isinstance(question, str | bytes)
    if not many:
        check_question(question)
        return [question]
    questions = list(question)
    for one in questions:
        check_question(one)
    if streamed:
        raise UsageError("a stream shows one answer; ask one question at a time with it")
    return questions


def asked_streams(stream: Any, count: int) -> list[Any]:
    """What sees each of so many answers grow; None for an answer that nobody watches.

    Raises:
        UsageError: neither a function nor a list of one for each question.
    """
    if stream is None or callable(stream):
        return [stream] * count
    streams = list(stream) if isinstance(stream, Sequence) and not isinstance(stream, str | bytes) else None
    if streams is None or not all(one is None or callable(one) for one in streams):
        raise UsageError(f"the stream is {_named(stream)}; expected a function of the text so far")
    if len(streams) != count:
        given = counted(len(streams), "stream")
        raise UsageError(f"{counted(count, 'question')} but {given}; give one a question, or None")
    return streams


def asked_passages(passages: Any, count: int) -> list[list[Passage]]:
    """The passages of each of so many questions.

    Raises:
        UsageError: no list of passages for each.
    """
    if isinstance(passages, str | bytes | Passage) or not isinstance(passages, Sequence):
        raise UsageError("the passages of several questions; expected a list of passages for each")
    if len(passages) != count:
        given = counted(len(passages), "list of passages", "lists of passages")
        raise UsageError(f"{counted(count, 'question')} but {given}; give one list a question")
    for of_one in passages:
        check_passages(of_one)
    return [list(of_one) for of_one in passages]


def asked_decoding(max_new_tokens: int | None, decoding: Decoding | None) -> Decoding:
    """How answers are written: as it is given, or of a length.

    Raises:
        UsageError: both, or something else.
    """
    if not isinstance(decoding, Decoding | None):
        raise UsageError(f"decoding is {_named(decoding)}; expected Decoding(beams=...), or None")
    if decoding is None:
        return Decoding() if max_new_tokens is None else Decoding(max_tokens=max_new_tokens)
    if max_new_tokens is not None:
        raise UsageError(
            "max_new_tokens and decoding exclude each other; give the length as Decoding(max_tokens=...)"
        )
    return decoding


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, controls, characters of no width."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)


def check_question(question: Any) -> None:
    """Refuse what is no question.

    Raises:
        UsageError: no text, or nothing but white space.
    """
    if not isinstance(question, str):
        raise UsageError(f'the question is {_named(question)}; expected a text, such as "who wrote it?"')
    if is_blank(question):
        raise UsageError('the question is empty; expected some words, such as "who wrote it?"')


def check_passages(passages: Any) -> None:
    """Refuse what is no list of passages.

    Raises:
        UsageError: says which one isn't a passage, and how to write one.
    """
    if isinstance(passages, str | bytes | Passage) or not isinstance(passages, Iterable):
        raise UsageError(f"the passages are {_named(passages)}; expected a list such as [{_EXAMPLE}]")
    for number, passage in enumerate(passages, 1):
        if isinstance(passage, Hit):
            raise UsageError(f"passage {number} is a Hit; expected a Passage: give hit.passage")
        if not isinstance(passage, Passage):
            raise UsageError(f"passage {number} is {_named(passage)}; expected {_EXAMPLE}")
        if not (isinstance(passage.title, str) and isinstance(passage.text, str)):
            raise UsageError(f"passage {number} has a title or text that is no str; expected {_EXAMPLE}")


def check_count(name: str, number: Any) -> None:
    """Refuse what is no number of passages.

    Raises:
        UsageError: no whole number, or below 1.
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{name} is {_named(number)}; expected 1 or more passages to read")
    if number < 1:
        raise UsageError(f"{name} is {number}; expected 1 or more passages to read")


def check_tests(number: Any) -> None:
    """Refuse what is no number of passages to test.

    Raises:
        UsageError: no whole number, or below 0.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise UsageError(f"test_evidence is {_named(number)}; expected how many passages to test, such as 3")


def _named(value: object) -> str:
    """A value as it can be shown in one line."""
    if value is None:
        return "None"
    shown = repr(value)
    return f"{shown if len(shown) <= 40 else shown[:40] + '…'} ({type(value).__name__})"
