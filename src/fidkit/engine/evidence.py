"""How much each passage had to do with an answer, and where in it the decoder looked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.context import IGNORED, Context
from fidkit.engine.generation.generate import Generated
from fidkit.engine.signals import of_tokens
from fidkit.reader import Reader


@dataclass(frozen=True)
class Looked:
    """What the decoder looked at while it wrote.

    Attributes:
        shares: [B][passages], of each passage in the answer; a question's sum to 1.
        tokens: [B][passages], the token of each passage that was looked at most when the answer began; None
            where no vector of it is in the context, and everywhere in a reader that reranks.
        signals: [B], of the answer's tokens (`fidkit.calibration.SIGNALS`).
    """

    shares: list[list[float]]
    tokens: list[list[int | None]]
    signals: list[dict[str, float]]


def look_back(reader: Reader, context: Context, generated: Generated, passages: int) -> Looked:
    """Shares and tokens of each passage, and how sure the decoder was.

    Where the reader reranks, shares are the softmax of its scores, which counts the passages that it left
    behind. Else they are the attention mass that the answer's tokens put on the vectors of a passage (the
    question's in front of it included), averaged over heads, answer tokens and the layers that have
    cross-attention. Mass on a question block that belongs to no passage is left out. The token that was
    looked at most is that of the last such layer, over all heads.
    """
    passages = max(1, passages)
    ids, end = generated.ids_BT, reader.config.end_token
    if context.scores_BN is not None:
        shares_BN = context.scores_BN.softmax(-1)
        nowhere: list[list[int | None]] = [[None] * passages for _ in range(len(shares_BN))]
        return Looked(shares_BN.tolist(), nowhere, of_tokens(reader.decode(ids, context), ids, end))
    steps = (ids != IGNORED).float()
    masses: list[Tensor] = []
    first_BM = torch.empty(0)

    def collect(_layer: int, scores_BHTM: Tensor) -> None:
        nonlocal first_BM
        weights = scores_BHTM.softmax(-1)
        masses.append(torch.einsum("bhtm,bt->bm", weights, steps))
        first_BM = weights[:, :, 0].sum(1)

    signals = of_tokens(reader.decode(ids, context, collect), ids, end)
    mass_BM = torch.stack(masses).sum(0).masked_fill(context.passage_BM < 0, 0.0)
    shares = mass_BM.new_zeros(mass_BM.shape[0], passages)
    shares.scatter_add_(1, context.passage_BM.clamp(min=0), mass_BM)
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-30)
    return Looked(shares.tolist(), _most_looked_at(context, first_BM, passages), signals)


def _most_looked_at(context: Context, first_BM: Tensor, passages: int) -> list[list[int | None]]:
    real_BM = (context.passage_BM >= 0) & (context.token_BM >= 0)
    place_BM = torch.where(real_BM, context.passage_BM, passages)
    most_BN = first_BM.new_full((len(first_BM), passages + 1), -1.0)
    most_BN.scatter_reduce_(1, place_BM, first_BM, "amax")
    is_most_BM = real_BM & (first_BM == most_BN.gather(1, place_BM))
    token_BN = context.token_BM.new_full((len(first_BM), passages + 1), -1)
    token_BN.scatter_reduce_(1, place_BM, torch.where(is_most_BM, context.token_BM, -1), "amax")
    return [[token if token >= 0 else None for token in row[:passages]] for row in token_BN.tolist()]
