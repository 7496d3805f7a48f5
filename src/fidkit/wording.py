"""Numbers, names and foreign texts in sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C0 but for tab and newline, DEL, C1, line and paragraph separators, and what turns the direction round.
CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_NOT_IN_A_LINE = re.compile(f"[\t\n{CONTROL}]")
_SHORT = {"\n": "\\n", "\t": "\\t"}

SILENT = "The documents don't seem to say."
"""What is said in the place of an answer that is withheld."""

NO_GUESS = 0.01
"""Of less confidence a guess is as good as none: often it is a word such as "the"."""

MARKS = ("»", "«")
"""Around the answer in a sentence, or a passage in its surroundings."""


def is_told(guess: str, confidence: float, least: float = NO_GUESS) -> bool:
    """Whether `withheld` tells the guess."""
    return bool(guess) and confidence >= least


def withheld(guess: str, confidence: float, least: float = NO_GUESS) -> str:
    """What a person is told instead of an answer, with the best guess behind it if it is worth anything.

    Args:
        guess: what would have been answered.
        confidence: the probability that it is right.
        least: probability from which on the guess is told.
    """
    if not is_told(guess, confidence, least):
        return SILENT
    return f"{SILENT} Best guess ({confidence:.0%} sure): {guess}"


def cut_after(tokens: int) -> str:
    """What a person is told of an answer that had all its tokens before it came to an end."""
    return f"the answer was cut after {counted(tokens, 'token')}; a larger max_tokens goes on"


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: `1 file`, `2,000 files`.

    Args:
        number: how many there are.
        one: what a single one is called, with its verb where there is one: `file is`.
        many: what several are called; with an s behind `one` by default.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def in_one_line(text: str) -> str:
    r"""A name, or whatever else others wrote, as a part of a line: control characters are written out.

    Newlines and tabs too, as `\n` and `\t`, and all others as JSON writes them, `\u001b`.
    """
    if text.isprintable():
        return text
    return _NOT_IN_A_LINE.sub(lambda match: _SHORT.get(match[0], f"\\u{ord(match[0]):04x}"), text)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of several names on one line, and how many more there are: `a.md, b.md and 2 more`.

    Args:
        names: in their order.
        most: that are said.
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(in_one_line(name) for name in names[:most]) + more


def unwrapped(text: str) -> str:
    """A text with one space for its line breaks and what surrounds them."""
    return " ".join(text.split())


def shortened(text: str, most: int) -> str:
    """The first words of a text: at most so many characters, and ` …` where there are more."""
    if len(text) <= most:
        return text
    return text[: most + 1].rsplit(" ", 1)[0][:most] + " …"
