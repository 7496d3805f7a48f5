"""All of a passage is read, however long: what the reader would cut off is read as passages of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fidkit.tokens import Tokenizer
from fidkit.types import Passage

PLACE = re.compile(r":(\d+)-(\d+)$")
"""Characters of a document, behind its name in `Passage.source`."""
_OVERLAP = 4
"""A window begins with so much of the one before: one part in four, for what stands on the border."""


def begins_at(passage: Passage) -> int | None:
    """Where in its document a passage was cut out; None if that isn't known."""
    match = PLACE.search(passage.source)
    known = match is not None and int(match[2]) - int(match[1]) == len(passage.text)
    return int(match[1]) if match is not None and known else None


def windows(passage: Passage, tokenizer: Tokenizer) -> list[Passage]:
    """Pieces of a passage that hold what the reader would cut off; none where it takes all.

    The passage as it is stays the first window, so that what was stored of it stays of use. The others have
    its title, as far as half of their room will do, and say in `source` where they stand.
    """
    limit = tokenizer.config.passage_tokens
    if tokenizer.length(passage) <= limit:
        return []
    spans, passage_ = tokenizer.passage_spans(passage.text), _with_short_title(passage, tokenizer)
    bare = tokenizer.length(replace(passage_, text=""))
    room = max(1, limit - bare)
    found: list[Passage] = []
    at = max(0, limit - tokenizer.length(replace(passage, text="")) - room // _OVERLAP)
    while at < len(spans):
        at = _word_start(passage.text, spans, at, least=at - room // _OVERLAP)
        end = min(len(spans), at + room)
        piece = _piece(passage_, spans[at][0], spans[end - 1][1])
        # Beside other neighbours, a text may have other tokens.
        while end > at + 1 and tokenizer.length(piece) > limit:
            end -= 1
            piece = _piece(passage_, spans[at][0], spans[end - 1][1])
        found.append(piece)
        if end == len(spans):
            break
        at = max(at + 1, end - room // _OVERLAP)
    return found


def _with_short_title(passage: Passage, tokenizer: Tokenizer) -> Passage:
    limit = tokenizer.config.passage_tokens
    if 2 * tokenizer.length(replace(passage, text="")) <= limit:
        return passage
    spans = tokenizer.passage_spans(passage.title)[: limit // _OVERLAP]
    return replace(passage, title=passage.title[: spans[-1][1] if spans else 0])


def _word_start(text: str, spans: Sequence[tuple[int, int]], at: int, least: int) -> int:
    """The last token at or before `at` that begins a word; `at` where none does from `least` on."""
    for token in range(at, max(0, least) - 1, -1):
        start = spans[token][0]
        if start == 0 or text[start - 1].isspace() or text[start : start + 1].isspace():
            return token
    return at


def _piece(passage: Passage, start: int, end: int) -> Passage:
    start = end - len(passage.text[start:end].lstrip())  # a token may be a word and the space before it
    first, source = begins_at(passage), passage.source
    if first is not None:
        source = PLACE.sub(f":{first + start}-{first + end}", source)
    return replace(passage, text=passage.text[start:end], source=source)
