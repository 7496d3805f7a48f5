"""Parameters of a reader and their bytes, by stage, without allocating any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.workload import DTYPE_BYTES, Workload
from fidkit.families import Matrix

SCALE_BYTES = 4
"""An int8 matrix keeps one float32 scale an output."""


def matrix_bytes(matrix: Matrix, dtype: str) -> int:
    """Bytes of a matrix; biases and an int8 matrix's scales are float32 then."""
    if dtype != "int8":
        return matrix.parameters * DTYPE_BYTES[dtype]
    floats = matrix.parameters - matrix.products + matrix.outputs
    return matrix.products * DTYPE_BYTES[dtype] + floats * SCALE_BYTES


def context_matrices(config: ReaderConfig) -> list[Matrix]:
    """Key and value of one layer's cross-attention, applied once a question."""
    stack = config.decoder
    return stack.blocks.context_matrices(stack, config.kv_heads[1], config.context_width)


def memory_projection(config: ReaderConfig) -> list[Matrix]:
    """From the memory's space to the encoder's, where they differ."""
    return [Matrix(config.memory_width, config.encoder.width)] if config.projects_memory else []


def head_matrix(config: ReaderConfig) -> Matrix:
    """Logits from the decoder's states; the decoder's embedding where the head is tied."""
    return Matrix(config.decoder.width, config.vocabulary_size)


@dataclass(frozen=True)
class StageWeights:
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
        return self.other * DTYPE_BYTES[dtype] + sum(matrix_bytes(m, matrices_dtype) for m in self.matrices)


def stage_weights(config: ReaderConfig) -> dict[str, StageWeights]:
    """What a reader owns, by stage: embedding, memory, question, join, live, projection, decoder, head.

    Shared tables count once, in `embedding`. The memory encoder has a table of its own. `join` is what
    stands around the live layers: the projection of memory, and what scores passages.
    """
    encoder, decoder = config.encoder, config.decoder
    memory = _encoder(config, config.memory_layers, config.memory_stack)
    live = _encoder(config, config.live)
    tables = _table(config, encoder, config.vocabulary_size)
    if not config.shared_embedding:
        tables += _table(config, decoder, config.vocabulary_size)
    remembered = _table(config, config.memory_stack, config.passage_vocabulary_size)
    scores = 2 * encoder.width  # an RMS norm and a weight a place
    return {
        "embedding": StageWeights([], tables),
        "memory": _with(memory, remembered if config.memory_layers else 0),
        "question": _encoder(config, config.question_layers),
        "join": StageWeights(memory_projection(config), scores if config.rerank else 0),
        "live": _with(live, encoder.blocks.last_norm(encoder)),
        "projection": StageWeights(context_matrices(config) * sum(config.cross_layers), 0),
        "decoder": _decoder(config),
        "head": StageWeights(
            [] if config.tied_head else [head_matrix(config)],
            config.vocabulary_size if config.head_bias else 0,
        ),
    }


def parameters(config: ReaderConfig) -> int:
    """Parameters of a reader; equals `fidkit.reader.parameter_count`."""
    return sum(stage.parameters for stage in stage_weights(config).values())


def weight_bytes(config: ReaderConfig, workload: Workload) -> dict[str, int]:
    """Bytes of weights in memory, by stage: what every step reads in `decoder_dtype`, the rest in `dtype`.

    Matrices in `encoder_dtype` are laid out for products, beside these (`fidkit.cost.BatchBytes.packed`).
    """
    steps = workload.decoder_matrices
    return {
        name: stage.bytes(steps if name in ("decoder", "head") else workload.dtype, workload.dtype)
        for name, stage in stage_weights(config).items()
    }


def _encoder(config: ReaderConfig, layers: int, stack: StackConfig | None = None) -> StageWeights:
    if not layers:
        return StageWeights([], 0)
    stack = stack or config.encoder
    family = stack.blocks
    layer = family.self_matrices(stack, stack.heads) + family.feed_forward_matrices(stack)
    other = family.norms(stack, 2 * layers) + family.positions(config, stack, layers)
    return StageWeights(layer * layers, other)


def _decoder(config: ReaderConfig) -> StageWeights:
    stack, family = config.decoder, config.decoder.blocks
    matrices: list[Matrix] = []
    norms = 0
    for reads in config.cross_layers:
        matrices += family.self_matrices(stack, config.kv_heads[0]) + family.feed_forward_matrices(stack)
        matrices += family.cross_matrices(stack) if reads else []
        norms += 3 if reads else 2
    other = family.norms(stack, norms) + family.last_norm(stack)
    return StageWeights(matrices, other + family.positions(config, stack, stack.layers))


def _table(config: ReaderConfig, stack: StackConfig, vocabulary: int) -> int:
    return stack.blocks.embedding_parameters(config, stack, vocabulary)


def _with(stage: StageWeights, other: int) -> StageWeights:
    return StageWeights(stage.matrices, stage.other + other)
