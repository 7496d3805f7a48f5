"""Scoring passages on the way through the live layers, and choosing the best (GLIMMER, arXiv 2306.10231).

The score is linear in the mean of a row's normed vectors, the question's among them. A mean, because it
needs no vector that sees the whole row: a score depends on question and passage in every ablation of
`live_attention`. The weights start at zero. Then all passages tie, and ties keep the order in which passages
came, which is the search engine's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fidkit.config import RerankConfig
from fidkit.fusion import best_in_group
from fidkit.nn.layers import RMSNorm
from fidkit.nn.rows import Rows


class Reranker(nn.Module):
    """A norm, and a weight for each of its dimensions; in float32, since close scores decide.

    Args:
        config: how many passages are kept, and after how many layers.
        width: of the vectors.
    """

    def __init__(self, config: RerankConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.norm = RMSNorm(width)
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x_XD: Tensor, rows: Rows) -> Tensor:
        """Scores [R], float32, of rows; higher is better."""
        R = len(rows.lengths)
        summed_RD = x_XD.new_zeros(R, x_XD.shape[1], dtype=torch.float32)
        summed_RD = summed_RD.index_add(0, rows.row_X, self.norm(x_XD).float())
        mean_RD = summed_RD / rows.lengths.clamp(min=1)[:, None]
        return (mean_RD * self.weight.float()).sum(-1)

    def choose(self, scores_R: Tensor, question_R: Tensor) -> Tensor:
        """[R], True for the best passages of each question; of equal ones, the first."""
        return best_in_group(scores_R, question_R, self.config.keep)
