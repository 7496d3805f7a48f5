"""Bytes: the decoder's caches, what one step moves, and operational intensity."""

from __future__ import annotations

from dataclasses import dataclass

from fidkit.config import ReaderConfig
from fidkit.cost.parts import decoder_parts
from fidkit.cost.weights import head_matrix, matrix_bytes
from fidkit.cost.workload import Workload, context_vectors
from fidkit.families import Matrix


def cross_cache_bytes(config: ReaderConfig, workload: Workload) -> int:
    """Bytes of the cross-attention caches of a batch; equals `DecoderCache.cross_bytes`.

    Beams share them. Layers without cross-attention have none.
    """
    vectors = workload.questions * context_vectors(config, workload)
    value = 2 * config.kv_heads[1] * config.decoder.head_width * workload.value_bytes
    return sum(config.cross_layers) * vectors * value


def self_cache_bytes(config: ReaderConfig, workload: Workload) -> int:
    """Bytes of the self-attention caches of a batch with room for all output tokens."""
    stack = config.decoder
    positions = workload.questions * workload.beams * workload.output_tokens
    return stack.layers * positions * 2 * config.kv_heads[0] * stack.head_width * workload.value_bytes


def step_weight_bytes(config: ReaderConfig, workload: Workload) -> int:
    """Bytes of the weights that every step streams: all of the decoder's but cross keys and values."""
    stack, family = config.decoder, config.decoder.blocks
    layer = family.self_matrices(stack, config.kv_heads[0]) + family.feed_forward_matrices(stack)
    crossing = family.cross_matrices(stack) * sum(config.cross_layers)
    every: list[Matrix] = [*layer * stack.layers, *crossing]
    head = matrix_bytes(head_matrix(config), workload.head_dtype(config))
    return head + sum(matrix_bytes(m, workload.decoder_matrices) for m in every)


def step_bytes(config: ReaderConfig, workload: Workload) -> float:
    """Bytes that one step moves, on average over all: weights, both caches, activations, logits."""
    moved = sum(
        part.bytes
        for part in decoder_parts(config, workload)
        if part.stage in ("decode", "head") and part.kind != "elementwise"
    )
    return moved / workload.output_tokens


@dataclass(frozen=True)
class Intensities:
    """Operations a value moved, of one decoding step in the paper's terms (FiDO equations 3 to 5).

    With b questions, n_t target tokens, n_s source tokens, width d and h heads. Hardware needs as many
    operations a value as it can compute while one is loaded; below that, bandwidth decides.

    Attributes:
        feed_forward: 1 / (1/b + 1/d) (equation 3).
        self_attention: 1 / (1/b + n_t/d) (equation 4).
        cross_attention: 1 / (1/b + n_s/d) (equation 5), multi-head.
        cross_attention_multi_query: 1 / (1/b + 1/d + n_s/(d h)) (section 3.2).
        cross_attention_sparse: equation 5 averaged over layers, n_s divided by K (section 3.1).
        cross_attention_sparse_multi_query: both.
    """

    feed_forward: float
    self_attention: float
    cross_attention: float
    cross_attention_multi_query: float
    cross_attention_sparse: float
    cross_attention_sparse_multi_query: float


def paper_intensities(config: ReaderConfig, workload: Workload) -> Intensities:
    """The paper's operational intensities for a decoder of these sizes.

    As printed: one width d (the decoder's), n_s all vectors of the context, n_t all output tokens, beams
    counted as questions.
    """
    b, d, h = workload.questions * workload.beams, config.decoder.width, config.decoder.heads
    n_t, n_s = workload.output_tokens, context_vectors(config, workload)
    sparse = n_s * sum(config.cross_layers) / config.decoder.layers

    def multi_head(n: float) -> float:
        return 1 / (1 / b + n / d)

    def multi_query(n: float) -> float:
        return 1 / (1 / b + 1 / d + n / (d * h))

    return Intensities(
        feed_forward=1 / (1 / b + 1 / d),
        self_attention=multi_head(n_t),
        cross_attention=multi_head(n_s),
        cross_attention_multi_query=multi_query(n_s),
        cross_attention_sparse=multi_head(sparse),
        cross_attention_sparse_multi_query=multi_query(sparse),
    )
