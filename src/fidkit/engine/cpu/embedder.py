"""Texts to vectors on a CPU without PyTorch: what `fidkit.engine.embedder.Embedder` does, by native kernels.

Matrices that are stored in 8 bits are multiplied as such, with activations as of a reader (`stack`): three
times as fast as in float32, and vectors of a cosine of 0.999 with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidkit import native
from fidkit.checkpoint.files import Directory, Mapped, open_directory
from fidkit.checkpoint.pooling import FILE, Pooling
from fidkit.checkpoint.stored import encoder_weights
from fidkit.config import ReaderConfig
from fidkit.engine.cpu.embedding import Embedding
from fidkit.engine.cpu.stack import EncoderStack, layers_of
from fidkit.engine.cpu.weights import within
from fidkit.engine.pooled import BATCH_TOKENS, batches, rows_of
from fidkit.errors import CheckpointError
from fidkit.rows import Layout
from fidkit.tokens import Tokenizer


def suits(config: ReaderConfig) -> bool:
    """Whether native kernels suit an encoder, all of whose layers are live."""
    stack = config.encoder
    return (
        stack.blocks.kernels == "bert"
        and stack.head_width % native.LANES == 0
        and config.live_layers == stack.layers
    )


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
        self._tokenizer = _tokenizer_of(directory)
        self._pooling = Pooling.load(directory.weights.parent / FILE)
        self._mapped = Mapped(directory.all_weights)
        self.width = config.encoder.width
        self._embedding = Embedding(config, config.encoder, within(weights, "embedding."))
        layers = layers_of(within(weights, "live_encoder."), config.encoder.layers)
        self._stack = EncoderStack(kernels, config.encoder, layers, None, 0, "lossless")

    @classmethod
    def open(cls, where: Path, kernels: native.Kernels) -> NativeEmbedder:
        """The encoder in a directory."""
        return cls(open_directory(where), kernels)

    def embed(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Vectors [N, D], float32, of N texts; see `fidkit.engine.embedder.Embedder.embed`."""
        rows = rows_of(texts, prompt, self._tokenizer, self._pooling)
        vectors = np.empty((len(rows), self.width), np.float32)
        self._mapped.check()
        for batch in batches(rows, BATCH_TOKENS["cpu"]):
            vectors[batch] = self._encode([rows[number] for number in batch])
        self._mapped.check()
        return vectors

    def _encode(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        layout = Layout(np.array([len(text) for text in texts], np.int64))
        ids_X = np.concatenate([np.array(text, np.int64) for text in texts])
        states_XD = self._stack(self._embedding(ids_X, layout, "question"), layout.starts)
        firsts = layout.starts[:-1]
        if self._pooling.way == "cls":
            pooled: NDArray[np.float32] = states_XD[firsts]
        else:
            pooled = np.add.reduceat(states_XD, firsts) / layout.lengths[:, None].astype(np.float32)
        if self._pooling.normalised:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))
        return pooled


def _tokenizer_of(directory: Directory) -> Tokenizer:
    if directory.tokenizer is None or directory.config.start_token is None:
        raise CheckpointError(
            f"{directory.weights.parent}: expected an encoder that makes vectors, with its vocabulary"
        )
    return directory.tokenizer
