"""When two passages say the same, so that a search gives one of them a place and names the other beside it.

Careful on purpose: a clause with another number, date or name is another clause, and so is one with another
small word. Alike are texts that differ in white space and in how quotes, dashes and ligatures are written
alone, as they do where a document is kept in two formats. Titles must be alike as well. Where the text is
long enough to stand for itself, only their numbers must: a copy of a document is titled by the name of its
file, but what is said of 1986 isn't said of 1988.
"""

from __future__ import annotations

import re
import unicodedata

from fidkit.types import Passage

_LONG_ENOUGH = 200
"""Characters of a text that says the same under any title."""

_NUMBER = re.compile(r"\d+")
_COPY = re.compile(r"\s*\(\d+\)$")
"""What systems put behind the name of a copy."""

_WRITTEN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\u2026": "..."}
    | dict.fromkeys("\u00ad\u200b\ufeff", "")
)


def content_of(passage: Passage) -> str:
    """A string that is the same of passages that say the same."""
    text, title = _plain(passage.text), _plain(passage.title)
    if len(text) >= _LONG_ENOUGH:
        title = " ".join(_NUMBER.findall(_COPY.sub("", title)))
    return f"{title}\n{text}"


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(_WRITTEN))
    return " ".join(text.split())
