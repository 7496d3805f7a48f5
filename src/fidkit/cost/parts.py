"""A workload as a list of parts: what each computes and what it must move through memory.

A part is the same work in all layers of a stage: a feed-forward layer, say, over all its layers and
steps. All sums of this package (FLOPs, bytes, time) are sums over these parts.

FLOPs are exact: they equal what torch counts on the plain reader, two for each multiply-add of a matrix
product; element-wise work is not counted, as is usual. Bytes are the least that one kernel a part must
move: its weights once, its inputs and outputs once, attention scores never.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.gradients import context_is_fixed, live_input_is_fixed, memory_is_fixed
from fidkit.cost.weights import (
    context_matrices,
    head_matrix,
    matrix_bytes,
    memory_projection,
)
from fidkit.cost.workload import (
    RowCount,
    Workload,
    context_vectors,
    live_rows,
    live_stretches,
    memory_rows,
    question_rows,
)
from fidkit.families import Matrix
from fidkit.records import bytes_per_token

ENCODER_STAGES = ("memory", "question", "live")
DECODER_STAGES = ("projection", "decode", "head")
STAGES = (*ENCODER_STAGES, *DECODER_STAGES, "backward")
KINDS = ("linear", "encoder_attention", "decoder_weights", "decoder_attention", "shared_attention")
"""Kinds of work that hardware does with efficiencies of their own.

