"""What a batch needs at once, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.parts import LOGIT_BYTES
from fidkit.cost.traffic import cross_cache_bytes, self_cache_bytes
from fidkit.cost.weights import matrix_bytes, stage_weights, weight_bytes
from fidkit.cost.workload import (
    Workload,
    context_vectors,
    live_rows,
    live_stretches,
    memory_rows,
    question_rows,
)


@dataclass(frozen=True)
class BatchBytes:
    """Bytes of a batch.

    Attributes:
        weights: of all stages.
        packed: second copies of matrices (`fidkit.cost.Hardware.packs`).
        reading: activations of the widest encoder layer, all rows at once. Attention scores are never
            stored (a flash kernel); the plain reader, which stores them, needs more.
        context: the fused context.
        cross_cache, self_cache: the decoder's.
        logits: of one step.
    """

    weights: int
    packed: int
    reading: int
    context: int
    cross_cache: int
    self_cache: int
    logits: int

    @property
    def total(self) -> int:
        """At the fuller of two moments: the widest encoder layer, or the last decoding step."""
        decoding = self.context + self.cross_cache + self.self_cache + self.logits
        return self.weights + self.packed + max(self.reading, decoding)


def batch_bytes(config: ReaderConfig, workload: Workload, *, packs: bool = False) -> BatchBytes:
    """Bytes that a batch needs at once, to read it and to generate its answers.

    Args:
        config: the reader.
        workload: the batch.
        packs: see `fidkit.cost.Hardware`.
    """
    rows = workload.questions * workload.beams
    vectors = workload.questions * context_vectors(config, workload)
    return BatchBytes(
        weights=sum(weight_bytes(config, workload).values()),
        packed=_packed(config, workload) if packs else 0,
        reading=_reading(config, workload),
        context=vectors * config.context_width * workload.value_bytes,
        cross_cache=cross_cache_bytes(config, workload),
        self_cache=self_cache_bytes(config, workload),
        logits=rows * config.vocabulary_size * LOGIT_BYTES,
    )


def largest_batch(
    config: ReaderConfig, workload: Workload, available_bytes: int, *, packs: bool = False
) -> int:
    """Most questions of this kind that fit into `available_bytes` at once; 0 when not even one does."""

    def fits(questions: int) -> bool:
        batch = workload.replace(questions=questions)
        return batch_bytes(config, batch, packs=packs).total <= available_bytes

    return largest(fits)


def largest(fits: Callable[[int], bool], below: int | None = None) -> int:
    """The largest number that fits, 0 if not even 1 does; what fits, fits for smaller ones too.

    Doubles until one doesn't fit, then halves the gap: about 2 log2 of the result tries.

    Args:
        fits: whether a number does.
        below: numbers from here on don't; None looks as far as it takes.
    """
    low, high = 0, 1
    while (below is None or high < below) and fits(high):
        low, high = high, 2 * high
    high = high if below is None else min(high, below)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _packed(config: ReaderConfig, workload: Workload) -> int:
    """Matrices that many vectors are multiplied with: of the encoders that run, of cross keys and values."""
    stages = stage_weights(config)
    used = ["question", "live", "projection"] + ["memory"] * (not workload.reads_store(config))
    return sum(
        matrix_bytes(matrix, workload.encoder_matrices) for name in used for matrix in stages[name].matrices
    )


def _reading(config: ReaderConfig, workload: Workload) -> int:
    encoder, memory = config.encoder, config.memory_stack
    running = [(question_rows(workload), config.question_layers, encoder)]
    running += [(rows, layers, encoder) for layers, rows in live_stretches(config, workload)]
    # Stored memory and a reader without live layers: the rows are there, but nothing computes on them.
    held = live_rows(workload).tokens * encoder.width
    if config.projects_memory:  # projected, and as it was
        held += memory_rows(workload).tokens * memory.width
    if not workload.reads_store(config):
        running.append((memory_rows(workload), config.memory_layers, memory))
    busiest = max(rows.tokens * _widest(stack) if layers else 0 for rows, layers, stack in running)
    return max(held, busiest) * workload.value_bytes


def _widest(stack: StackConfig) -> int:
    """Values a token alive at once: residual, normed input, and the larger of attention and feed-forward."""
    attention = 4 * stack.heads * stack.head_width
    return 2 * stack.width + max(attention, stack.blocks.activation_values(stack))
