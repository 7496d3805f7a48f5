"""A run that was planned for fewer steps, or more, goes on: whether it can, and what that makes of it.

Most of a step depends on the steps before it alone. Two things look at the end of the run: the learning rate
of some schedules, and auxiliary losses, which fade over its last tenth.
"""

from __future__ import annotations

from fidkit.train.loop.schedule import fade, rate_at
from fidkit.train.recipe import Recipe


def stage_steps(recipe: Recipe) -> list[int]:
    """Steps of each stage."""
    return [stage.steps for stage in recipe.stages]


def goes_on(before: Recipe, now: Recipe, done: int) -> bool:
    """Whether the first `done` steps belong to the same stages in both recipes."""
    return done > 0 and _taken(before, done) == _taken(now, done)


def _taken(recipe: Recipe, done: int) -> list[int]:
    """How many of the first `done` steps each stage has, up to the last one that has any."""
    taken: list[int] = []
    for steps in stage_steps(recipe):
        if done > 0:
            taken.append(min(steps, done))
        done -= steps
    return taken if done <= 0 else [*taken, done]


def unlike(before: Recipe, now: Recipe, done: int) -> list[str]:
    """How the first `done` steps differ from those of a run that was planned as `now`, in sentences.

    Empty where they don't: then the run ends with the same bits.
    """
    steps = range(done)
    sentences = []
    spec = before.optimiser
    rates = [n for n in steps if rate_at(n, before) != rate_at(n, now)]
    if rates:
        sentences.append(
            f'with optimiser.schedule = "{spec.schedule}", steps {rates[0] + 1:,} to {rates[-1] + 1:,} had '
            f"the rates of a run of {before.steps:,} steps, not of {now.steps:,}"
        )
    auxiliary = [stage.auxiliaries for stage in before.stages for _ in range(stage.steps)]
    faded = [n for n in steps if auxiliary[n] and fade(n, before.steps) != fade(n, now.steps)]
    if faded:
        sentences.append(
            f"auxiliary losses of steps {faded[0] + 1:,} to {faded[-1] + 1:,} had the weight that they have "
            f"at the end of {before.steps:,} steps, not of {now.steps:,}"
        )
    return sentences
