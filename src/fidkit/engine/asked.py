"""What people give to be answered or read, looked at before any work is done. No tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fidkit.errors import UsageError
from fidkit.types import Hit, Passage

_EXAMPLE = 'Passage("1", "Title", "text")'


def check_question(question: Any) -> None:
    """Refuse what is no question.

    Raises:
        UsageError: no text, or nothing but white space.
    """
    if not isinstance(question, str):
        raise UsageError(f'the question is {_named(question)}; expected a text, such as "who wrote it?"')
    if not question.strip():
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
