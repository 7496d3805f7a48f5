"""Texts to vectors on a CPU without PyTorch: what `fidkit.engine.embedder.Embedder` does, by native kernels.

Matrices that are stored in 8 bits are multiplied as such, with activations as of a reader (`stack`): three
times as fast as in float32, and vectors of a cosine of 0.999 with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidkit import native
from fidkit.checkpoint.files import Directory, Mapped, open_directory
from fidkit.checkpoint.pooling import FILE, Pooling
from fidkit.checkpoint.stored import encoder_weights
from fidkit.config import ReaderConfig
from fidkit.engine.cpu.embedding import Embedding, Side
from fidkit.engine.cpu.stack import EncoderStack, layers_of
from fidkit.engine.cpu.weights import within
from fidkit.engine.pooled import BATCH_TOKENS, apart, batches, rows_apart, rows_of
from fidkit.errors import CheckpointError
from fidkit.rows import Layout
from fidkit.tokens import Tokenizer
from fidkit.types import Passage


def suits(config: ReaderConfig) -> bool:
    """Whether native kernels suit an encoder, all of whose layers are live."""
    stack = config.encoder
    return (
        stack.blocks.kernels == "bert"
        and stack.head_width % native.LANES == 0
        and config.live_layers == stack.layers
    )


@dataclass(frozen=True)
class Upper:
    """The last layers of an encoder, and what they leave as a vector: of states that others made."""

    stack: EncoderStack | None
    pooling: Pooling

    def __call__(self, states_XD: np.ndarray, layout: Layout) -> NDArray[np.float32]:
        """Vectors [N, D] of N texts.

        Args:
            states_XD: float32, contiguous, of all texts one after the other; overwritten.
            layout: where each begins.
        """
        if self.stack is not None:
            states_XD = self.stack(states_XD, layout.starts)
        firsts = layout.starts[:-1]
        if self.pooling.way == "cls":
            pooled: NDArray[np.float32] = states_XD[firsts]
        else:
            pooled = np.add.reduceat(states_XD, firsts) / layout.lengths[:, None].astype(np.float32)
        if self.pooling.normalised:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))
        return pooled


class NativeEmbedder:
    """Makes one vector of each text; safe to use from several threads.

    Args:
        directory: of a checkpoint of ours that `suits`, with a `pooling.json` and a tokenizer.
        kernels: the compiled kernels.

    Attributes:
        width: D, numbers of a vector.

    Raises:
        CheckpointError: tensors missing, superfluous or of another shape, no tokenizer, or no pooling.
    """

    def __init__(self, directory: Directory, kernels: native.Kernels) -> None:
        config, weights = directory.config, encoder_weights(directory)
        self._kernels, self._config = kernels, config
        self._tokenizer = _tokenizer_of(directory)
        self._pooling = Pooling.load(directory.weights.parent / FILE)
        self._mapped = Mapped(directory.all_weights)
        self.width = config.encoder.width
        self._embedding = Embedding(apart(config), config.encoder, within(weights, "embedding."))
        self._layers = layers_of(within(weights, "live_encoder."), config.encoder.layers)
        self._whole = self.above(0)

    @classmethod
    def open(cls, where: Path, kernels: native.Kernels) -> NativeEmbedder:
        """The encoder in a directory."""
        return cls(open_directory(where), kernels)

    def embed(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors [N, D], float32, of N texts; see `fidkit.engine.embedder.Embedder.embed`."""
        return self._vectors(rows_of(texts, prompt, self._tokenizer, self._pooling), "question")

    def embed_apart(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Vectors [N, D], float32, of N passages; see `fidkit.engine.embedder.Embedder.embed_apart`."""
        return self._vectors(rows_apart(passages, self._tokenizer), "passage")

    def above(self, layers: int) -> Upper:
        """All but the first layers, laid out once more; vectors of what those leave."""
        last = self._layers[layers:]
        if not last:
            return Upper(None, self._pooling)
        return Upper(
            EncoderStack(self._kernels, self._config.encoder, last, None, 0, "lossless"), self._pooling
        )

    def _vectors(self, rows: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self.width), np.float32)
        self._mapped.check()
        for batch in batches(rows, BATCH_TOKENS["cpu"]):
            vectors[batch] = self._encode([rows[number] for number in batch], side)
        self._mapped.check()
        return vectors

    def _encode(self, texts: Sequence[Sequence[int]], side: Side) -> NDArray[np.float32]:
        layout = Layout(np.array([len(text) for text in texts], np.int64))
        ids_X = np.concatenate([np.array(text, np.int64) for text in texts])
        return self._whole(self._embedding(ids_X, layout, side), layout)


def _tokenizer_of(directory: Directory) -> Tokenizer:
    if directory.tokenizer is None or directory.config.start_token is None:
        raise CheckpointError(
            f"{directory.weights.parent}: expected an encoder that makes vectors, with its vocabulary"
        )
    return directory.tokenizer
