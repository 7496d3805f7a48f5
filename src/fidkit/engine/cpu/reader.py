"""A reader on a CPU without PyTorch: NumPy's arrays between native kernels.

It computes what `fidkit.reader.Reader` does, which stays the definition, and has the interface of a
`fidkit.engine.runner.Runner`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np

from fidkit import native
from fidkit.calibration import Calibration
from fidkit.checkpoint.files import Directory, Mapped
from fidkit.checkpoint.stored import stored_weights
from fidkit.config import ReaderConfig, StackConfig
from fidkit.context import Batch, Context, Sight
from fidkit.engine.cpu.decoder import NativeCache, NativeDecoder
from fidkit.engine.cpu.embedding import Embedding
from fidkit.engine.cpu.stack import RMS_EPSILON, EncoderStack, layers_of
from fidkit.engine.cpu.weights import (
    LaidOut,
    Rounding,
    Weights,
    activation_bits,
    laid_out_bytes,
    rounded,
    within,
)
from fidkit.engine.cpu.words import StoredWords
from fidkit.engine.fingerprint import fingerprint_of
from fidkit.engine.precision import ROUNDING, Precision
from fidkit.engine.schedule.room import check_weights, no_weights_room
from fidkit.fusion import Joined, best_in_group, fuse, join, lay_out, with_the_one_before
from fidkit.rows import Layout
from fidkit.tokens import Tokenizer


def suits(config: ReaderConfig) -> bool:
    """Whether the native kernels suit all layers of a reader."""
    encoders = [stack for stack in (config.encoder, config.memory_stack) if stack.layers]
    stacks = (*encoders, config.decoder)
    return (
        all(stack.blocks.kernels is not None for stack in encoders)
        and config.decoder.blocks.kernels == "t5"
        and all(stack.head_width % native.LANES == 0 for stack in stacks)
        and config.live_attention == "full"
    )


class NativeReader:
    """Reads and steps, in float32 or 8 bits.

    Args:
        config: that the kernels suit (`suits`).
        weights: parameters by name, as `fidkit.reader.Reader` names them; read where they are, and not
            looked at again once they are laid out.
        tokenizer: needed to answer text.
        calibration: says how likely answers are right; None withholds none.
        kernels: the compiled kernels.
        rounding: of matrices to 8 bits.
        mapped: the files that weights are in, where they are mapped.
    """

    def __init__(
        self,
        config: ReaderConfig,
        weights: Weights,
        tokenizer: Tokenizer | None,
        calibration: Calibration | None,
        kernels: native.Kernels,
        rounding: Rounding = "lossless",
        mapped: Mapped | None = None,
    ) -> None:
        self._mapped = mapped
        self.config, self.tokenizer, self.calibration = config, tokenizer, calibration
        self.kernels, self.rounding = kernels, rounding
        encoder, memory = config.encoder, config.memory_stack
        self._embedding = Embedding(config, encoder, within(weights, "embedding."))
        self._memory_embedding = self._embedding
        if config.memory_layers:
            own = within(weights, "memory_encoder.embedding.")
            self._memory_embedding = Embedding(config, memory, own)
        self._of_memory = within(weights, "memory_encoder.")
        self._memory = self._stack(memory, config.memory_layers, within(weights, "memory_encoder.encoder."))
        self._question = self._stack(encoder, config.question_layers, within(weights, "question_encoder."))
        of_live = within(weights, "live_encoder.")
        self._live = self._live_parts(of_live)
        self._norm = _norm_of(within(of_live, "norm."))
        self._projection: LaidOut | None = None
        if config.projects_memory:
            matrix = rounded(weights["memory_projection.weight"], rounding)
            self._projection = LaidOut.of(matrix, None, kernels.lanes, activation_bits(rounding, kernels))
        self._reranker = within(weights, "reranker.")
        self._words = StoredWords(config, weights)
        self._decoder = NativeDecoder(config, weights, self._words, kernels, rounding)

    @classmethod
    def from_pretrained(
        cls, directory: Directory, kernels: native.Kernels, precision: Precision = "auto"
    ) -> NativeReader:
        """Weights stay in the file, mapped, but for what is laid out.

        Args:
            directory: of a reader that the kernels suit.
            kernels: the compiled kernels.
            precision: any but `bfloat16`.

        Raises:
            CheckpointError: tensors missing, superfluous or of another shape, or not finite.
            UsageError: there is no room for what is laid out.
        """
        rounding, needed = ROUNDING.get(precision, "never"), 0
        try:
            mapped, weights = Mapped(directory.all_weights), stored_weights(directory)
            needed = laid_out_bytes(weights, rounding)
            check_weights(needed, directory.weights.parent)
            config, tokenizer, calibration = directory.config, directory.tokenizer, directory.calibration
            return cls(config, weights, tokenizer, calibration, kernels, rounding, mapped)
        except MemoryError as error:
            raise no_weights_room(needed, directory.weights.parent) from error

    device = None
    """Nothing has to be moved anywhere."""

    @property
    def computes(self) -> str:
        """What it computes with: `float32`, or `int8`."""
        return "int8" if self.rounding == "always" else "float32"

    takes_turns = True
    """Whether it may answer other questions while answers pause between steps."""

    memory_type: Literal["float32"] = "float32"
    """Of NumPy's arrays."""

    def memory_fingerprint(self) -> str:
        """What stored memory has to be of (`fidkit.engine.fingerprint`)."""
        floats = ((name, weight.floats()) for name, weight in self._of_memory.items())
        return fingerprint_of(self.config, self.tokenizer, floats)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keys and values of a context are kept until it has been looked back at.

        Raises:
            CheckpointError: the files that weights are mapped from were written to.
        """
        if self._mapped is not None:
            self._mapped.check()
        with self._decoder.keeping():
            yield
        if self._mapped is not None:
            self._mapped.check()

    # Reading

    def encode_passages(self, ids_RP: np.ndarray, lengths_R: np.ndarray) -> np.ndarray:
        """Memory [X, memory width] of passages; a passage's is the same in any company."""
        rows = Layout(lengths_R)
        states_XD = self._memory_embedding(rows.pack(ids_RP), rows, "passage")
        return states_XD if self._memory is None else self._memory(states_XD, rows.starts)

    def encode_questions(self, batch: Batch) -> np.ndarray:
        """Question states [X, D] at the depth where they meet the passages."""
        rows = Layout(batch.question_lengths)
        states_XD = self._embedding(rows.pack(batch.question_ids), rows, "question")
        return states_XD if self._question is None else self._question(states_XD, rows.starts)

    def read(self, batch: Batch) -> Context:
        """Encode all passages with their question and fuse them."""
        return self.read_memory(batch, self.encode_passages(batch.passage_ids, batch.passage_lengths))

    def read_memory(
        self, batch: Batch, memory_XD: np.ndarray, question_XD: np.ndarray | None = None
    ) -> Context:
        """`read` with the passages' memory at hand, and the question's states where they are."""
        config = self.config
        if question_XD is None:
            question_XD = self.encode_questions(batch)
        if self._projection is not None:
            memory_XD = self._projection(self.kernels, memory_XD)
        questions, passages = Layout(batch.question_lengths), Layout(batch.passage_lengths)
        ids, asked_X2 = None, None
        if config.token_skip:
            ids = (questions.pack(batch.question_ids), passages.pack(batch.passage_ids), config.pad_token)
            asked_X2 = with_the_one_before(ids[0], questions, config.pad_token)
        joined = join(
            question_XD, questions, memory_XD, passages, batch.question_of_passage, config.live_attention, ids
        )
        joined, scores_R = self._read_live(joined)
        context = fuse(
            joined,
            keep=config.kept_vectors,
            question_states_XD=self._normed(question_XD),
            questions=questions,
            question_in_context=config.question_in_context,
            question_ids_X2=asked_X2,
        )
        if context.ids_BM2 is not None:
            tokens = self._words.rows(context.ids_BM2)
            beside = tokens.reshape(*tokens.shape[:2], -1)
            context = replace(context, states_BMD=np.concatenate([context.states_BMD, beside], -1))
        if scores_R is None:
            return context
        scores_BN = lay_out(scores_R, batch.question_of_passage, len(batch.question_lengths))
        return replace(context, scores_BN=scores_BN)

    def _read_live(self, joined: Joined[Layout]) -> tuple[Joined[Layout], np.ndarray | None]:
        """Through the live layers; scores [R] where passages are left behind."""
        first, last = self._live
        scores_R = None
        states_XD = np.ascontiguousarray(joined.states_XD)
        if self.config.rerank is not None:
            if first is not None:
                states_XD = first(states_XD, joined.rows.starts)
            joined = replace(joined, states_XD=states_XD)
            scores_R = self._scores(joined)
            joined = joined.select(best_in_group(scores_R, joined.question_R, self.config.rerank.keep))
            states_XD = np.ascontiguousarray(joined.states_XD)
        if last is None:
            return replace(joined, states_XD=self._normed(states_XD)), scores_R
        return replace(joined, states_XD=last(states_XD, joined.rows.starts, self._norm)), scores_R

    def _scores(self, joined: Joined[Layout]) -> np.ndarray:
        """Of rows, from the mean of their normed vectors; higher is better."""
        normed_XD = _rms_normed(joined.states_XD, self._reranker["norm.weight"].floats())
        rows = joined.rows
        summed_RD = np.zeros((len(rows.lengths), normed_XD.shape[1]), np.float32)
        np.add.at(summed_RD, rows.row_X, normed_XD)
        mean_RD = summed_RD / np.maximum(rows.lengths, 1)[:, None].astype(np.float32)
        scores: np.ndarray = (mean_RD * self._reranker["weight"].floats()).sum(-1)
        return scores

    def _normed(self, x_XD: np.ndarray) -> np.ndarray:
        """After the last norm, where the family has one."""
        return x_XD if self._norm is None else _rms_normed(x_XD, self._norm[0])

    # Writing

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> NativeCache:
        """Project the context's keys and values; make room for `max_tokens` steps of `beams` rows each."""
        return self._decoder.start(context, max_tokens, beams)

    def step(self, ids_N: np.ndarray, cache: NativeCache) -> np.ndarray:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token."""
        return self._decoder.step(ids_N, cache)

    def look(self, ids_BT: np.ndarray, context: Context) -> Sight:
        """What it makes of answers as it wrote them, and where it looks meanwhile."""
        return self._decoder.look(ids_BT, context)

    # Making

    def _stack(self, stack: StackConfig, layers: int, weights: Weights) -> EncoderStack | None:
        return self._of_layers(stack, layers_of(weights, layers), weights) if layers else None

    def _of_layers(self, stack: StackConfig, layers: list[Weights], weights: Weights) -> EncoderStack:
        return EncoderStack(
            self.kernels,
            stack,
            layers,
            weights.get("relative_bias.weight"),
            self.config.relative_max_distance,
            self.rounding,
        )

    def _live_parts(self, weights: Weights) -> tuple[EncoderStack | None, EncoderStack | None]:
        """The live layers in front of where passages are scored, and those behind."""
        config = self.config
        layers = layers_of(weights, config.live)
        after = 0 if config.rerank is None else config.rerank.after
        parts = layers[:after], layers[after:]
        first, last = (self._of_layers(config.encoder, part, weights) if part else None for part in parts)
        return first, last


def _norm_of(weights: Weights) -> tuple[np.ndarray, np.ndarray | None] | None:
    """A final norm, T5's; BERT has none."""
    return (np.ascontiguousarray(weights["weight"].floats()), None) if "weight" in weights else None


def _rms_normed(x_XD: np.ndarray, weight: np.ndarray) -> np.ndarray:
    squares_X1 = np.einsum("xd,xd->x", x_XD, x_XD)[:, None] / np.float32(x_XD.shape[1])
    normed: np.ndarray = x_XD / np.sqrt(squares_X1 + np.float32(RMS_EPSILON)) * weight
    return normed
