"""The stream of a run: its sources loaded, mixed and batched by length, the same at every resume."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

from fidkit.errors import DataError
from fidkit.passages.load.rows import Row, read_document, read_passages
from fidkit.passages.load.sources import SourceFile, discover
from fidkit.questions.files import read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.cloze import ClozeSource
from fidkit.train.data.documents import open_documents
from fidkit.train.data.examples import Example, Resumable, Source, encode
from fidkit.train.data.questions import load_questions
from fidkit.train.data.recurring import RecurringSource
from fidkit.train.data.span_corruption import SpanCorruptionSource
from fidkit.train.recipe import Recipe, StageSpec
from fidkit.types import Passage

POOL = 8
"""Batches that are drawn together and sorted by length, so that little is padded."""
ATTEMPTS = 1000
"""Examples to draw until one has a target that fits."""
logger = logging.getLogger(__name__)


def load_passages(recipe: Recipe) -> dict[str, Passage]:
    """All passages of the recipe's sources by id, in memory."""
    files = discover([recipe.path(source) for source in recipe.passages]) if recipe.passages else []
    return {row.id: Passage(row.id, row.title, row.text, file.name) for file in files for row in _rows(file)}


def _rows(file: SourceFile) -> Iterator[Row]:
    if file.kind == "skipped":
        return
    read = read_passages if file.kind == "passages" else read_document
    # As a corpus does: a document that is no text is passed over.
    with file.path.open("rb") as raw, contextlib.suppress(UnicodeDecodeError):
        yield from read(raw, file.name)


def load_sources(
    recipe: Recipe,
    passages: dict[str, Passage],
    tokenizer: Tokenizer,
    say: Callable[[str], None] = logger.info,
) -> dict[str, Source]:
    """The recipe's sources, ready to draw from.

    Args:
        recipe: its sources, and what its stages do with them.
        passages: of `load_passages`.
        tokenizer: of the reader.
        say: told what was left out, and why.

    Raises:
        DataError: a file is malformed, or a source comes out empty.
    """
    sources: dict[str, Source] = {}
    for name, spec in recipe.sources.items():
        if spec.kind == "cloze":
            sources[name] = ClozeSource(_not_held_out(recipe, passages))
        elif spec.kind == "recurring":
            sources[name] = RecurringSource(_not_held_out(recipe, passages))
        elif spec.kind == "span-corruption":
            sources[name] = SpanCorruptionSource(open_documents(recipe, spec), tokenizer, spec)
        else:
            sources[name] = load_questions(recipe, name, passages, tokenizer, say)
    return sources


def _not_held_out(recipe: Recipe, passages: dict[str, Passage]) -> list[Passage]:
    held_out = (q for file in recipe.held_out for q in read_questions(recipe.path(file)))
    titles = {passages[i].title for question in held_out for i in question.positive_ids if i in passages}
    return [p for p in passages.values() if p.title not in titles]


class Stream:
    """Batches of examples, a function of recipe, sources and position alone.

    `state()` and `restore()` carry the position through a checkpoint; a restored stream goes on with
    exactly the batches that would have come.
    """

    def __init__(self, recipe: Recipe, sources: dict[str, Source], tokenizer: Tokenizer) -> None:
        self.recipe, self.sources, self.tokenizer = recipe, sources, tokenizer
        self._stage = 0
        self._counts = dict.fromkeys(sources, 0)
        self._resumable = {name: s for name, s in sources.items() if isinstance(s, Resumable)}
        self._start, self._positions = dict(self._counts), self._places()
        self._pool: list[list[Example]] = []
        self._taken = 0

    def state(self) -> dict[str, Any]:
        """Where the current pool started and how much of it is used."""
        return {
            "stage": self._stage,
            "start": dict(self._start),
            "sources": self._positions,
            "taken": self._taken,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of `state()`."""
        self._stage, self._counts, taken = state["stage"], dict(state["start"]), state["taken"]
        for name, position in state.get("sources", {}).items():
            self._resumable[name].restore(position)
        self._start, self._positions = dict(self._counts), self._places()
        self._pool, self._taken = [], 0
        for _ in range(taken):
            self.next(self._stage)

    def _places(self) -> dict[str, Any]:
        return {name: source.state() for name, source in self._resumable.items()}

    def next(self, stage: int) -> list[Example]:
        """The next batch of a stage, by its number in the recipe."""
        if stage != self._stage or self._taken == len(self._pool):
            self._stage, self._taken = stage, 0
            self._start, self._positions = dict(self._counts), self._places()
            self._pool = self._draw_pool(self.recipe.stages[stage])
        self._taken += 1
        return self._pool[self._taken - 1]

    def _draw_pool(self, stage: StageSpec) -> list[list[Example]]:
        examples = sorted((self._draw(stage) for _ in range(POOL * stage.questions)), key=lambda e: e.longest)
        pool = [examples[i : i + stage.questions] for i in range(0, len(examples), stage.questions)]
        random.Random(f"{self.recipe.seed}/{sum(self._counts.values())}").shuffle(pool)
        return pool

    def _draw(self, stage: StageSpec) -> Example:
        for _ in range(ATTEMPTS):
            rng = random.Random(f"{self.recipe.seed}/{sorted(self._counts.items())}")
            [name] = rng.choices(list(stage.mix), list(stage.mix.values()))
            drawn = self.sources[name].draw(self._counts[name], rng, stage)
            self._counts[name] += 1
            limit = self.recipe.target_tokens
            example = drawn if isinstance(drawn, Example) else encode(drawn, self.tokenizer, limit)
            if example is not None:
                return example
        raise DataError(
            f"{ATTEMPTS:,} examples in a row have targets of more than {self.recipe.target_tokens} tokens; "
            "raise target_tokens"
        )
