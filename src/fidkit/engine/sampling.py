"""Drawing tokens.

All randomness of a run is drawn before its first step: one number a token, on the CPU, so that a seed means
the same on every device and no step waits. Each question gets the same numbers, which makes its samples
independent of the questions beside it, and the first of several samples the one that is drawn alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.engine.decoding import Decoding


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
        uniform_N: where in the cumulative distribution, the likeliest token first, to draw.
        decoding: with a temperature above 0.
    """
    sorted_NV, tokens_NV = log_probabilities_NV.sort(dim=1, descending=True, stable=True)
    sorted_NK = sorted_NV[:, : decoding.top_k].double()
    # The likeliest becomes 0 before the division, which then can't overflow.
    probabilities_NK = ((sorted_NK - sorted_NK[:, :1]) / decoding.temperature).softmax(1)
    before_NK = probabilities_NK.cumsum(1) - probabilities_NK
    kept_NK = probabilities_NK.where(before_NK < decoding.top_p, 0)
    cumulative_NK = kept_NK.cumsum(1)
    point_N1 = uniform_N[:, None] * cumulative_NK[:, -1:]
    place_N1 = torch.searchsorted(cumulative_NK, point_N1, right=True)
    # Rounding may put the point on the total; it then belongs to the last token that is kept.
    last_N1 = (kept_NK > 0).sum(1, keepdim=True).clamp(min=1) - 1
    return tokens_NV.gather(1, place_N1.minimum(last_N1))[:, 0]
