"""Scripts that are written without spaces, whose words the lexical index can't tell apart yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice

from fidkit.types import Passage

# First and last characters of Thai and Lao, Burmese, Khmer, kana and bopomofo, Han, and their extensions.
_RANGES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)
_STARTS = [first for first, _ in _RANGES]
_LOOKED_AT = 50
_SCRIPTS = "a script without spaces (Chinese, Japanese, Thai, ...)"

NOTHING_FOUND = "no passage shares a word with the question"
QUESTION_WITHOUT_SPACES = (
    f"the question is in {_SCRIPTS}, in which the search can't tell words apart yet, so that it finds little "
    "or nothing; put spaces between the words, or choose the passages yourself"
)
PASSAGES_WITHOUT_SPACES = (
    f"{NOTHING_FOUND}; many of the passages are in {_SCRIPTS}, in which the search can't tell words apart yet"
)


def is_without_spaces(text: str) -> bool:
    """Whether at least half of the letters are of a script without spaces between words."""
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(map(is_unspaced, letters)) >= max(1, len(letters))


def why_nothing(question: str, passages: Iterable[Passage]) -> str:
    """What to say when a search found nothing.

    Args:
        question: that was searched for.
        passages: of the corpus; the first ones are looked at.
    """
    if any(map(is_unspaced, question)):
        return QUESTION_WITHOUT_SPACES
    looked_at = [is_without_spaces(passage.text) for passage in islice(passages, _LOOKED_AT)]
    return PASSAGES_WITHOUT_SPACES if 2 * sum(looked_at) >= max(1, len(looked_at)) else NOTHING_FOUND


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces between words."""
    at = bisect_right(_STARTS, ord(character)) - 1
    return at >= 0 and ord(character) <= _RANGES[at][1]
