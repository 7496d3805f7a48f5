"""How much each passage had to do with an answer."""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.context import IGNORED, Context
from fidkit.engine.generation.generate import Generated
from fidkit.reader import Reader


def evidence_shares(reader: Reader, context: Context, generated: Generated, passages: int) -> Tensor:
    """Share [B, passages] of each passage in the answer; a question's shares sum to 1.

    Where the reader reranks, the softmax of its scores, which counts the passages that it left behind. Else
    the attention mass that the answer's tokens put on the vectors of a passage (the question's in front
    of it included), averaged over heads, answer tokens and the layers that have cross-attention. Mass on
    a question block that belongs to no passage is left out.
    """
    if context.scores_BN is not None:
        return context.scores_BN.softmax(-1)
    ids = generated.ids_BT
    steps = (ids != IGNORED).float()
    masses: list[Tensor] = []

    def collect(_layer: int, scores_BHTM: Tensor) -> None:
        masses.append(torch.einsum("bhtm,bt->bm", scores_BHTM.softmax(-1), steps))

    reader.decode(ids, context, collect)
    mass_BM = torch.stack(masses).sum(0).masked_fill(context.passage_BM < 0, 0.0)
    shares = mass_BM.new_zeros(mass_BM.shape[0], max(1, passages))
    shares.scatter_add_(1, context.passage_BM.clamp(min=0), mass_BM)
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-30)
