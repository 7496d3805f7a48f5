"""A fresh decoder that starts out able to copy (`ReaderConfig.token_skip`).

Beside each state of the context, such a decoder sees its token and the one before it, as it writes them
itself. So copying can be put into its weights, which a small reader would take very long to find:

- in the last layer with cross-attention, all heads look for the place behind the token that was written last
  (query and key are one orthogonal matrix, on that token and on the token before), and what stands there goes
  straight to the tied output (value and output are an orthogonal matrix and its transpose);
- in the first, two heads look for the token that was written last itself.

What the encoder's states add is drawn small beside that, and learnt.
"""

from __future__ import annotations

import torch

from fidkit.config import ReaderConfig
from fidkit.nn.attention import CrossAttention
from fidkit.nn.decoder import Decoder
from fidkit.nn.initialise import orthogonal

MATCH, COPY_GAIN = 1.2, 1.5
"""Sizes of what matches, for scores over the root of the head width, and of what is written."""
BESIDE, LITTLE = 0.3, 0.2
FINDING_HEADS = 2
RESIDUAL = 0.3


@torch.no_grad()
def start_copying(decoder: Decoder, generator: torch.Generator | None = None) -> None:
    """Change freshly drawn weights of a decoder as described above.

    Args:
        decoder: of a reader with `token_skip`.
        generator: decides what is random.
    """
    config = decoder.config
    assert config.token_skip, "the decoder sees no tokens beside states"
    for layer in decoder.layers:
        for matrix in layer.outputs():
            matrix.weight.mul_(RESIDUAL)
    reading = [module for module in decoder.modules() if isinstance(module, CrossAttention)]
    token, before = _places(config)
    if len(reading) > 1:
        _find(reading[0], token, FINDING_HEADS, generator)
    _find(reading[-1], before, reading[-1].heads, generator)
    _write(reading[-1], token, before, generator)


def _places(config: ReaderConfig) -> tuple[slice, slice]:
    """Where in a context's vectors its token is, and the one before it."""
    states, width = config.encoder.width, config.decoder.width
    return slice(states, states + width), slice(states + width, states + 2 * width)


def _find(attention: CrossAttention, place: slice, heads: int, generator: torch.Generator | None) -> None:
    """Some heads match what the decoder wrote last with the tokens at `place`."""
    width, sharing = attention.head_width, attention.heads // attention.kv_heads
    # Scores are a product of both, and T5 doesn't divide them by the root of the head width.
    size = MATCH * (1.0 if attention.scale != 1 else width**-0.25)
    for group in range(-(-heads // sharing)):
        rows = orthogonal(width, place.stop - place.start, generator) * size
        key = attention.key.weight[group * width : (group + 1) * width]
        key.mul_(BESIDE)
        key[:, place] = rows
        for head in range(group * sharing, min(heads, (group + 1) * sharing)):
            attention.query.weight[head * width : (head + 1) * width] = rows


def _write(attention: CrossAttention, token: slice, before: slice, generator: torch.Generator | None) -> None:
    """Value then output is the identity on the token, as far as shapes allow."""
    value = attention.value.weight
    rows = orthogonal(len(value), token.stop - token.start, generator)
    value[:, : token.start].mul_(LITTLE)
    value[:, before].mul_(LITTLE / 2)
    value[:, token] = rows
    sharing = attention.heads // attention.kv_heads
    of_heads = rows.view(attention.kv_heads, 1, attention.head_width, -1)
    shared = of_heads.expand(-1, sharing, -1, -1).reshape(-1, rows.shape[1])
    attention.out.weight.copy_(shared.T * (COPY_GAIN / sharing))
