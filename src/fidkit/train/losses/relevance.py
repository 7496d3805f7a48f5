"""Passages that hold the answer should score highest, and none should score high where none holds it.

Scores that are learnt from the answers' places have a meaning of their own: 0 is what reading none of the
passages would score. So softmax over the scores and 0 says how likely each passage holds the answer, and how
likely it is that none does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fidkit.engine.generation.rules import occurrences


def holding(passages: Sequence[Sequence[Sequence[int]]], targets: Sequence[Sequence[int]]) -> Tensor:
    """[B, N], True for passages that hold their question's target as it is written.

    Args:
        passages: tokens of each passage of each question; one without any reads an empty one.
        targets: tokens of each target, end of sequence included; an empty target stands nowhere.
    """
    most = max([1, *map(len, passages)])
    holds = torch.zeros(len(passages), most, dtype=torch.bool)
    for number, (of_question, target) in enumerate(zip(passages, targets, strict=True)):
        answer = list(target[:-1])
        for passage, tokens in enumerate(of_question):
            holds[number, passage] = bool(occurrences(tokens, answer))
    return holds


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
