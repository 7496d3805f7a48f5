"""A reader made ready to answer fast: its precision and its kernels are chosen once, here."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from fidkit import native
from fidkit.batch import Batch, Context
from fidkit.config import ReaderConfig
from fidkit.engine.native_decoder import NativeCache, NativeDecoder, to_int8
from fidkit.engine.native_encoder import NativeEncoder
from fidkit.errors import UsageError
from fidkit.nn.cache import DecoderCache
from fidkit.reader import Reader

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


class Runner:
    """Reads and generates as the reader does, faster.

    Args:
        reader: in eval mode; it is left as it is.
        precision: of weights and activations; `int8` is bfloat16 with the decoder's matrices in 8 bits. By
            default what the reader's weights have.
        plain: leave the native kernels out, where there are any.

    Raises:
        UsageError: no such precision, or weights that are not finite numbers.
    """

    def __init__(self, reader: Reader, precision: Precision | None = None, *, plain: bool = False) -> None:
        if precision is not None and precision not in PRECISIONS:
            raise UsageError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
        self.int8 = precision == "int8"
        self.reader = _converted(reader, precision).eval()
        kernels = None if plain else native.kernels() if _suits_kernels(self.reader) else None
        self.native = kernels is not None
        if kernels is not None:
            self._encoder = NativeEncoder(kernels)
            self._decoder = NativeDecoder(self.reader, kernels, int8=self.int8)
        elif self.int8:
            _round_decoder(self.reader)

    @property
    def config(self) -> ReaderConfig:
        return self.reader.config

    @torch.no_grad()
    def read(self, batch: Batch) -> Context:
        """Encode all passages with their question and fuse them."""
        return self.reader.read(batch, self._encoder) if self.native else self.reader.read(batch)

    @torch.no_grad()
    def start(self, context: Context, max_tokens: int, beams: int = 1) -> DecoderCache:
        """Project the context's keys and values; make room for `max_tokens` steps of `beams` rows each."""
        start = self._decoder.start if self.native else self.reader.start
        return start(context, max_tokens, beams)

    @torch.no_grad()
    def step(self, ids_N: Tensor, cache: DecoderCache) -> Tensor:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token."""
        if isinstance(cache, NativeCache):
            return self._decoder.step(ids_N, cache)
        return self.reader.step(ids_N, cache)


def _converted(reader: Reader, precision: Precision | None) -> Reader:
    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16}
    dtype = reader.embedding.weight.dtype if precision is None else wanted[precision]
    if dtype == reader.embedding.weight.dtype and precision != "int8":
        return reader
    return copy.deepcopy(reader).to(dtype)


def _suits_kernels(reader: Reader) -> bool:
    config, weight = reader.config, reader.embedding.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype in native.TYPES
        and config.encoder.head_width % native.LANES == 0
        and config.decoder.head_width % native.LANES == 0
    )


@torch.no_grad()
def _round_decoder(reader: Reader) -> None:
    """What int8 weights compute, without their speed: the same numbers in the reader's own type."""
    matrices: list[Tensor] = [p for p in reader.decoder.layers.parameters() if p.ndim == 2]
    if not reader.config.tied_head:
        matrices.append(reader.head_weight)
    for weight in matrices:
        rounded, scale = to_int8(weight)
        weight.copy_(rounded * scale[:, None])
