"""What changes over a run: the learning rate, and the weight of auxiliary losses."""

from __future__ import annotations

import math

from fidkit.train.recipe import Recipe
from fidkit.train.specs import OptimiserSpec, StageSpec

TAIL = 0.1
"""Auxiliary losses fade over this last fraction of a run, ..."""
TAIL_WEIGHT = 0.3
"""... to this share of their weight: by then the reader should serve the answer alone."""


def rate(step: int, steps: int, spec: OptimiserSpec) -> float:
    """Learning rate of step 0 .. steps - 1.

    `linear`: linear warm-up, constant, linear decay. `constant`: linear warm-up, constant. `cosine`: linear
    warm-up, then half a cosine down to the final rate. `inverse-sqrt`: constant while others warm up, then
    falling with the root of the step, as T5 was trained; the rate of a step doesn't depend on `steps`.
    """
    if spec.schedule == "inverse-sqrt":
        return spec.rate * math.sqrt(max(1, spec.warmup) / max(step + 1, spec.warmup))
    warm = min(1.0, (step + 1) / max(1, spec.warmup))
    if spec.schedule == "constant":
        return spec.rate * warm
    if spec.schedule == "cosine":
        done = max(0, step + 1 - spec.warmup) / max(1, steps - spec.warmup)
        return spec.rate * warm * (spec.final + (1 - spec.final) * (1 + math.cos(math.pi * done)) / 2)
    done = step / steps
    if done <= spec.decay_from:
        return spec.rate * warm
    left = (1 - done) / (1 - spec.decay_from)
    return spec.rate * warm * (spec.final + (1 - spec.final) * left)


def stage_at(step: int, recipe: Recipe) -> tuple[int, StageSpec, int]:
    """Number and content of the stage that a step belongs to, and which of its steps it is, from 0."""
    done = step
    for number, stage in enumerate(recipe.stages):
        if done < stage.steps:
            return number, stage, done
        done -= stage.steps
    raise AssertionError(f"the run is over before step {step}")


def stages_so_far(steps: int, recipe: Recipe) -> list[StageSpec]:
    """The stages that the first `steps` steps belong to."""
    return recipe.stages[: stage_at(max(0, steps - 1), recipe)[0] + 1]


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of a step of a run, before what parts of the reader make of it."""
    _, stage, done = stage_at(step, recipe)
    if recipe.optimiser.span == "stage":
        return stage.rate * rate(done, stage.steps, recipe.optimiser)
    return stage.rate * rate(step, recipe.steps, recipe.optimiser)


def fade(step: int, steps: int) -> float:
    """What auxiliary losses of step 0 .. steps - 1 are multiplied by."""
    return TAIL_WEIGHT if step >= (1 - TAIL) * steps else 1.0
