"""Drawing tokens.

All randomness of a run is drawn before its first step: one number a token, by NumPy, so that a seed means
the same on every device and no step waits. Each question gets the same numbers, which makes its samples
independent of the questions beside it, and the first of several samples the one that is drawn alone.
"""

from __future__ import annotations

import numpy as np

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.engine.generation.decoding import Decoding


def noise(decoding: Decoding, questions: int, like: Array) -> Array:
    """Uniform numbers [N, T] in [0, 1), the same for every question."""
    shape = (decoding.n_best, decoding.max_tokens)
    uniform_WT = np.random.default_rng(decoding.seed).random(shape)
    return arrays.made(np.tile(uniform_WT, (questions, 1)), like)


def draw(log_probabilities_NV: Array, uniform_N: Array, decoding: Decoding) -> Array:
    """Tokens [N]: temperature, then the `top_k` likeliest, then the likeliest with `top_p` together.

    Args:
        log_probabilities_NV: need not be normalised; -inf is never drawn.
        uniform_N: where in the cumulative distribution to draw.
        decoding: with a temperature above 0.
    """
    candidates_NK, tokens_NK = _candidates(log_probabilities_NV, decoding)
    # The likeliest becomes 0 before the division, which then can't overflow.
    best_N1 = arrays.largest(candidates_NK, 1)[0]
    # Where an answer has ended, nothing may follow; what is drawn there isn't looked at.
    nothing_N1 = best_N1 == float("-inf")
    candidates_NK = arrays.masked(candidates_NK, nothing_N1, 0.0)
    best_N1 = arrays.masked(best_N1, nothing_N1, 0.0)
    scaled_NK = arrays.typed(candidates_NK - best_N1, "float64") / decoding.temperature
    probabilities_NK = arrays.softmax(scaled_NK)
    if decoding.top_p < 1:
        before_NK = probabilities_NK.cumsum(1) - probabilities_NK
        probabilities_NK = arrays.masked(probabilities_NK, before_NK >= decoding.top_p, 0.0)
    place_N1 = _place(probabilities_NK.cumsum(1), uniform_N[:, None])
    return (place_N1 if tokens_NK is None else arrays.gather(tokens_NK, place_N1, 1))[:, 0]


def _candidates(log_probabilities_NV: Array, decoding: Decoding) -> tuple[Array, Array | None]:
    """Values and tokens to draw among: the likeliest first where that matters, None for all as they stand."""
    if decoding.top_k is not None:
        return arrays.largest(log_probabilities_NV, min(decoding.top_k, log_probabilities_NV.shape[1]))
    if decoding.top_p < 1:
        order_NV = arrays.descending(log_probabilities_NV)
        return arrays.gather(log_probabilities_NV, order_NV, 1), order_NV
    return log_probabilities_NV, None  # sorting a vocabulary takes longer than all the rest here


def _place(cumulative_NK: Array, uniform_N1: Array) -> Array:
    """The first place [N, 1] where the cumulative weight exceeds that share of the total."""
    total_N1 = cumulative_NK[:, -1:]
    # Rounding must not lift the point to the total, which nothing exceeds.
    point_N1, most_N1 = uniform_N1 * total_N1, arrays.below(total_N1)
    point_N1 = arrays.where(point_N1 < most_N1, point_N1, most_N1)
    place_N1 = (cumulative_NK <= point_N1).sum(1)[:, None]
    return place_N1.clip(max=cumulative_NK.shape[1] - 1)  # nothing exceeds what is not a number either
