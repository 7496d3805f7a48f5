"""Memory as codes of product quantisation give it back (MEMORY-VQ §3), while a reader learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fidkit.context import pad
from fidkit.memory.pq import train_pq
from fidkit.nn.encoder import Run
from fidkit.reader import Reader
from fidkit.types import Passage

BATCH = 32


@torch.no_grad()
def coded(compute: Run, reader: Reader, passages: Sequence[Passage], codes: int) -> Run:
    """What `compute` makes of frozen layers, rounded to codes; they are found by the memory of `passages`.

    Args:
        compute: how frozen layers are run.
        reader: LUMEN, whose memory encoder alone is left as it is.
        passages: some hundreds.
        codes: of each 16 dimensions.
    """
    assert reader.tokenizer is not None
    parts = []
    for at in range(0, len(passages), BATCH):
        ids = reader.tokenizer.passages(passages[at : at + BATCH])
        lengths_R = torch.tensor([len(row) for row in ids])
        ids_RP = torch.as_tensor(pad(ids, reader.config.pad_token))
        parts.append(reader.encode_passages(ids_RP, lengths_R, compute))
    codec = train_pq(torch.cat(parts), codes=codes)

    def run(*given: Any) -> Tensor:
        return codec.decode(codec.encode(compute(*given).float().cpu()), torch.float32)

    return run
