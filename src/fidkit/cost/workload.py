"""What a reader is asked to do, and the lengths that follow from it.

Letters as in `fidkit.nn`; also N passages of a question, Q question tokens, P passage tokens, W beams.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fidkit.config import ReaderConfig
from fidkit.errors import UsageError
from fidkit.records import CODECS

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Bytes of one weight. Caches keep the workload's `dtype` whatever weights are in."""
ACTIVATION_DTYPES = ("float32", "bfloat16")
OLD_DTYPES = {"bf16": "bfloat16"}
"""What dtypes were called before, in files that are still read, to what they are called."""
COMPUTED = "computed"
"""`Workload.memory` of a reader that computes its passages' memory when asked."""


@dataclass(frozen=True)
class Workload:
    """B questions, all with the same lengths, and how they are computed.

    Attributes:
        questions: B, questions a batch.
        passages: N, passages a question.
        passage_tokens: P, prefix included: one number for all, or one of each passage. A reader that reranks
            is taken to keep the first ones.
        question_tokens: Q, prefix included.
        output_tokens: T, tokens of an answer, end of sequence included.
        beams: W, hypotheses a question; they share the cross-attention caches.
        dtype: of activations, caches and weights: `float32` or `bfloat16`.
        decoder_dtype: of the matrices that every step reads (the decoder's, without those of cross keys and
            values; the head, unless that is the embedding table too): also `int8`, weight-only.
            None: `dtype`.
        encoder_dtype: of the matrices that many vectors meet (encoders', and those of cross keys and values):
            also `int8`, with activations of 8 bits, as on a CPU's native kernels. None: `dtype`.
        padded: rows are filled up to the longest, and their padding is computed on and cached, as common
            implementations of FiD do. Else rows are packed, as here.
        memory: where the memory of passages comes from in a reader with memory layers: `computed` now, or
            a store in this codec (`float32`, `bf16`, `int8`, `pq`). No matter to a reader without.

    Raises:
        UsageError: a number below 1, unknown names, or not one length a passage.
    """

    questions: int = 1
    passages: int = 40
    passage_tokens: int | tuple[int, ...] = 208
    question_tokens: int = 48
    output_tokens: int = 32
    beams: int = 1
    dtype: str = "bfloat16"
    decoder_dtype: str | None = None
    encoder_dtype: str | None = None
    padded: bool = False
    memory: str = "bf16"

    def __post_init__(self) -> None:
        for name in ("questions", "passages", "question_tokens", "output_tokens", "beams"):
            _positive(name, getattr(self, name))
        for length in self.lengths:
            _positive("passage_tokens", length)
        if len(self.lengths) != self.passages:
            raise UsageError(
                f"passage_tokens has {len(self.lengths)} lengths for {self.passages} passages; "
                "give one number, or one of each passage"
            )
        one_of("dtype", self.dtype, ACTIVATION_DTYPES)
        one_of("decoder_dtype", self.decoder_matrices, tuple(DTYPE_BYTES))
        one_of("encoder_dtype", self.encoder_matrices, tuple(DTYPE_BYTES))
        one_of("memory", self.memory, (COMPUTED, *CODECS))

    def replace(self, **changes: Any) -> Workload:
        """A copy with some fields changed.

        Raises:
            UsageError: as the class.
        """
        return dataclasses.replace(self, **changes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each passage [N]."""
        tokens = self.passage_tokens
        return tokens if isinstance(tokens, tuple) else (tokens,) * self.passages

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """Tokens that are computed for each passage [N], padding included."""
        longest = max(self.lengths)
        return (longest,) * self.passages if self.padded else self.lengths

    @property
    def decoder_matrices(self) -> str:
        """Dtype of the matrices of the decoder's layers (never None)."""
        return self.decoder_dtype or self.dtype

    @property
    def encoder_matrices(self) -> str:
        """Dtype of the matrices that many vectors meet, and of these products (never None)."""
        return self.encoder_dtype or self.dtype

    def head_dtype(self, config: ReaderConfig) -> str:
        """Dtype of the matrix that makes logits."""
        return self.dtype if config.tied_head else self.decoder_matrices

    @property
    def value_bytes(self) -> int:
        """Bytes of one activation or cached value."""
        return DTYPE_BYTES[self.dtype]

    def reads_store(self, config: ReaderConfig) -> bool:
        """Whether memory is fetched rather than computed."""
        return config.memory_layers > 0 and self.memory != COMPUTED


@dataclass(frozen=True)
class RowCount:
    """Rows that one stack encodes, each attending to itself only.

    Attributes:
        tokens: positions of all rows.
        pairs: query-key pairs of all rows, the sum of squared lengths.
    """

    tokens: int
    pairs: int


def memory_rows(workload: Workload) -> RowCount:
    """Passages alone, as the memory encoder sees them."""
    return _rows(workload.row_lengths, workload.questions)


def question_rows(workload: Workload) -> RowCount:
    """Questions alone, once each."""
    return _rows((workload.question_tokens,), workload.questions)


def live_rows(workload: Workload) -> RowCount:
    """Question and passage joined, as the live encoder sees them."""
    joined = tuple(workload.question_tokens + length for length in workload.row_lengths)
    return _rows(joined, workload.questions)


def kept_rows(config: ReaderConfig, workload: Workload) -> RowCount:
    """Question and passage joined, of the passages that are read to the end."""
    joined = tuple(workload.question_tokens + length for length in _kept(config, workload))
    return _rows(joined, workload.questions)


def live_stretches(config: ReaderConfig, workload: Workload) -> list[tuple[int, RowCount]]:
    """Numbers of live layers and the rows that they run over: all rows, then those that are kept."""
    first = config.rerank.after if config.rerank else 0
    both = [(first, live_rows(workload)), (config.live - first, kept_rows(config, workload))]
    return [(layers, rows) for layers, rows in both if layers]


def _kept(config: ReaderConfig, workload: Workload) -> tuple[int, ...]:
    return workload.row_lengths[: config.rerank.keep] if config.rerank else workload.row_lengths


def context_vectors(config: ReaderConfig, workload: Workload) -> int:
    """M, the vectors of one question's context."""
    question = workload.question_tokens
    with_each = question if config.question_in_context == "each" else 0
    rows = [with_each + length for length in _kept(config, workload)]
    kept = sum(rows) if config.kept_vectors is None else sum(min(config.kept_vectors, n) for n in rows)
    return kept + (question if config.question_in_context == "once" else 0)


def one_of(name: str, given: str, known: tuple[str, ...]) -> None:
    """Require a known name.

    Raises:
        UsageError: lists the known ones.
    """
    if given not in known:
        raise UsageError(f"{name} is {given!r}; choose one of {', '.join(known)}")


def _rows(lengths: tuple[int, ...], questions: int) -> RowCount:
    return RowCount(questions * sum(lengths), questions * sum(n * n for n in lengths))


def _positive(name: str, given: int) -> None:
    if given < 1:
        raise UsageError(f"{name} is {given}; give a whole number from 1")
