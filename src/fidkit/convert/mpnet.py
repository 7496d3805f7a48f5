"""MPNet's names and configuration, and ours: all-mpnet-base-v2 and others of its layout.

Its layers are BERT's with a bias by distance (`fidkit.nn.families.mpnet`). Its positions count from behind
its padding token on, and those before are left out. It has one type of text: ours begin as zeros, which
change nothing. As with BERT there is an encoder alone, and the decoder is fresh.
"""

from __future__ import annotations

from typing import Any

import torch

from fidkit.config import ReaderConfig
from fidkit.convert import bert
from fidkit.convert.kinds import Foreign
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights

EXPECTED: dict[str, Any] = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "relative_attention_num_buckets": 32,
}
"""What transformers computes with; of the last two it takes no other numbers."""
DEFAULTS: dict[str, Any] = {"layer_norm_eps": 1e-12}
"""What transformers takes a `config.json` to mean that says nothing."""
START, END = "<s>", "</s>"
BEFORE = 2
"""Positions up to that of padding, which no token has."""
LEFT_OUT = ("lm_head.",)
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embedding.types.weight"
BIAS = "encoder.relative_attention_bias.weight"

LAYER = {
    "attention.attn.q": "attention.query",
    "attention.attn.k": "attention.key",
    "attention.attn.v": "attention.value",
    "attention.attn.o": "attention.out",
    "attention.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.out",
    "output.LayerNorm": "feed_forward_norm",
}


def table(config: ReaderConfig) -> dict[str, str]:
    """MPNet's name of every parameter that it has of a reader's encoder, all of it live -> ours."""
    embedding = bert.of_embeddings(bert.EMBEDDINGS)
    mine = {theirs: ours for theirs, ours in embedding.items() if ours != TYPES}
    return mine | {BIAS: "live_encoder.relative_bias.weight"} | bert.of_layers(config, LAYER)


def read(found: Foreign) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration, with a decoder of usual sizes, and the encoder's weights under our names.

    Raises:
        CheckpointError: other layers than MPNet's, no vocabulary with its tokens, or tensors missing, unknown
            or of another shape.
    """
    bert.expect(found, EXPECTED, DEFAULTS)
    given = bert.positions_of(found.record.get("max_position_embeddings", 512), found.where)
    config = bert.config_of(found, "mpnet", given - BEFORE, START, END)
    tensors, left = bert.of_the_encoder(found.tensors, LEFT_OUT)
    if POSITIONS in tensors:
        tensors[POSITIONS] = tensors[POSITIONS][BEFORE:].contiguous()
    weights = bert.ours(config, table(config), tensors, found.where)
    weights[TYPES] = torch.zeros(2, config.encoder.width)
    return config, weights, Notes(remarks=bert.remarks_on(found, config, tensors, left))
