"""An answer as text with citations, for protocols that know no evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fidkit.passages.places import split, spoken
from fidkit.types import Answer, Evidence
from fidkit.wording import is_told, withheld

WITH_SOURCES = ":sources"
"""Behind a reader's name, in a protocol's `model`: sources are listed in the text as well."""
_MOST = 5


@dataclass(frozen=True, slots=True)
class Cited:
    """Text, and what of it stands where.

    Attributes:
        text: the answer; where it is withheld, that, and the best guess.
        citations: of the passages that have the answer, the one with the largest share first: `url`,
            `title`, and `start_index` and `end_index` in the text.
    """

    text: str
    citations: tuple[dict[str, Any], ...]


def cited(answer: Answer, base: str, *, sources: bool = False) -> Cited:
    """An answer with its citations.

    Args:
        answer: with its evidence.
        base: URL of this server, without a slash at its end.
        sources: list them behind the text, in Markdown.
    """
    guess = answer.guess
    text = answer.text or withheld(guess, answer.confidence)
    having = [e for e in answer.evidence if e.place is not None][:_MOST]
    start = len(text) - len(guess)
    places = (
        {"url": _url(base, one), "title": _title(one), "start_index": start, "end_index": len(text)}
        for one in having
    )
    citations = tuple(places) if answer.text or is_told(guess, answer.confidence) else ()
    if sources and citations:
        text += "\n\n" + "\n".join(_listed(number, one, base) for number, one in enumerate(having, 1))
    return Cited(text, citations)


def question_of(messages: Sequence[tuple[str, str]]) -> str:
    """The last thing that a user said, of (role, text); empty where none said anything."""
    return next((text for role, text in reversed(messages) if role == "user"), "")


def _url(base: str, evidence: Evidence) -> str:
    """Where this server's page shows the passage in its document, with the answer marked."""
    source = evidence.passage.source
    link = f"{base}/#source={quote(source, safe='/:')}"
    # Without characters of a document, those of the answer are of the passage, which the page can't tell.
    if evidence.span is None or split(source)[1] is None:
        return link
    return f"{link}&answer={evidence.span[0]}-{evidence.span[1]}"


def _title(evidence: Evidence) -> str:
    """What a person calls it: `contract.pdf, page 3`."""
    name, _ = split(evidence.passage.source)
    return ", ".join([name or evidence.passage.title or evidence.passage.id, *spoken(evidence.where)])


def _listed(number: int, evidence: Evidence, base: str) -> str:
    """A source as an entry of a list in Markdown; nothing of a document is markup in it."""
    sentence = " ".join(evidence.sentence.split())
    return f"{number}. [{_plain(_title(evidence))}]({_url(base, evidence)}): {_plain(sentence)}"


def _plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>()#+-!|~&$" else c for c in text)
