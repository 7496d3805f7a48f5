"""Titles and headings of texts that have no marks for them: what people take for one by the look of it."""

from __future__ import annotations

import re
import string

from fidkit.passages.load.prose import flat

_LONGEST = 80  # characters
_MOST_WORDS = 12
_MOST_WORDS_BARE = 6
"""Of a heading that has neither number nor capitals nor a rule beneath it."""
_LINES = 100
"""So far a subject is looked for: the head of a mail may be long, and a log has no end."""

_WORD = re.compile(r"\w+")
_NAMING = re.compile(r"[^\W\d_]{3}")
# Rules beneath a heading, and frames of one character around it.
RULE = re.compile(r"\s*([-=_*#~+])\1{2,}\s*")
_FRAME = "*=#~_|-" + string.whitespace
_COLUMNS = re.compile(r"(?<=\S)(?: {3,}|\t\s*)(?=\S)")
_UNFINISHED = tuple(".,;!")
"""A heading doesn't end with these; it may be a question, and lead to what follows."""
_LEADING_ON = (*_UNFINISHED, ":")
"""A title doesn't end with these either, nor a bare line that is a heading."""
_CODE = re.compile(r"[\[\]{}<>=$|\\]")
_FIELD = re.compile(r"[^:]{1,30}:(?:\s|$)")
_SUBJECT = re.compile(
    r"(?:\w+\s*/\s*)?(?:subject|re|betreff|betrifft|objet|asunto|assunto|oggetto|onderwerp)\s*:"
    r"(?:\s*(?:re|aw|fwd?|wg|tr)\s*:)*\s*(\S.*)",
    re.IGNORECASE,
)
_PART = "article|section|chapter|part|clause|appendix|annex|artikel|kapitel|abschnitt|teil|anhang|chapitre"
_NUMBER = re.compile(
    rf"(?:(?i:{_PART})\s+|§+\s*)?(?:\d{{1,3}}(?:\.\d{{1,3}}){{0,3}}|[IVXLC]{{1,5}}|[A-Z](?:\.\d{{1,3}})?)"
    r"(?:[.:)]\s+|\s+[-\u2013\u2014]\s+|\s{2,}|\s+(?=[A-Z]{3}))(?![\d\s])"
)


def first_line(text: str) -> str:
    """What a text begins with, if that reads as a title; of a letter or mail, what its subject is.

    Args:
        text: its first paragraph.

    Returns:
        One line, or nothing: sentences, fields (`Date: …`), code, and long lines are no titles.
    """
    lines = [line for line in text.splitlines()[:_LINES] if line.strip() and not RULE.fullmatch(line)]
    for line in lines:
        if subject := _SUBJECT.fullmatch(line.strip()):
            return flat(subject[1])[:_LONGEST]
    if not lines:
        return ""
    # What stands far to the right is a date or an address beside the title.
    line = _bare(_COLUMNS.split(lines[0].strip(_FRAME), maxsplit=1)[0])
    given = sum(map(str.isalpha, line))
    if not _short(line, _MOST_WORDS) or 2 * given <= len(line.replace(" ", "")):
        return ""
    return "" if line.endswith(_LEADING_ON) or _FIELD.match(line) or _CODE.search(line) else line


def called(name: str, line: str) -> str:
    """A document by its file's name and its first line; by one of them where it says all of the other."""
    in_name, in_line = (frozenset(_WORD.findall(text.casefold())) for text in (name, line))
    if in_line <= in_name:
        return name
    return line if in_name <= in_line else f"{name}: {line}"


def heading(line: str, below: str) -> str:
    """The heading that a paragraph begins with, without rules and frames; empty where it is none.

    A heading is short. It has a rule beneath it, or it is in capitals, or a number stands in front of it and
    nothing beneath it.

    Args:
        line: the paragraph's first.
        below: its next one; empty where it has no other.
    """
    line = line.strip()
    label, numbered = _bare(line), _NUMBER.match(line)
    words = line[numbered.end() :] if numbered else line
    if not _short(label, _MOST_WORDS) or line.startswith(">") or _COLUMNS.search(words):
        return ""
    if RULE.fullmatch(below):
        return label
    named = label.isupper() or (numbered and not below)
    return label if named and not label.endswith(_UNFINISHED) else ""


def bare_heading(line: str, behind: str) -> str:
    """The same of a line that is alone: a few words above a paragraph. It may be something else, a name say.

    Args:
        line: all of a paragraph.
        behind: the next paragraph.
    """
    label = _bare(line)
    if not _short(label, _MOST_WORDS_BARE) or not label[0].isupper() or label.endswith(_LEADING_ON):
        return ""
    if any(map(str.isdigit, label)) or _CODE.search(line) or _COLUMNS.search(line.strip()):
        return ""
    return label if len(behind.split()) >= _MOST_WORDS and not _FIELD.match(behind) else ""


def _bare(line: str) -> str:
    return flat(line.strip(_FRAME))


def _short(line: str, words: int) -> bool:
    """Short, and not without a word."""
    return len(line) <= _LONGEST and len(line.split()) <= words and bool(_NAMING.search(line))
