"""Passages that are longer than a reader takes: cut so that what is to be written still stands there.

The reader cuts a passage at its end. An answer that stood behind would then be asked for in vain, so training
reads another piece of such a passage: one that holds it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fidkit.engine.generation.rules import occurrences
from fidkit.tokens import Tokenizer
from fidkit.types import Passage

BEHIND = 3
"""Tokens behind the answer that are kept free: where a text is cut, its tokens may be others."""


def read_around(
    passages: Sequence[Passage], answer: str, tokenizer: Tokenizer, rng: random.Random
) -> tuple[list[list[int]], int]:
    """Tokens of passages, and how many passages lost some.

    A passage that is too long and has the answer only behind what the reader takes is read around it: its
    title, and a piece of its text that begins anywhere so that it holds the answer. One without the answer is
    cut at its end.

    Args:
        passages: to be read.
        answer: to be written; empty for none.
        tokenizer: of the reader.
        rng: decides where a piece begins.
    """
    rows, cut = tokenizer.passages(passages), 0
    limit, wanted = tokenizer.config.passage_tokens, tokenizer.encode(answer)
    for number, passage in enumerate(passages):
        if len(rows[number]) < limit:
            continue
        spans = tokenizer.passage_spans(passage.text)
        room = limit - len(tokenizer.passages([replace(passage, text="")])[0])
        if len(spans) <= room:
            continue
        cut += 1
        if answer and not occurrences(rows[number], wanted):
            piece = _piece(passage.text, answer, spans, room, rng)
            rows[number] = tokenizer.passages([replace(passage, text=piece)])[0]
    return rows, cut


def _piece(text: str, answer: str, spans: Sequence[tuple[int, int]], room: int, rng: random.Random) -> str:
    """A piece of `room` tokens that holds the answer; the whole text where it stands nowhere or is too long.

    Args:
        text: of a passage.
        answer: to be held.
        spans: of each token of the text, its characters.
        room: tokens.
        rng: decides where it begins.
    """
    start, lower = text.find(answer), text.lower()
    if start < 0 and len(lower) == len(text):  # else offsets don't carry over (İ)
        start = lower.find(answer.lower())
    inside = [n for n, (a, b) in enumerate(spans) if a < start + len(answer) and b > start]
    if start < 0 or not inside or inside[-1] - inside[0] + 1 + BEHIND > room:
        return text
    first = rng.randint(max(0, inside[-1] + 1 + BEHIND - room), inside[0])
    last = min(len(spans), first + room) - 1
    return text[spans[first][0] : spans[last][1]]
