"""The encoder for search by meaning that comes with fidkit, as a corpus takes it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidkit import assets, native
from fidkit.checkpoint.files import CONFIG, WEIGHTS, read_arrays
from fidkit.checkpoint.pooling import FILE as POOLING
from fidkit.checkpoint.shared import Shared
from fidkit.config import ReaderConfig
from fidkit.devices import has_torch
from fidkit.errors import WITH_TORCH, FidkitError
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.types import Passage

if TYPE_CHECKING:
    from fidkit.calibration import Calibration
    from fidkit.engine.cpu.embedder import NativeEmbedder
    from fidkit.engine.embedder import Embedder

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors [N, D] of length 1."""

ENCODER = assets.EMBEDDERS[0]
APART = f"{ENCODER}-apart"
_lock = threading.Lock()


@cache
def minilm() -> VectorEncoder:
    """MiniLM, opened when the first text is to be encoded: a corpus may turn out to need none.

    Raises:
        CheckpointError, ConfigError: this installation's is damaged.
    """
    where = assets.reader(ENCODER)
    width = ReaderConfig.load(where / CONFIG).encoder.width
    digest = hashlib.sha256()
    # Its weights name the vocabulary by its hash. Words lie in the file of a reader, whose other weights may
    # become better without a vector becoming another.
    for name in (CONFIG, POOLING, WEIGHTS):
        digest.update((where / name).read_bytes())
    if (shared := Shared.load(where)) is not None:
        taken = shared.take(read_arrays(shared.weights), where)
        for here, words in sorted(taken.items()):
            digest.update(f"{here} {words.dtype} {words.shape}".encode())
            digest.update(np.ascontiguousarray(words).view(np.uint8).data)
    digest_apart = digest.copy()
    digest_apart.update(b"title and text apart")
    apart = VectorEncoder(APART, digest_apart.hexdigest(), width, _embed, _embed, _embed_apart)
    return VectorEncoder(ENCODER, digest.hexdigest(), width, _embed, _embed, others=(apart,))


def minilm_apart() -> VectorEncoder:
    """MiniLM over passages as readers read them: its first layers leave what is their memory.

    A corpus has its vectors where these were made together with a memory (`fidkit.precompute.onepass`).
    `minilm` knows it, and searches such a corpus.
    """
    return minilm().others[0]


def runnable() -> Callable[[], VectorEncoder] | None:
    """`minilm` where it can be run, for those who take it if it is there."""
    return minilm if has_torch() or native.kernels() is not None else None


def embedding() -> Embed | None:
    """Texts to vectors as `minilm` makes them, opened at the first of them; None where it can't be run."""
    return None if runnable() is None else _embed


def embedding_for(calibration: Calibration | None) -> Embed | None:
    """`embedding` for a reader with this calibration, where its confidence compares by meaning.

    None for all others, readers without a calibration among them: no encoder is opened for them.
    """
    return embedding() if calibration is not None and "meaning" in calibration.signals else None


def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    return _embedder().embed(texts)


def _embed_apart(passages: Sequence[Passage]) -> NDArray[np.float32]:
    return _embedder().embed_apart(passages)


def _embedder() -> NativeEmbedder | Embedder:
    with _lock:
        return _opened()


@cache
def _opened() -> NativeEmbedder | Embedder:
    where = assets.reader(ENCODER)
    if (kernels := native.kernels()) is not None:
        from fidkit.engine.cpu.embedder import NativeEmbedder

        return NativeEmbedder.open(where, kernels)
    if not has_torch():
        raise FidkitError(
            "search by meaning needs native kernels, and there are none here (`fidkit doctor` says why), or "
            f"PyTorch, which is not installed; {WITH_TORCH}"
        )
    from fidkit.engine.embedder import Embedder

    return Embedder.open(where, "cpu")
