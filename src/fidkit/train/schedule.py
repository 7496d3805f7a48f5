"""Learning rate over a run."""

from __future__ import annotations

from fidkit.train.recipe import OptimiserSpec


def rate(step: int, steps: int, spec: OptimiserSpec) -> float:
    """Learning rate of step 0 .. steps - 1: linear warm-up, constant, linear decay."""
    warm = min(1.0, (step + 1) / max(1, spec.warmup))
    done = step / steps
    if done <= spec.decay_from:
        return spec.rate * warm
    left = (1 - done) / (1 - spec.decay_from)
    return spec.rate * warm * (spec.final + (1 - spec.final) * left)
