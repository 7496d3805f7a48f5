"""Parameters of a reader and their bytes, by stage, without allocating any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.workload import DTYPE_BYTES, Workload

SCALE_BYTES = 4
"""An int8 matrix keeps one float32 scale an output."""


@dataclass(frozen=True)
class Matrix:
    """A linear map, stored as [outputs, inputs]."""

    inputs: int
    outputs: int

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs

    def bytes(self, dtype: str) -> int:
        scales = self.outputs * SCALE_BYTES if dtype == "int8" else 0
        return self.parameters * DTYPE_BYTES[dtype] + scales


def self_matrices(stack: StackConfig, kv_heads: int) -> list[Matrix]:
    """Query, key, value and output of self-attention."""
    inner, shared = stack.heads * stack.head_width, kv_heads * stack.head_width
    return [
        Matrix(stack.width, inner),
        Matrix(stack.width, shared),
        Matrix(stack.width, shared),
        Matrix(inner, stack.width),
    ]


def cross_matrices(config: ReaderConfig) -> list[Matrix]:
    """Query and output of one layer's cross-attention, applied every step."""
    stack = config.decoder
    inner = stack.heads * stack.head_width
    return [Matrix(stack.width, inner), Matrix(inner, stack.width)]


def context_matrices(config: ReaderConfig) -> list[Matrix]:
    """Key and value of one layer's cross-attention, applied once a question."""
    shared = config.kv_heads[1] * config.decoder.head_width
    return [Matrix(config.encoder.width, shared), Matrix(config.encoder.width, shared)]


def feed_forward_matrices(config: ReaderConfig, stack: StackConfig) -> list[Matrix]:
    """Two matrices, or three where a gate is one of them (T5 v1.1)."""
    inner = Matrix(stack.width, stack.feed_forward)
    gate = [inner] if config.block == "t5-v1.1" else []
    return [*gate, inner, Matrix(stack.feed_forward, stack.width)]


def memory_projection(config: ReaderConfig) -> list[Matrix]:
    """From the memory's width to the encoder's, where they differ."""
    same = config.memory_width == config.encoder.width
    return [] if same else [Matrix(config.memory_width, config.encoder.width)]


def head_matrix(config: ReaderConfig) -> Matrix:
    """Logits from the decoder's states; the decoder's embedding where the head is tied."""
    return Matrix(config.decoder.width, config.vocabulary_size)


@dataclass(frozen=True)
class Weights:
    """What one stage owns.

    Attributes:
        matrices: linear maps.
        other: parameters of norms, relative biases and embedding tables.
    """

    matrices: Sequence[Matrix]
    other: int

    @property
    def parameters(self) -> int:
        return self.other + sum(m.parameters for m in self.matrices)

    def bytes(self, matrices_dtype: str, dtype: str) -> int:
        return self.other * DTYPE_BYTES[dtype] + sum(m.bytes(matrices_dtype) for m in self.matrices)


def stage_weights(config: ReaderConfig) -> dict[str, Weights]:
    """What a reader owns, by stage: embedding, memory, question, join, live, projection, decoder, head.

    Shared tables count once, in `embedding`. The memory encoder has a table of its own. `join` is what
    stands around the live layers: the projection of memory, and what scores passages.
    """
    V, D, E = config.vocabulary_size, config.encoder.width, config.decoder.width
    memory = _encoder(config, config.memory_layers, config.memory_stack)
    live = _encoder(config, config.live)
    tables = D if config.shared_embedding else D + E
    return {
        "embedding": Weights([], V * tables),
        "memory": _with(memory, V * config.memory_width if config.memory_layers else 0),
        "question": _encoder(config, config.question_layers),
        "join": Weights(memory_projection(config), 2 * D if config.rerank else 0),
        "live": _with(live, D),
        "projection": Weights(context_matrices(config) * sum(config.cross_layers), 0),
        "decoder": _decoder(config),
        "head": Weights([] if config.tied_head else [head_matrix(config)], 0),
    }


def parameters(config: ReaderConfig) -> int:
    """Parameters of a reader; equals `fidkit.reader.parameter_count`."""
    return sum(stage.parameters for stage in stage_weights(config).values())


def weight_bytes(config: ReaderConfig, workload: Workload) -> dict[str, int]:
    """Bytes of weights in memory, by stage: what every step reads in `decoder_dtype`, the rest in `dtype`.

    Cross keys and values are projected once a question, a product of many rows: rounding their matrices
    would save no time.
    """
    steps = workload.decoder_matrices
    return {
        name: stage.bytes(steps if name in ("decoder", "head") else workload.dtype, workload.dtype)
        for name, stage in stage_weights(config).items()
    }


def _encoder(config: ReaderConfig, layers: int, stack: StackConfig | None = None) -> Weights:
    if not layers:
        return Weights([], 0)
    stack = stack or config.encoder
    layer = self_matrices(stack, stack.heads) + feed_forward_matrices(config, stack)
    return Weights(layer * layers, layers * 2 * stack.width + config.relative_buckets * stack.heads)


def _decoder(config: ReaderConfig) -> Weights:
    stack = config.decoder
    matrices: list[Matrix] = []
    norms = 1  # the final one
    for reads in config.cross_layers:
        matrices += self_matrices(stack, config.kv_heads[0]) + feed_forward_matrices(config, stack)
        matrices += cross_matrices(config) if reads else []
        norms += 3 if reads else 2
    return Weights(matrices, norms * stack.width + config.relative_buckets * stack.heads)


def _with(stage: Weights, other: int) -> Weights:
    return Weights(stage.matrices, stage.other + other)
