"""Drawing tokens.

All randomness of a run is drawn before its first step: one number a token, on the CPU, so that a seed means
the same on every device and no step waits. Each question gets the same numbers, which makes its samples
independent of the questions beside it, and the first of several samples the one that is drawn alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.engine.generation.decoding import Decoding


def noise(decoding: Decoding, questions: int, device: torch.device) -> Tensor:
    """Uniform numbers [N, T] in [0, 1), the same for every question."""
    generator = torch.Generator().manual_seed(decoding.seed)
    shape = (decoding.n_best, decoding.max_tokens)
    uniform_WT = torch.rand(shape, generator=generator, dtype=torch.float64)
    return uniform_WT.repeat(questions, 1).to(device)


def draw(log_probabilities_NV: Tensor, uniform_N: Tensor, decoding: Decoding) -> Tensor:
    """Tokens [N]: temperature, then the `top_k` likeliest, then the likeliest with `top_p` together.

    Args:
        log_probabilities_NV: need not be normalised; -inf is never drawn.
        uniform_N: where in the cumulative distribution to draw.
        decoding: with a temperature above 0.
    """
    candidates_NK, tokens_NK = _candidates(log_probabilities_NV, decoding)
    # The likeliest becomes 0 before the division, which then can't overflow.
    scaled_NK = (candidates_NK - candidates_NK.amax(1, keepdim=True)).double() / decoding.temperature
    probabilities_NK = scaled_NK.softmax(1)
    if decoding.top_p < 1:
        before_NK = probabilities_NK.cumsum(1) - probabilities_NK
        probabilities_NK = probabilities_NK.where(before_NK < decoding.top_p, 0)
    place_N1 = _place(probabilities_NK.cumsum(1), uniform_N[:, None])
    return (place_N1 if tokens_NK is None else tokens_NK.gather(1, place_N1))[:, 0]


def _candidates(log_probabilities_NV: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor | None]:
    """Values and tokens to draw among: the likeliest first where that matters, None for all as they stand."""
    if decoding.top_k is not None:
        return log_probabilities_NV.topk(min(decoding.top_k, log_probabilities_NV.shape[1]), dim=1)
    if decoding.top_p < 1:
        return log_probabilities_NV.sort(dim=1, descending=True)
    return log_probabilities_NV, None  # sorting a vocabulary takes longer than all the rest here


def _place(cumulative_NK: Tensor, uniform_N1: Tensor) -> Tensor:
    """The first place [N, 1] where the cumulative weight exceeds that share of the total."""
    total_N1 = cumulative_NK[:, -1:]
    # Rounding must not lift the point to the total, which nothing exceeds.
    point_N1 = (uniform_N1 * total_N1).minimum(total_N1.nextafter(torch.zeros_like(total_N1)))
    place_N1 = torch.searchsorted(cumulative_NK, point_N1, right=True)
    return place_N1.clamp(max=cumulative_NK.shape[1] - 1)  # nothing exceeds what is not a number either
