"""MPNet's layers with plain matrices: the oracle of the family `mpnet`."""

from __future__ import annotations

import torch
from torch import Tensor

from naive_bert import NaiveBert
from naive_t5 import naive_bucket


class NaiveMPNet(NaiveBert):
    """BERT with a table of biases in each stack, and norms that add more to the variance."""

    epsilon = 1e-5

    def bias(self, name: str, head: int, length: int) -> Tensor:
        stack, _, attention = name.partition(".layers.")
        if attention.endswith("cross_attention"):
            return torch.zeros(())
        table, config = self.w[f"{stack}.relative_bias.weight"], self.config
        both, buckets, most = stack != "decoder", config.relative_buckets, config.relative_max_distance
        places = range(length)
        rows = [[table[naive_bucket(k - q, both, buckets, most)][head] for k in places] for q in places]
        return torch.stack([torch.stack(row) for row in rows])
