"""Words of a text, as passages are measured in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from fidkit.passages.scripts import CHARACTERS, SYLLABLES, UNSPACED

# A URL or a hash has no spaces: such a run would be one word of any length. Beyond what words in spaced
# scripts reach, count six characters as a word.
_LONG_RUN = 30
_RUN_WORD = 6
_RUN = re.compile(r"\S+")
# Marks stand with the word that they belong to, so that a passage neither begins nor ends without them.
_OPENING = "([{\u00a1\u00bf\u2018\u201c\u3008\u300a\u300c\u300e\u3010\uff08"
_CLOSING = (
    ")]}.,:;!?\u104a\u104b\u17d4\u2019\u201d\u2025\u2026"
    "\u3001\u3002\u3009\u300b\u300d\u300f\u3011\uff01\uff09\uff0c\uff0e\uff1a\uff1b\uff1f"
)


def words_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """First and last character of every word of `text[start:end]`.

    A word is what stands between white space. Of Chinese and Japanese two characters count as a word, of
    Thai, Lao, Burmese and Khmer five letters; of anything else that goes on beyond 30 characters, six.
    """
    is_spaced = not UNSPACED.search(text, start, end)
    for run in _RUN.finditer(text, start, end):
        first, last = run.span()
        if not is_spaced and UNSPACED.search(text, first, last):
            yield from (part.span() for part in _parts().finditer(text, first, last))
        elif last - first <= _LONG_RUN:
            yield first, last
        else:
            yield from ((at, min(at + _RUN_WORD, last)) for at in range(first, last, _RUN_WORD))


@cache
def _parts() -> re.Pattern[str]:
    # A letter is never parted from the vowels and tones that are written over and under it.
    letters = (character for character in map(chr, range(0x0E00, 0x3100)) if UNSPACED.match(character))
    marks = "".join(letter for letter in letters if unicodedata.category(letter)[0] == "M")
    opening, closing = (f"[{re.escape(some)}]{{0,3}}" for some in (_OPENING, _CLOSING))
    word = f"(?:[{CHARACTERS}]{{1,2}}|[{SYLLABLES}]{{1,5}})[{marks}]*"
    other = rf"(?:(?![{SYLLABLES}{CHARACTERS}])\S){{1,{_RUN_WORD}}}"
    return re.compile(f"{opening}{word}{closing}|{other}")