| kind | what |
|---|---|
| linear | products with many rows: encoders, cross keys and values, all of training |
| encoder_attention | attention of many queries to many keys |
| decoder_weights | a step's products, which stream weights |
| decoder_attention | a step's attention where each cached head serves one query: matrix-vector products |
| shared_attention | the same where several heads or beams share a cached head: small matrix products |
"""

KEYS_VALUES = "keys and values"
PROJECTION = "memory projection"
PROJECTIONS = "projections"
LOGIT_BYTES = 4  # logits are float32 in any dtype


@dataclass(frozen=True)
class Part:
    """The same work in all layers and steps of a stage, for a whole batch.

    Attributes:
        stage: one of `STAGES`.
        name: what is computed.
        kind: one of `KINDS`; or `elementwise` (norms, residuals, activations: free when fused); or
            `fetch` (memory rows read from a store).
        flops: floating-point operations.
        bytes: moved through memory.
        launches: kernels, at one a layer and step.
        dtype: that is multiplied in; nothing else than a rate depends on it.
        widened: weights of 8 bits that become numbers of `dtype` on their way into the product.
    """

    stage: str
    name: str
    kind: str
    flops: int
    bytes: int
    launches: int
    dtype: str
    widened: int = 0


def list_parts(config: ReaderConfig, workload: Workload, *, training: bool = False) -> tuple[Part, ...]:
    """All work of a batch, in the order it runs.

    Args:
        config: the reader.
        workload: the batch; with `training`, targets of `output_tokens` and one beam.
        training: a forward and backward pass over given targets instead of generating them. The
            optimizer's update is not part of it.
    """
    reading = reading_parts(config, workload)
    decoding = decoder_parts(config, workload, training=training)
    forward = (*reading, *decoding)
    return forward + _backward(config, forward) if training else forward


def reading_parts(config: ReaderConfig, workload: Workload) -> list[Part]:
    """Everything before the fused context."""
    if workload.reads_store(config):
        size = bytes_per_token(config.memory_width, workload.memory)
        fetched = workload.questions * sum(workload.lengths) * size
        parts = [Part("memory", "fetch", "fetch", 0, fetched, 1, workload.dtype)]
    else:
        parts = memory_parts(config, memory_rows(workload), workload)
    parts += encoder_parts("question", config, question_rows(workload), config.question_layers, workload)
    parts += _join_parts(config, workload)
    for layers, rows in live_stretches(config, workload):
        parts += encoder_parts("live", config, rows, layers, workload)
    return parts


def memory_parts(config: ReaderConfig, rows: RowCount, workload: Workload) -> list[Part]:
    """Parts of the memory encoder over `rows`."""
    return encoder_parts("memory", config, rows, config.memory_layers, workload, config.memory_stack)


def _join_parts(config: ReaderConfig, workload: Workload) -> list[Part]:
    """Projecting memory of another width; scoring passages, which reads every vector and multiplies none."""
    size, width = workload.value_bytes, config.encoder.width
    make = _Linears("live", "linear", memory_rows(workload).tokens, 1, size, workload.dtype, workload.dtype)
    parts = []
    if matrices := memory_projection(config):
        parts.append(make(PROJECTION, matrices, config.memory_width + width, 1))
    if config.rerank:
        read = live_rows(workload).tokens * width * size
        parts.append(Part("live", "scores", "elementwise", 0, read, 1, workload.dtype))
    return parts


def encoder_parts(
    stage: str,
    config: ReaderConfig,
    rows: RowCount,
    layers: int,
    workload: Workload,
    stack: StackConfig | None = None,
) -> list[Part]:
    """Parts of `layers` encoder layers over `rows`; none where there are no layers.

    Args:
        stage: what they are parts of.
        config: the reader.
        rows: what goes through the layers.
        layers: how many.
        workload: the batch.
        stack: sizes of the layers; by default the encoder's.
    """
    if not layers:
        return []
    stack, size, dtype = stack or config.encoder, workload.value_bytes, workload.encoder_matrices
    family, inner = stack.blocks, stack.heads * stack.head_width
    make = _Linears(stage, "linear", rows.tokens, 1, size, dtype, dtype)
    return [
        make(PROJECTIONS, family.self_matrices(stack, stack.heads), 2 * stack.width + 4 * inner, layers),
        Part(
            stage,
            "attention",
            "encoder_attention",
            layers * 4 * rows.pairs * inner,
            layers * rows.tokens * 4 * inner * size,  # queries, keys, values in; the mixture out
            layers,
            workload.dtype,
        ),
        make("feed-forward", family.feed_forward_matrices(stack), _feed_forward_moves(stack), layers),
        make.elementwise(_elementwise(stack, norms=2), layers),
    ]


def decoder_parts(config: ReaderConfig, workload: Workload, *, training: bool = False) -> list[Part]:
    """Everything after the fused context: cross keys and values, steps (or one pass), logits."""
    stack, size, family = config.decoder, workload.value_bytes, config.decoder.blocks
    inner, readers = stack.heads * stack.head_width, sum(config.cross_layers)
    context = workload.questions * context_vectors(config, workload)
    run = _run(workload, training)
    # Our own products put keys and values where steps read them; those of a matrix library are copied there.
    copied = not training and workload.encoder_matrices == "bfloat16"
    self_value, cross_value = (2 * heads * stack.head_width for heads in config.kv_heads)
    once = _Linears(
        "projection", "linear", context, 1, size, workload.encoder_matrices, workload.encoder_matrices
    )
    kind = "linear" if training else "decoder_weights"
    step = _Linears("decode", kind, run.tokens, run.passes, size, workload.decoder_matrices, workload.dtype)
    everything = run.tokens * run.passes
    queries = everything * 2 * inner * size  # queries in, the mixture out
    self_moves = 2 * stack.width + 2 * inner + self_value
    logits = _Linears(
        "head", kind, run.tokens, run.passes, size, workload.head_dtype(config), workload.dtype
    )("logits", [head_matrix(config)], stack.width, 1)
    made = everything * config.vocabulary_size * LOGIT_BYTES

    def attention(name: str, layers: int, pairs: int, cached_bytes: int, sharing: int) -> Part:
        generating = "decoder_attention" if sharing == 1 else "shared_attention"
        kind = "encoder_attention" if training else generating
        flops, moved = layers * 4 * pairs * inner, layers * (cached_bytes + queries)
        return Part("decode", name, kind, flops, moved, layers * run.passes, workload.dtype)

    return [
        # The context is read once for all layers: their keys and values are one product.
        _merge(
            once(KEYS_VALUES, context_matrices(config), cross_value, readers),
            extra_bytes=context * config.context_width * size,
        ),
        *([_laid_out(workload, context * cross_value * readers, readers)] if copied else []),
        step("self projections", family.self_matrices(stack, config.kv_heads[0]), self_moves, stack.layers),
        attention(
            "self-attention",
            stack.layers,
            run.self_pairs,
            run.self_positions * self_value * size,
            stack.heads // config.kv_heads[0],
        ),
        step("cross projections", family.cross_matrices(stack), 2 * stack.width + 2 * inner, readers),
        attention(
            "cross-attention",
            readers,
            everything // workload.questions * context,
            run.passes * context * cross_value * size,
            stack.heads // config.kv_heads[1] * workload.beams,
        ),
        step("feed-forward", family.feed_forward_matrices(stack), _feed_forward_moves(stack), stack.layers),
        step.elementwise(_elementwise(stack, norms=3), stack.layers),
        _merge(logits, extra_bytes=made),
    ]


@dataclass(frozen=True)
class _Run:
    """How target tokens pass through the decoder.

    Attributes:
        passes: times that the weights are read.
        tokens: of one pass.
        self_pairs: query-key pairs of self-attention, of all passes.
        self_positions: cached positions read by self-attention, of all passes.
    """

    passes: int
    tokens: int
    self_pairs: int
    self_positions: int


def _run(workload: Workload, training: bool) -> _Run:
    B, T = workload.questions, workload.output_tokens
    if training:
        # The plain reader computes the square of positions and hides the future in it.
        return _Run(1, B * T, B * T * T, B * T)
    rows = B * workload.beams
    past = rows * T * (T + 1) // 2
    return _Run(T, rows, past, past)


@dataclass(frozen=True)
class _Linears:
    """Makes parts of matrix products and what stands between them.

    Attributes:
        stage, kind: of the parts.
        tokens: of one pass.
        passes: times that the weights are read.
        value_bytes: of one activation.
        weights: dtype of the matrices.
        dtype: that is multiplied in: a step's weights are widened to its activations, which are few.
    """

    stage: str
    kind: str
    tokens: int
    passes: int
    value_bytes: int
    weights: str
    dtype: str

    def __call__(self, name: str, matrices: Sequence[Matrix], moved: int, layers: int) -> Part:
        """`moved`: values a token that go in and out in one layer."""
        times = layers * self.passes
        multiplied = times * sum(m.products for m in matrices)
        weights = sum(matrix_bytes(m, self.weights) for m in matrices)
        moved_bytes = times * (weights + self.tokens * moved * self.value_bytes)
        flops, widened = 2 * self.tokens * multiplied, multiplied * (self.weights == "int8" != self.dtype)
        return Part(self.stage, name, self.kind, flops, moved_bytes, times, self.dtype, widened)

    def elementwise(self, moved: int, layers: int) -> Part:
        times = layers * self.passes
        moved_bytes = times * self.tokens * moved * self.value_bytes
        return Part(self.stage, "norms and activations", "elementwise", 0, moved_bytes, times, self.dtype)


def _laid_out(workload: Workload, values: int, layers: int) -> Part:
    """Keys and values as steps read them, out of what the product made."""
    return Part(
        "projection", "layout", "elementwise", 0, 2 * values * workload.value_bytes, layers, workload.dtype
    )


def _feed_forward_moves(stack: StackConfig) -> int:
    """Values a token: in, the activated inner layer out and in again, out."""
    return 2 * stack.width + 2 * stack.feed_forward


def _elementwise(stack: StackConfig, norms: int) -> int:
    """Values a token and layer: each norm one in, one out; each residual two in, one out; the activation."""
    return norms * 5 * stack.width + stack.blocks.activation_values(stack)


def _merge(part: Part, *, extra_bytes: int) -> Part:
    return dataclasses.replace(part, bytes=part.bytes + extra_bytes)


def _backward(config: ReaderConfig, forward: Sequence[Part]) -> tuple[Part, ...]:
    """Gradients of inputs and of weights: two products of the size of each.

    Frozen parts have none. What nothing trained makes is given no gradient.
    """
    live = next((p for p in forward if (p.stage, p.name) == ("live", PROJECTIONS)), None)

    def products(part: Part) -> Fraction:
        if part.stage in config.frozen:
            return Fraction(0)
        if part.name == PROJECTION and memory_is_fixed(config):
            return Fraction(1)
        if part.name == KEYS_VALUES and context_is_fixed(config):
            return Fraction(1)
        if part is live and live_input_is_fixed(config) and not config.encoder.blocks.final_norm:
            # Three of the first layer's four matrices read the vectors themselves, and no norm's output.
            return 2 - Fraction(3, 4 * part.launches)
        return Fraction(2)

    times = [(p, products(p)) for p in forward]
    return tuple(
        dataclasses.replace(
            p,
            stage="backward",
            name=f"{p.stage} {p.name}",
            flops=int(n * p.flops),
            bytes=int(n * p.bytes),
            launches=int(n * p.launches),
        )
        for p, n in times
        if n and p.name != "scores"  # a loss of their own trains them, not the answer's
    )
