"""Texts as rows of tokens for an encoder that makes a vector of each, whatever runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from fidkit.checkpoint.pooling import Pooling
from fidkit.config import ReaderConfig
from fidkit.errors import UsageError
from fidkit.tokens import Tokenizer
from fidkit.types import Passage

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}

_log = logging.getLogger(__name__)


def rows_of(
    texts: Sequence[str], prompt: str | None, tokenizer: Tokenizer, pooling: Pooling
) -> list[list[int]]:
    """Rows of tokens; how many texts were cut is said once, as a warning.

    Args:
        texts: any number.
        prompt: the name of what the model wants in front of them; None takes its own, if any.
        tokenizer: of the encoder.
        pooling: how far a text is read, and which prompts there are.

    Raises:
        UsageError: no such prompt; or a single text instead of several.
    """
    if isinstance(texts, str):
        raise UsageError("expected texts, got a single one; give [text]")
    config = tokenizer.config
    name = pooling.prompt if prompt is None else prompt
    if name is not None and name not in pooling.prompts:
        known = ", ".join(pooling.prompts) or "this model has none"
        raise UsageError(f"the prompt is {name!r}; expected one of its own ({known}), or None")
    front = "" if name is None else pooling.prompts[name]
    whole = [(front + text).strip() for text in texts]
    limit, cut, rows = pooling.tokens - 2, 0, []
    for ids in tokenizer.encode_all([t.lower() if pooling.lower_case else t for t in whole]):
        cut += len(ids) > limit
        rows.append([config.start_token or 0, *ids[:limit], config.end_token])
    if cut:
        _log.warning(
            f"{cut} of {len(texts)} texts are longer than {pooling.tokens} tokens; the rest wasn't read"
        )
    return rows


def apart(config: ReaderConfig) -> ReaderConfig:
    """The configuration of an encoder whose passages begin where its texts do.

    An encoder of sentences has seen no text that begins further behind: vectors of passages at the positions
    that readers give them find clearly fewer of the right ones (`docs/log.md`).
    """
    moved: ReaderConfig = config.replace(passage_position=0)
    return moved


def rows_apart(passages: Sequence[Passage], tokenizer: Tokenizer) -> list[list[int]]:
    """Passages as rows of tokens, as readers of this encoder read them: title and text apart.

    How many may have been cut is said once, as a warning.
    """
    rows, limit = tokenizer.passages(passages), tokenizer.config.passage_tokens
    if full := sum(len(row) == limit for row in rows):
        _log.warning(
            f"{full} of {len(rows)} passages take all {limit} tokens that are read, and are cut if longer"
        )
    return rows


def batches(rows: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Numbers of rows that are read together: of nearly one length, about `budget` tokens."""
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda n: -len(rows[n])):
        if batch and (len(batch) + 1) * len(rows[batch[0]]) > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
