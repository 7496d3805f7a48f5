"""The answer that a trained pointer finds: the likeliest piece of a passage."""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.context import Batch, Context

LONGEST = 32
"""Tokens of a piece."""


def point(batch: Batch, context: Context, logits_BM2: Tensor) -> list[list[int]]:
    """Tokens of the likeliest piece of a passage for each question, from its first token to its last.

    Args:
        batch: what was read.
        context: of it; with reranking or few kept vectors, pieces of what is left.
        logits_BM2: that a vector begins and ends the answer.
    """
    real = context.mask_BM & (context.token_BM >= 0)
    first_BM, last_BM = logits_BM2.float().masked_fill(~real[..., None], -torch.inf).unbind(-1)
    M = real.shape[1]
    best_B = torch.full((len(real),), -torch.inf, device=real.device)
    start_B, length_B = (torch.zeros(len(real), dtype=torch.long, device=real.device) for _ in range(2))
    for length in range(1, min(LONGEST, M) + 1):
        ahead = slice(length - 1, None)
        scores = first_BM[:, : M - length + 1] + last_BM[:, ahead]
        # A piece is of one passage, and nothing is missing in it.
        whole = (context.passage_BM[:, : M - length + 1] == context.passage_BM[:, ahead]) & (
            context.token_BM[:, : M - length + 1] + length - 1 == context.token_BM[:, ahead]
        )
        score_B, at_B = scores.masked_fill(~whole, -torch.inf).max(1)
        better = score_B > best_B
        best_B = torch.where(better, score_B, best_B)
        start_B, length_B = torch.where(better, at_B, start_B), torch.where(better, length, length_B)
    rows = torch.searchsorted(batch.question_of_passage, torch.arange(len(real), device=real.device))
    found = []
    for question, (start, length) in enumerate(zip(start_B.tolist(), length_B.tolist(), strict=True)):
        row = rows[question] + context.passage_BM[question, start]
        token = int(context.token_BM[question, start])
        found.append(batch.passage_ids[row, token : token + length].tolist() if length else [])
    return found
