"""Training by a recipe, as the experiments do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fidkit.bench.rows import read
from fidkit.reader import Reader
from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Trained:
    """A reader at the end of its recipe.

    Attributes:
        reader: as it was saved last.
        recipe: with all changes.
        cpu_seconds: of its steps, also of those before an interruption.
        log: rows of the run's log.
    """

    reader: Reader
    recipe: Recipe
    cpu_seconds: float
    log: list[dict[str, Any]]

    @property
    def cost(self) -> dict[str, Any]:
        """The part of a row that says what training took; questions and passages are of the last stage."""
        stage = self.recipe.stages[-1]
        return {
            "steps": self.recipe.steps, "questions": stage.questions, "passages": stage.passages,
            "cpu_seconds": round(self.cpu_seconds, 1),
        }  # fmt: skip


def train(recipe: Path, changes: Sequence[str]) -> Trained:
    """Train by a recipe with `--set` changes to its end, from wherever its run stands."""
    loaded = load_recipe(recipe, changes)
    trainer = Trainer(loaded)
    trainer.run()
    log = list(read(trainer.directory.path / "log.jsonl"))
    return Trained(Reader.from_pretrained(trainer.checkpoints.last), loaded, trainer.cpu_seconds, log)


def steps_of(*recipes: str) -> int:
    """Steps of recipes of this project, one after the other."""
    return sum(load_recipe(RECIPES / name).steps for name in recipes)
