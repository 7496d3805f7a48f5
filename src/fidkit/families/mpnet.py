"""MPNet's encoder (arXiv 2004.09297): BERT's layers, which also have T5's bias by distance."""

from __future__ import annotations

from dataclasses import replace

from fidkit.families.bert import BERT

MPNET = replace(
    BERT,
    name="mpnet",
    modules="fidkit.nn.families.mpnet",
    relative_bias=True,
    embedding="mpnet",
    kernels=None,
)
