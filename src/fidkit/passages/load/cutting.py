"""Cuts a document into passages of about 100 words; every passage is a slice of the document.

Plain text is cut by counting words alone. Markdown prefers to end a passage where a section or a
paragraph ends, as long as that makes neither a scrap nor a passage longer than plain text may get.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from fidkit.passages.load.document import Document

WORDS = 100
TAIL_WORDS = 25
LONGEST = WORDS + TAIL_WORDS - 1
SHORTEST_BY_PARAGRAPH = 50

# Chinese or Japanese text has no spaces, a URL or a hash has none either: such a run would be one word
# of any length. Beyond what words in spaced scripts reach, count six characters as a word.
_LONG_RUN = 30
_RUN_WORD = 6

_BYTE_ORDER_MARK = "\ufeff"
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_COMMENT = re.compile(r" {0,3}<!--")
# Front matter: YAML or TOML above the text, which site generators and note-taking programs write.
_FRONT_MATTER_ENDS = {"---": ("---", "..."), "+++": ("+++",)}
_TITLE = re.compile(r"title[ \t]*[:=][ \t]*(\"[^\"]*\"|'[^']*'|[^#\n]*)", re.IGNORECASE)
# What begins a YAML value that goes on in further lines, or isn't text.
_NO_PLAIN_VALUE = "|>[{&*!"


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage to be: `document[start:end]`, in characters, and the heading it stands under."""

    start: int
    end: int
    section: str = ""


@dataclass(frozen=True, slots=True)
class _Outline:
    """Where Markdown may be cut, as word indices; `sections` are the headings themselves."""

    sections: tuple[tuple[int, str], ...] = ()
    paragraphs: tuple[int, ...] = ()


def cut(document: Document, words: int = WORDS, overlap: int = 0) -> Iterator[Piece]:
    """Pieces of a document, with the heading that each stands under."""
    return (cut_markdown if document.blocks else cut_text)(document.text)


def cut_text(document: str) -> Iterator[Piece]:
    """Pieces of 100 words; a tail under 25 words joins the piece before it.

    Pieces are in order, never overlap, begin and end with a word, and together hold every word.
    """
    words = _words(document)
    for first, end in _cuts(len(words), _Outline()):
        yield Piece(words[first][0], words[end - 1][1])


def cut_markdown(document: str) -> Iterator[Piece]:
    """Pieces of at most 124 words that end with a section or a paragraph where possible.

    The same promises as `cut_text` hold.
    """
    words = _words(document)
    outline = _outline(document, words)
    starts = [word for word, _ in outline.sections]
    for first, end in _cuts(len(words), outline):
        section = bisect_left(starts, first + 1) - 1
        heading = outline.sections[section][1] if section >= 0 else ""
        yield Piece(words[first][0], words[end - 1][1], heading)


def title_of(document: str) -> str:
    """The title in the front matter of Markdown, else its first heading; empty when there is neither."""
    for line in _front_matter(document):
        match = _TITLE.match(line)
        title = match.group(1).strip().strip("'\"") if match else ""
        if title and title[0] not in _NO_PLAIN_VALUE:
            return title
    return next((heading for _, heading in _headings(document)), "")


def _words(document: str) -> list[tuple[int, int]]:
    words: list[tuple[int, int]] = []
    begin = len(_BYTE_ORDER_MARK) if document.startswith(_BYTE_ORDER_MARK) else 0
    for match in re.compile(r"\S+").finditer(document, begin):
        start, end = match.span()
        if end - start <= _LONG_RUN:
            words.append((start, end))
        else:
            words += [(at, min(at + _RUN_WORD, end)) for at in range(start, end, _RUN_WORD)]
    return words


def _cuts(count: int, outline: _Outline) -> Iterator[tuple[int, int]]:
    sections = [word for word, _ in outline.sections]
    first = 0
    while first < count:
        latest = min(first + LONGEST, count - TAIL_WORDS)
        end = (
            _last_between(sections, first + TAIL_WORDS, latest)
            or _last_between(outline.paragraphs, first + SHORTEST_BY_PARAGRAPH, latest)
            or first + WORDS
        )
        if count - end < TAIL_WORDS:
            end = count
        yield first, end
        first = end


def _last_between(words: tuple[int, ...] | list[int], low: int, high: int) -> int | None:
    at = bisect_left(words, high + 1) - 1
    return words[at] if at >= 0 and words[at] >= low else None


def _outline(document: str, words: list[tuple[int, int]]) -> _Outline:
    starts = [start for start, _ in words]
    sections = tuple((bisect_left(starts, at), heading) for at, heading in _headings(document))
    paragraphs = tuple(bisect_left(starts, at) for at in _paragraphs(document))
    return _Outline(sections, paragraphs)


def _headings(document: str) -> Iterator[tuple[int, str]]:
    for at, line in _prose_lines(document):
        match = _HEADING.match(line.lstrip(_BYTE_ORDER_MARK))
        heading = match.group(1).strip("*_` ") if match else ""
        if heading:
            yield at, heading


def _paragraphs(document: str) -> Iterator[int]:
    """Offsets of lines after a blank one, not within code."""
    after_blank = False
    for at, line in _prose_lines(document):
        if after_blank and line.strip():
            yield at
        after_blank = not line.strip()


def _front_matter(document: str) -> list[str]:
    """The lines of YAML or TOML that the document begins with, those around them included."""
    lines = document.removeprefix(_BYTE_ORDER_MARK).splitlines()
    ends = _FRONT_MATTER_ENDS.get(lines[0].rstrip(), ()) if lines else ()
    last = next((at for at, line in enumerate(lines[1:], start=1) if line.rstrip() in ends), None)
    return [] if last is None else lines[: last + 1]


def _prose_lines(document: str) -> Iterator[tuple[int, str]]:
    """Lines of the text proper with their offsets.

    `# comment` in a shell snippet, in front matter or in a comment of HTML is no heading.
    """
    above = len(_front_matter(document))
    at, until = 0, ""
    for number, line in enumerate(document.splitlines(keepends=True)):
        if not until and number >= above:
            yield at, line.rstrip("\r\n")
            until = _opened(line)
        elif until and _closes(line, until):
            until = ""
        at += len(line)


def _opened(line: str) -> str:
    """What ends the code or the comment that goes on behind this line; empty where there is none."""
    mark = _FENCE.match(line)
    if mark:
        return mark.group(1)
    return "-->" if _COMMENT.match(line) and "-->" not in line else ""


def _closes(line: str, until: str) -> bool:
    if until == "-->":
        return until in line
    mark = _FENCE.match(line)
    return mark is not None and mark.group(1) == until
