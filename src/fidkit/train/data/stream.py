"""The stream of a run: its tasks loaded, mixed and batched by length, the same at every resume."""

from __future__ import annotations

import logging
import random
from typing import Any

from fidkit.errors import DataError
from fidkit.questions.files import read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.cloze import ClozeTask
from fidkit.train.data.documents import open_documents
from fidkit.train.data.examples import Example, Resumable, Task, encode
from fidkit.train.data.joined import Ranked
from fidkit.train.data.questions import load_questions
from fidkit.train.data.recurring import RecurringTask
from fidkit.train.data.span_corruption import SpanCorruptionTask
from fidkit.train.distributed.group import Group
from fidkit.train.passages import PassageList, PassageTable, Say
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec

POOL = 8
"""Batches that are drawn together and sorted by length, so that little is padded."""
ATTEMPTS = 1000
"""Examples to draw until one has a target that fits."""
logger = logging.getLogger(__name__)


def load_tasks(
    recipe: Recipe,
    table: PassageTable,
    tokenizer: Tokenizer,
    say: Say = logger.info,
    group: Group | None = None,
) -> dict[str, Task]:
    """The recipe's tasks, ready to draw from.

    Args:
        recipe: its tasks, and what its stages do with them.
        table: the recipe's passages.
        tokenizer: of the reader.
        say: told what was left out, and why.
        group: of processes; all call this.

    Raises:
        DataError: a file is malformed, or a task comes out empty.
    """
    tasks: dict[str, Task] = {}
    ranked = Ranked(recipe, table, say)
    for name, spec in recipe.tasks.items():
        if spec.kind == "cloze":
            tasks[name] = ClozeTask(_not_held_out(recipe, table))
        elif spec.kind == "recurring":
            tasks[name] = RecurringTask(_not_held_out(recipe, table))
        elif spec.kind == "span-corruption":
            tasks[name] = SpanCorruptionTask(open_documents(recipe, spec, say, group), tokenizer, spec)
        else:
            tasks[name] = load_questions(recipe, name, ranked, tokenizer, say)
    return tasks


def _not_held_out(recipe: Recipe, table: PassageTable) -> PassageList:
    held_out = (q for file in recipe.held_out for q in read_questions(recipe.path(file)))
    numbers = {table.number(identity) for question in held_out for identity in question.positive_ids}
    found = PassageList(table, sorted(number for number in numbers if number is not None))
    return table.without({passage.title for passage in found})


class Stream:
    """Batches of examples, a function of recipe, tasks and position alone.

    `state()` and `restore()` carry the position through a checkpoint; a restored stream goes on with
    exactly the batches that would have come.
    """

    def __init__(self, recipe: Recipe, tasks: dict[str, Task], tokenizer: Tokenizer) -> None:
        self.recipe, self.tasks, self.tokenizer = recipe, tasks, tokenizer
        self._stage = 0
        self._counts = dict.fromkeys(tasks, 0)
        self._resumable = {name: task for name, task in tasks.items() if isinstance(task, Resumable)}
        self._start, self._positions = dict(self._counts), self._places()
        self._pool: list[list[Example]] = []
        self._taken = 0

    def state(self) -> dict[str, Any]:
        """Where the current pool started and how much of it is used."""
        return {
            "stage": self._stage,
            "start": dict(self._start),
            "sources": self._positions,  # as runs of the first versions call it
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
        return {name: task.state() for name, task in self._resumable.items()}

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
            drawn = self.tasks[name].draw(self._counts[name], rng, stage)
            self._counts[name] += 1
            limit = self.recipe.target_tokens
            example = drawn if isinstance(drawn, Example) else encode(drawn, self.tokenizer, limit, rng)
            if example is not None:
                return example
        raise DataError(
            f"{ATTEMPTS:,} examples in a row have targets of more than {self.recipe.target_tokens} tokens; "
            "raise target_tokens"
        )
