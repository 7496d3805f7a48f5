"""Texts as rows of tokens for an encoder that makes a vector of each, whatever runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from fidkit.checkpoint.pooling import Pooling
from fidkit.config import ReaderConfig
from fidkit.errors import UsageError
from fidkit.tokens import Tokenizer
from fidkit.types import Passage
from fidkit.wording import counted, shortened, unwrapped

BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}

_SHOWN_CHARACTERS = 60

_log = logging.getLogger(__name__)


def rows_of(
    texts: Sequence[str], prompt: str | None, tokenizer: Tokenizer, pooling: Pooling
) -> list[list[int]]:
    """Rows of tokens; how many texts were cut is said once, as a warning, and how the first of them begins.

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
    limit, cut, rows = pooling.tokens - 2, list[str](), []
    encoded = tokenizer.encode_all([t.lower() if pooling.lower_case else t for t in whole])
    for text, ids in zip(texts, encoded, strict=True):
        if len(ids) > limit:
            cut.append(text)
        rows.append([config.start_token or 0, *ids[:limit], config.end_token])
    if cut:
        many = f"{len(cut):,} of {counted(len(texts), 'text')} {'is' if len(cut) == 1 else 'are'}"
        _log.warning(
            f"{many} longer than {pooling.tokens} tokens, and read no further by what compares meanings; "
            f"{_the_first(cut)}"
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

    How many may have been cut is said once, as a warning, and how the first of them begins.
    """
    rows, limit = tokenizer.passages(passages), tokenizer.config.passage_tokens
    full = [passage for passage, row in zip(passages, rows, strict=True) if len(row) == limit]
    if full:
        first = _the_first([f"{passage.title}\n{passage.text}" for passage in full[:1]])
        _log.warning(
            f"{len(full)} of {len(rows)} passages take all {limit} tokens that are read, and are cut if "
            f"longer; {first}"
        )
    return rows


def _the_first(texts: Sequence[str]) -> str:
    """Which text is spoken of, for a person who looks for it."""
    words = shortened(unwrapped(texts[0][: 10 * _SHOWN_CHARACTERS]), _SHOWN_CHARACTERS)
    return f'{"it" if len(texts) == 1 else "the first"} begins with "{words}"'


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
