"""Scripts that are written without spaces between words."""

from __future__ import annotations

import re
from bisect import bisect_right

# First and last characters: of Thai and Lao, of Burmese, of Khmer;
_SYLLABLES = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))
# of kana and bopomofo, of Han, and of their extensions.
_CHARACTERS = (
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)
_RANGES = _SYLLABLES + _CHARACTERS
_STARTS = [first for first, _ in _RANGES]


def _class_of(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


SYLLABLES = _class_of(_SYLLABLES)
"""Thai, Lao, Burmese and Khmer, as it stands between brackets in a regular expression."""
CHARACTERS = _class_of(_CHARACTERS)
"""Chinese and Japanese, in the same form."""
UNSPACED = re.compile(f"[{SYLLABLES}{CHARACTERS}]")


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces between words."""
    at = bisect_right(_STARTS, ord(character)) - 1
    return at >= 0 and ord(character) <= _RANGES[at][1]
