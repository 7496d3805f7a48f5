"""Passages that hold the answer should score highest, and none should score high where none holds it.

Scores that are learnt from the answers' places have a meaning of their own: 0 is what reading none of the
passages would score. So softmax over the scores and 0 says how likely each passage holds the answer, and how
likely it is that none does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.train.losses.auxiliary import Places


def holding(places: Places, scores_BN: Tensor) -> Tensor:
    """[B, N], True for the scores of passages in which their question's target stands."""
    holds_BN = torch.zeros_like(scores_BN, dtype=torch.bool)
    holds_BN[places.question, places.passage] = True
    return holds_BN


def relevance_loss(scores_BN: Tensor, holds_BN: Tensor) -> Tensor:
    """Minus the log of the share that passages with the answer have, in nats, the mean over questions.

    Shares are the softmax of a question's scores and of 0, which stands for none of the passages; it is what
    should have the whole share where no passage holds the answer.

    Args:
        scores_BN: -inf where a question has no such passage.
        holds_BN: which hold the answer.
    """
    none_B1 = scores_BN.new_zeros(len(scores_BN), 1)
    scores_BN = torch.cat([scores_BN, none_B1], 1)
    right_BN = torch.cat([holds_BN, ~holds_BN.any(1, keepdim=True)], 1)
    rightly_B = scores_BN.masked_fill(~right_BN, float("-inf")).logsumexp(1)
    return (scores_BN.logsumexp(1) - rightly_B).mean()
