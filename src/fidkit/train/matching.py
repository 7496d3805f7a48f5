"""An initialisation that makes a small reader match and copy from the first step.

Drawn at random in T5's way, a small reader needs a very long time to discover that equal tokens should
find each other and that what the decoder attends to should be what it writes. Both can be put into the
weights, and the architecture stays a plain T5:

- in two encoder layers, the first that see question and passage together unless others are asked for, a
  quarter of the heads have equal, orthogonal query and key matrices, so equal tokens score about 10; the
  position bias makes them look back (a passage token at the question) and away from itself;
- further heads start as previous-token, next-token and local windows;
- in the last two layers with cross-attention, value and output are an orthogonal matrix and its transpose,
  so that an attended token goes straight to the (tied) output;
- what each branch adds to the residual stream is scaled down by the number of branches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.errors import ConfigError
from fidkit.nn.attention import CrossAttention, Projections
from fidkit.nn.blocks import DecoderLayer, EncoderLayer
from fidkit.nn.initialise import orthogonal
from fidkit.nn.positions import PositionBias
from fidkit.reader import Reader

EQUAL_SCORE = 10.0
COPY_GAIN = 1.5
AVOID_ITSELF, AVOID_LATER, PREFER = -10.0, -4.0, 3.0
WINDOW = 1.5


@torch.no_grad()
def match_and_copy(reader: Reader, generator: torch.Generator, first: int | None = None) -> None:
    """Change freshly drawn weights of `reader` as described above.

    Args:
        reader: any.
        generator: decides what is random.
        first: encoder layer, from 0, that matches first, and the next one after it; absent means the first
            live layer (layer 0 without any). A reader whose encoder is to be split later must match in layers
            that stay live.

    Raises:
        ConfigError: no such layer, or a family without the biases by distance that are set here.
    """
    _require_biases(reader.config)
    reader.reset_parameters(generator)
    encoder_layers = [*reader.question_encoder.layers, *reader.live_encoder.layers]
    for part in (*encoder_layers, *reader.decoder.layers):
        branches = 2 * len(encoder_layers) if part in encoder_layers else 3 * len(reader.decoder.layers)
        _scale_residuals(part, branches**-0.5)
    for module in reader.modules():
        if isinstance(module, PositionBias):
            module.weight.normal_(0.0, 0.1, generator=generator)
    heads = reader.config.encoder.heads
    matching = max(1, heads // 4)
    start = _first_to_match(reader, len(encoder_layers), first)
    for layer in encoder_layers[start : start + 2]:
        _match(layer.attention, matching, generator)
    _copy(encoder_layers[start].attention, 0.5, generator)
    for stack in (reader.question_encoder, reader.live_encoder):
        if len(stack.layers):
            _positions(stack.relative_bias.weight, matching)
    reading = [module for module in reader.decoder.modules() if isinstance(module, CrossAttention)]
    for attention in reading[-2:]:
        _copy(attention, COPY_GAIN, generator)
    reader.decoder.relative_bias.weight[0, -1] = PREFER
    reader.split_encoder()


def _require_biases(config: ReaderConfig) -> None:
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if not stack.blocks.relative_bias:
            raise ConfigError(
                f"the {name} is of family {stack.family}, without the biases by distance that the "
                'initialisation "matching" sets; leave it out'
            )


def _first_to_match(reader: Reader, layers: int, asked: int | None) -> int:
    if asked is None:
        return len(reader.question_encoder.layers) % layers
    if not 0 <= asked < layers:
        raise ConfigError(f"matching_layer {asked}: expected one of the encoder's layers, 0 to {layers - 1}")
    return asked


def _scale_residuals(layer: EncoderLayer | DecoderLayer, factor: float) -> None:
    for matrix in layer.outputs():
        matrix.weight.mul_(factor)


def _match(attention: Projections, heads: int, generator: torch.Generator) -> None:
    h = attention.head_width
    for head in range(heads):
        rows = orthogonal(h, attention.query.in_features, generator) * (EQUAL_SCORE / h) ** 0.5
        attention.query.weight[head * h : (head + 1) * h] = rows
        attention.key.weight[head * h : (head + 1) * h] = rows


def _copy(attention: Projections, gain: float, generator: torch.Generator) -> None:
    """Value then output is `gain` times the identity, as far as shapes allow."""
    rows, columns = attention.value.weight.shape
    value = orthogonal(rows, columns, generator)
    attention.value.weight.copy_(value)
    if attention.kv_heads == attention.heads and attention.value.in_features == attention.out.out_features:
        attention.out.weight.copy_(value.T * gain)


def _positions(bias: Tensor, matching: int) -> None:
    """Roles of the heads by position; rows are buckets: 0 is itself, 1.. earlier, half + 1.. later."""
    buckets, heads = bias.shape
    half = buckets // 2
    bias[0, :matching] = AVOID_ITSELF
    bias[half + 1 :, :matching] = AVOID_LATER
    if heads - matching < 2:
        return
    bias[1, heads - 1] = PREFER
    bias[half + 1, heads - 2] = PREFER
    near = min(5, half - 1)
    for head in range(matching + matching % 2, heads - 2, 2):
        bias[: near + 1, head] += WINDOW
        bias[half + 1 : half + near + 1, head] += WINDOW
