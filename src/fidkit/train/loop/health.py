"""Whether a run is still learning, judged by its losses alone.

A loss is noisy, and a single bad batch is nothing to go back for. So the last few losses are judged by their
median, against the lowest that the median of a whole window has been, in units of the window's spread. All of
that is on the logarithm of the loss, where noise is of one size early and late in a run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fidkit.train.specs import HealthSpec

RECENT = 9
"""Losses that are judged together: five bad ones are found, four are let pass."""
LEAST = 20
"""Losses before these, at least; until then nothing is judged but whether numbers are finite."""
SPREAD = 0.05
"""Of log losses, at least: curves of hardly any noise may wave a little."""
MARGIN = 0.1
"""Nats by which the loss has to have risen, whatever the spread: near zero, ratios say nothing."""
TINY = 1e-6
UPPER, DEVIATIONS = 0.9, 1.2816
"""The quantile that spread is measured by, and how many standard deviations of a normal one it is. The upper
side alone counts, and a tail that one batch in ten belongs to is part of what is ordinary."""


class Health:
    """Watches the losses of a run, step by step.

    Args:
        spec: `window` and `factor`; how often to go back, and with what rate, is the trainer's business.
    """

    def __init__(self, spec: HealthSpec) -> None:
        self.spec = spec
        self._logs: list[float] = []
        self._lowest: tuple[float, float] | None = None

    def see(self, loss: float, norm: float) -> str | None:
        """What is wrong after a step with this loss and norm of the gradient; None if nothing."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the norm of the gradient is {norm}"
        self._logs = [*self._logs, math.log(max(loss, TINY))][-(self.spec.window + RECENT) :]
        limit, now = self._limit(), math.exp(np.quantile(self._logs[-RECENT:], 0.5))
        if limit is None or now <= limit or self._lowest is None:
            return None
        return f"the loss has risen to {now:.3g} from {math.exp(self._lowest[0]):.3g}"

    @property
    def suspicious(self) -> bool:
        """Whether a recent loss was too high on its own: no moment for a checkpoint to go back to."""
        limit = self._limit()
        return limit is not None and math.exp(max(self._logs[-RECENT:])) > limit

    def new_stage(self) -> None:
        """Judge from here on by losses from here on; other data have other losses."""
        self._logs, self._lowest = [], None

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as plain numbers."""
        return {"logs": list(self._logs), "lowest": None if self._lowest is None else list(self._lowest)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as if what was seen after `state` had never been."""
        lowest = state["lowest"]
        self._logs, self._lowest = list(state["logs"]), None if lowest is None else (lowest[0], lowest[1])

    def _limit(self) -> float | None:
        """The highest loss that is ordinary; None while there is too little to judge by."""
        ordinary = self._logs[:-RECENT]
        if len(ordinary) < LEAST:
            return None
        middle = float(np.quantile(ordinary, 0.5))
        spread = max(SPREAD, (float(np.quantile(ordinary, UPPER)) - middle) / DEVIATIONS)
        if self._lowest is None or middle < self._lowest[0]:
            self._lowest = (middle, spread)
        # Losses may get noisier without getting higher; but a slow rise is a spread as well.
        low, was = self._lowest
        return max(math.exp(low + self.spec.factor * min(max(spread, was), 2 * was)), math.exp(low) + MARGIN)
