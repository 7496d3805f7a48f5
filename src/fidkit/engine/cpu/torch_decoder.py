"""PyTorch's decoder on the CPU's native kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fidkit.checkpoint.stored import Weight
from fidkit.context import Context, Sight
from fidkit.engine.cpu.decoder import NativeCache, NativeDecoder
from fidkit.engine.cpu.products import Products
from fidkit.engine.cpu.tensors import weight_of, weights_of
from fidkit.engine.cpu.weights import Rounding, Weights
from fidkit.engine.cpu.words import Words
from fidkit.native import Kernels
from fidkit.reader import Reader

# Context vectors whose keys and values are projected and laid out while they are in the cache.
CHUNK = 2048


class TorchDecoder:
    """Start and step of a reader's decoder, whose weights the kernels read where they are.

    Args:
        reader: its decoder of a family that suits (`Family.kernels` is `t5`); float32 or bfloat16, on the
            CPU.
        kernels: the compiled kernels.
        rounding: see `NativeDecoder`.
    """

    def __init__(self, reader: Reader, kernels: Kernels, *, rounding: Rounding = "never") -> None:
        half = reader.embedding.weight.dtype == torch.bfloat16
        weights = weights_of(_parameters(reader), rounding)
        words = _SameWords(reader)
        if half:
            self._decoder: NativeDecoder = _Half(reader, weights, words, kernels, rounding)
        else:
            self._decoder = NativeDecoder(reader.config, weights, words, kernels, rounding)

    def keeping(self) -> AbstractContextManager[None]:
        """See `NativeDecoder`, as for the following."""
        return self._decoder.keeping()

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> NativeCache:
        return self._decoder.start(context, max_tokens, beams)

    def step(self, ids_N: Tensor, cache: NativeCache) -> Tensor:
        return torch.from_numpy(self._decoder.step(ids_N.numpy(), cache))

    def look(self, ids_BT: Tensor, context: Context) -> Sight:
        sight = self._decoder.look(ids_BT.numpy(), context)
        return Sight(*map(torch.from_numpy, (sight.logits_BTV, sight.mass_BM, sight.first_BM)))


class _SameWords:
    """The words of a reader that PyTorch has made already."""

    def __init__(self, reader: Reader) -> None:
        self._embedding = reader.decoder.embedding
        self.mean: np.ndarray | None = None
        self.shift: np.ndarray | None = None

    @property
    def table(self) -> Weight:
        return weight_of(self._embedding.weight)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self._embedding(torch.from_numpy(np.asarray(ids))).float().contiguous().numpy()


class _Half(NativeDecoder):
    """In bfloat16; keys and values are projected by the CPU's matrix library, or by our kernels in 8 bits."""

    dtype = "bfloat16"

    def __init__(
        self, reader: Reader, weights: Weights, words: Words, kernels: Kernels, rounding: Rounding
    ) -> None:
        self._linears: list[tuple[Any, ...]] = [
            (layer.cross_attention.key, layer.cross_attention.value)
            for layer in reader.decoder.layers
            if layer.cross_attention is not None
        ]
        self._products = Products(kernels)
        super().__init__(reader.config, weights, words, kernels, rounding)

    def _laid_out(self, layers: list[Weights]) -> list[Any]:
        return super()._laid_out(layers) if self.rounding == "always" else self._linears

    def _fill(self, states_MD: Any, to: list[tuple[np.ndarray, np.ndarray]]) -> None:
        if self.rounding == "always":
            super()._fill(states_MD.float(), to)
            return
        for linears, (keys, values) in zip(self._linears, to, strict=True):
            groups, _, head = keys.shape
            for first in range(0, len(states_MD), CHUNK):
                made = self._products(states_MD[first : first + CHUNK], *linears)
                made = made.reshape(len(made), 2, groups, head)
                self.kernels.pack_context(made[:, 0], made[:, 1], keys, values, first)


def _parameters(reader: Reader) -> list[tuple[str, Tensor]]:
    """Of decoder and head; words come from PyTorch's embedding."""
    named = [(name, p) for name, p in reader.named_parameters() if name.startswith(("decoder.", "head."))]
    return [(name, p) for name, p in named if not name.startswith("decoder.embedding.")]
