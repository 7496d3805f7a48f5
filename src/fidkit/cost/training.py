"""RAM of a training step: what stays from step to step, and what forward passes keep for backward ones.

Activations are counted as the plain reader keeps them on a CPU. It stores the attention weights of the
decoder; those of the encoder are computed again. Residuals, norms and softmax are float32, dropout's
decisions are bytes, what matrix products read has the workload's dtype (`bfloat16` is autocast). On a GPU,
norms keep less. With checkpointing, a layer keeps its input alone and is computed again in the backward
pass, one layer at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.gradients import (
    embedding_is_fixed,
    live_input_is_fixed,
    memory_is_fixed,
    question_is_fixed,
)
from fidkit.cost.weights import stage_weights
from fidkit.cost.workload import (
    RowCount,
    Workload,
    context_vectors,
    kept_rows,
    live_rows,
    live_stretches,
    memory_rows,
    question_rows,
)

STATE_BYTES = 16  # float32 weight, gradient, and two moments of Adam
FLOAT_BYTES = 4
LOGIT_BYTES = 12
"""Of one logit: in float32, its log-softmax and its gradient, at the beginning of the backward pass."""
SCORED_BYTES = 12
"""Of one value that passages are scored by: as the norm reads it, and as the mean does."""


def training_state_bytes(config: ReaderConfig) -> int:
    """Bytes of float32 weights, gradients and Adam's moments; activations come on top.

    What is frozen has weights only.
    """
    sizes = {name: stage.parameters for name, stage in stage_weights(config).items()}
    frozen = sum(sizes.pop(part) for part in set(config.frozen) - {"embedding"})
    if "embedding" in config.frozen:
        words = config.vocabulary_size * config.encoder.width
        sizes["embedding"] -= words
        frozen += words
    return STATE_BYTES * sum(sizes.values()) + FLOAT_BYTES * frozen


@dataclass(frozen=True)
class Activations:
    """Bytes that a training step keeps for its backward pass.

    Attributes:
        encoder: of layers that are trained; what is frozen keeps nothing.
        decoder: of its layers, with the keys and values of cross-attention.
        logits: of all target tokens.
    """

    encoder: int
    decoder: int
    logits: int

    @property
    def total(self) -> int:
        return self.encoder + self.decoder + self.logits


@dataclass(frozen=True)
class TrainingBytes:
    """Bytes of a training step.

    Attributes:
        state: weights, gradients and moments.
        activations: on top.
        checkpointed: the same if layers are computed again in the backward pass.
    """

    state: int
    activations: Activations
    checkpointed: Activations


def training_bytes(config: ReaderConfig, workload: Workload) -> TrainingBytes:
    """Bytes that a training step over given targets needs."""
    return TrainingBytes(
        state=training_state_bytes(config),
        activations=training_activations(config, workload),
        checkpointed=training_activations(config, workload, checkpointing=True),
    )


def training_activations(
    config: ReaderConfig, workload: Workload, *, checkpointing: bool = False
) -> Activations:
    """What a training step keeps of a batch.

    Args:
        config: the reader; its dropout counts.
        workload: the batch, with targets of `output_tokens`.
        checkpointing: layers are computed again in the backward pass.
    """
    keeps = _Keeps(config, workload)
    live = [(layers, rows, config.encoder) for layers, rows in live_stretches(config, workload)]
    others = _trained_apart(config, workload)
    stretches = live + others
    decoders = [keeps.decoder_layer(reads) for reads in config.cross_layers]
    # The live layers are entered once, wherever passages are scored.
    encoder = sum(keeps.edge(rows.tokens, stack) for _, rows, stack in live[:1] + others)
    if checkpointing:
        inputs = sum(layers * rows.tokens * stack.width for layers, rows, stack in stretches)
        encoder += inputs * FLOAT_BYTES
        encoder += max((keeps.encoder_layer(rows, stack) for _, rows, stack in stretches), default=0)
        inputs = len(decoders) * keeps.targets * config.decoder.width * FLOAT_BYTES
        decoder = inputs + max(decoders)
    else:
        encoder += sum(layers * keeps.encoder_layer(rows, stack) for layers, rows, stack in stretches)
        decoder = sum(decoders)
    if config.projects_memory:
        encoder += keeps.projected(memory_rows(workload).tokens)
    if config.rerank:
        encoder += live_rows(workload).tokens * config.encoder.width * SCORED_BYTES
    encoder += keeps.embedded() - keeps.unneeded()
    finished = kept_rows(config, workload).tokens + question_rows(workload).tokens
    return Activations(
        encoder=encoder + keeps.last_norm(finished, config.encoder),
        decoder=decoder + keeps.context() + keeps.around_decoder(),
        logits=keeps.targets * config.vocabulary_size * LOGIT_BYTES,
    )


def _trained_apart(config: ReaderConfig, workload: Workload) -> list[tuple[int, RowCount, StackConfig]]:
    """Layers of the question and memory encoder that keep something, and what runs through them."""
    parts = {
        "question": (config.question_layers, question_rows(workload), config.encoder),
        "memory": (config.memory_layers, memory_rows(workload), config.memory_stack),
    }
    return [part for name, part in parts.items() if part[0] and name not in config.frozen]


class _Keeps:
    """Bytes that layers keep of a batch."""

    def __init__(self, config: ReaderConfig, workload: Workload) -> None:
        self.config, self.workload = config, workload
        self.size = workload.value_bytes
        self.drops = 1 if config.dropout else 0
        self.targets = workload.questions * workload.output_tokens

    def encoder_layer(self, rows: RowCount, stack: StackConfig) -> int:
        decisions = rows.pairs * stack.heads * self.drops
        attention = self._self_attention(rows.tokens, stack, stack.heads) + decisions
        return attention + self._feed_forward(rows.tokens, stack)

    def decoder_layer(self, reads: bool) -> int:
        """With or without cross-attention, whose keys and values are not the layer's."""
        stack, kv_heads = self.config.decoder, self.config.kv_heads[0]
        weights = self._weights(self.targets * self.workload.output_tokens, stack)
        layer = self._self_attention(self.targets, stack, kv_heads) + weights
        layer += self._feed_forward(self.targets, stack)
        return layer + (self._cross_attention(stack) if reads else 0)

    def context(self) -> int:
        """The context as products read it, and keys and values of all layers that do."""
        readers = sum(self.config.cross_layers)
        shared = self.config.kv_heads[1] * self.config.decoder.head_width
        vectors = self.workload.questions * context_vectors(self.config, self.workload)
        read = self.config.context_width * self._read_by(2 * readers)
        return vectors * (read + readers * 2 * shared * self.size)

    def edge(self, tokens: int, stack: StackConfig) -> int:
        """What drops out of a stack's input."""
        return tokens * stack.width * self.drops

    def projected(self, tokens: int) -> int:
        """Memory as the product that projects it reads it."""
        return tokens * self.config.memory_width * self._read_by(1)

    def embedded(self) -> int:
        """What embeddings keep that compute something: of questions, and of passages that are trained."""
        config = self.config
        asked = self._embedded(config.encoder, question_rows(self.workload).tokens)
        if config.memory_layers and "memory" in config.frozen:
            return asked
        return asked + self._embedded(config.memory_stack, memory_rows(self.workload).tokens)

    def _embedded(self, stack: StackConfig, tokens: int) -> int:
        return tokens * stack.blocks.kept_by_embedding(stack) * FLOAT_BYTES

    def unneeded(self) -> int:
        """What the first norm after frozen parts, and dropout before it, needn't keep of their states."""
        config, stack = self.config, self.config.encoder
        asked, remembered = question_is_fixed(config), memory_is_fixed(config)
        questions, passages = question_rows(self.workload).tokens, memory_rows(self.workload).tokens
        values = self._first(questions, stack, drops=False) if asked else 0
        if live_input_is_fixed(config):
            values += self._first(live_rows(self.workload).tokens, stack, drops=config.live > 0)
        if embedding_is_fixed(config, stack) and config.question_layers and not asked:
            values += self._first(questions, stack)
        if embedding_is_fixed(config, config.memory_stack) and config.memory_layers and not remembered:
            values += self._first(passages, config.memory_stack)
        return values

    def _first(self, tokens: int, stack: StackConfig, *, drops: bool = True) -> int:
        """Of vectors without a gradient: for the norm that reads them first, and dropout before it."""
        norm = FLOAT_BYTES if stack.blocks.final_norm else 0
        return tokens * stack.width * (norm + (self.drops if drops else 0))

    def last_norm(self, tokens: int, stack: StackConfig) -> int:
        """The final norm of a stack, and what drops out after it."""
        norm = stack.blocks.norm_keeps * FLOAT_BYTES if stack.blocks.final_norm else 0
        return tokens * stack.width * norm + self.edge(tokens, stack)

    def around_decoder(self) -> int:
        """Before the first layer and after the last, up to what the head reads."""
        stack = self.config.decoder
        ends = self.edge(self.targets, stack) + self.last_norm(self.targets, stack)
        return ends + self.targets * stack.width * self.size

    def _self_attention(self, tokens: int, stack: StackConfig, kv_heads: int) -> int:
        """Without weights."""
        values = 2 * (stack.heads + kv_heads) * stack.head_width  # of queries, keys, values and the mixture
        return self._sublayer(tokens, stack, 3, values)

    def _cross_attention(self, stack: StackConfig) -> int:
        pairs = self.targets * context_vectors(self.config, self.workload)
        values = 2 * stack.heads * stack.head_width  # of queries and the mixture
        return self._sublayer(self.targets, stack, 1, values) + self._weights(pairs, stack)

    def _feed_forward(self, tokens: int, stack: StackConfig) -> int:
        family = stack.blocks
        decisions = tokens * stack.feed_forward * self.drops if family.feed_forward_drops else 0
        kept = family.kept_by_feed_forward(stack, drops=bool(self.drops))
        return self._sublayer(tokens, stack, family.feed_forward_inputs, kept) + decisions

    def _sublayer(self, tokens: int, stack: StackConfig, products: int, values: int) -> int:
        """The norm, what products read of it, `values` a token inside, and what drops out after."""
        norm = stack.blocks.norm_keeps * FLOAT_BYTES
        read = stack.width * (norm + self._read_by(products) + self.drops)
        return tokens * (read + values * self.size)

    def _read_by(self, products: int) -> int:
        """Bytes of a float32 value that products read: autocast makes a copy for each of them."""
        return FLOAT_BYTES if self.size == FLOAT_BYTES else products * self.size

    def _weights(self, pairs: int, stack: StackConfig) -> int:
        """Attention weights: the softmax, dropout's decisions, and what the product with values reads."""
        another = self.size if self.drops or self.size != FLOAT_BYTES else 0
        return pairs * stack.heads * (FLOAT_BYTES + self.drops + another)
