"""A decoder for a checkpoint that is an encoder alone: it starts out able to copy, and is to be trained.

What is drawn depends on its shape and the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.errors import ConfigError
from fidkit.nn.copying import start_copying
from fidkit.reader import Reader

LAYERS = 2
HEAD_WIDTH = 64
_ENCODER = ("embedding.", "memory_encoder.", "question_encoder.", "live_encoder.")


def decoder_for(width: int, heads: int, layers: int) -> dict[str, Any]:
    """A T5 v1.1 decoder for an encoder of this width: as wide, with heads of 64, or as many where uneven.

    Its gated feed-forward layer has about as many weights as one without a gate of four times the width.
    """
    head_width = HEAD_WIDTH if width % HEAD_WIDTH == 0 else width // heads
    return {
        "layers": layers,
        "width": width,
        "heads": width // head_width,
        "head_width": head_width,
        "feed_forward": -(-8 * width // 3 // 64) * 64,
        "family": "t5-v1.1",
    }


def with_decoder(
    config: ReaderConfig, weights: Mapping[str, Tensor], layers: int | None, seed: int | None
) -> tuple[ReaderConfig, dict[str, Tensor], Notes]:
    """The reader with whatever isn't its encoder drawn.

    Args:
        config: of the reader.
        weights: of its encoder, under our names.
        layers: of the decoder; None takes the configuration's.
        seed: of what is drawn; None is 0.

    Raises:
        ConfigError: a number of layers that can't be.
    """
    if layers is not None:
        config = config.replace(decoder={**config.decoder.model_dump(), "layers": layers})
    drawn = _drawn(config, seed or 0)
    stack, count = config.decoder, sum(t.numel() for t in drawn.values())
    remark = (
        f"the decoder is new: {stack.layers} layers of width {stack.width}, {count / 1e6:,.1f}M parameters "
        f"drawn with seed {seed or 0}; train the reader before it is asked"
    )
    return config, {**weights, **drawn}, Notes(remarks=(remark,))


def _drawn(config: ReaderConfig, seed: int) -> dict[str, Tensor]:
    """All parameters that are no encoder's, as in a new reader; none of them depends on how deep that is."""
    shallow = config.encoder.replace(layers=1).model_dump()
    reader = Reader(config.replace(encoder=shallow, live_layers=1))
    generator = torch.Generator().manual_seed(seed)
    reader.reset_parameters(generator)
    if config.token_skip:
        start_copying(reader.decoder, generator)
    return {n: p.detach() for n, p in reader.named_parameters() if not n.startswith(_ENCODER)}


def require_no_decoder(layers: int | None, seed: int | None) -> None:
    """Refuse sizes of a new decoder for a checkpoint that has one.

    Raises:
        ConfigError: says what is for those.
    """
    if layers is not None or seed is not None:
        raise ConfigError(
            "this checkpoint has a decoder; --decoder-layers and --seed are for an encoder alone, and "
            "--decoder grows a decoder"
        )
