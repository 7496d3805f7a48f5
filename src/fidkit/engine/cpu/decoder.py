"""The decoder on the CPU's native kernels: one call a token."""

from __future__ import annotations

import ctypes
import math
import weakref

import torch
from torch import Tensor, nn

from fidkit.context import Context
from fidkit.engine.cpu.products import Products, Rounding
from fidkit.native import LANES, TYPES, Kernels, Layer, Linear, Step
from fidkit.nn.attention import CrossAttention
from fidkit.nn.cache import DecoderCache
from fidkit.nn.families.t5 import T5DecoderLayer
from fidkit.nn.layers import RMSNorm
from fidkit.reader import Reader

# Context vectors whose keys and values are projected and laid out while they are in the cache.
CHUNK = 2048


class NativeCache(DecoderCache):
    """Self-attention caches as the plain decoder's; cross-attention caches laid out for the kernels.

    Attributes:
        lengths: [B] int64, real vectors of each context.
        self_bias: [H, max_tokens] float32, by distance into the past.
        packed: per layer, keys and values [B, G, room, h]; None for a layer without cross-attention.
        layers: what the kernel reads, with pointers into `packed`.
    """

    lengths: Tensor
    self_bias: Tensor
    packed: list[tuple[Tensor, Tensor] | None]
    layers: ctypes.Array[Layer]

    @property
    def cross_bytes(self) -> int:
        return sum(x.nbytes for pair in self.packed if pair is not None for x in pair)


class NativeDecoder:
    """Start and step of a reader's decoder.

    Args:
        reader: its decoder of a family that suits (`Family.kernels` is `t5`); float32 or bfloat16, on the
            CPU; what the kernels read are its weights, not copies.
        kernels: the compiled kernels.
        rounding: of matrices to 8 bits with a scale a row; activations and caches stay as they are, and so
            does a tied head, which is the embedding table too.
    """

    def __init__(self, reader: Reader, kernels: Kernels, *, rounding: Rounding = "never") -> None:
        self.reader, self.kernels = reader, kernels
        self.dtype = reader.embedding.weight.dtype
        self.products = Products(kernels, rounding=rounding)
        self._alive: list[Tensor] = []
        self._spare: Tensor | None = None
        layers = [self._layer(layer) for layer in reader.decoder.layers]
        self._layers = (Layer * len(layers))(*layers)
        last = reader.decoder.norm
        assert isinstance(last, RMSNorm)
        self._final_norm, self._epsilon = self._floats(last.weight), last.epsilon
        self._head = self._linear(reader.head_weight, exactly=reader.config.tied_head)

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> NativeCache:
        """Project the context's keys and values straight into the layout that steps read."""
        cache = NativeCache(
            self.reader.config,
            cross=[],
            cross_bias=torch.empty(len(context.mask_BM), 1, 1, 0),
            max_tokens=max_tokens,
            like=context.states_BMD,
            beams=beams,
        )
        cache.lengths = context.mask_BM.sum(1)
        cache.packed = self._project(context, cache.lengths, cache)
        cache.layers = type(self._layers).from_buffer_copy(self._layers)
        for layer, packed in zip(cache.layers, cache.packed, strict=True):
            if packed is not None:
                layer.cross_keys, layer.cross_values = packed[0].data_ptr(), packed[1].data_ptr()
        cache.self_bias = self._self_bias(max_tokens)
        return cache

    def step(self, ids_N: Tensor, cache: NativeCache) -> Tensor:
        """Logits [N, V] (float32) of the token after `ids_N`.

        Raises:
            UsageError: the cache has no room for another position.
        """
        config, stack = self.reader.config, self.reader.config.decoder
        states = self.reader.decoder.embedding(ids_N).to(torch.float32, copy=True)
        logits = torch.empty(len(ids_N), config.vocabulary_size)
        packed = next(pair for pair in cache.packed if pair is not None)
        step = Step(
            rows=len(ids_N),
            beams=cache.beams,
            width=stack.width,
            heads=stack.heads,
            head=stack.head_width,
            self_groups=config.kv_heads[0],
            cross_groups=config.kv_heads[1],
            feed_forward=stack.feed_forward,
            position=cache.next_position(),
            capacity=cache.max_tokens,
            context=packed[0].shape[2],
            lengths=cache.lengths.data_ptr(),
            layers=stack.layers,
            layer=cache.layers,
            self_keys=cache.self_keys.data_ptr(),
            self_values=cache.self_values.data_ptr(),
            self_bias=cache.self_bias.data_ptr(),
            final_norm=self._final_norm,
            head_linear=self._head,
            head_scale=stack.width**-0.5 if config.tied_head else 1.0,
            epsilon=self._epsilon,
            states=states.data_ptr(),
            logits=logits.data_ptr(),
        )
        self.kernels.decoder_step(step, self.dtype)
        cache.length += 1
        bias = self.reader.head_bias
        return logits if bias is None else logits.add_(bias)

    def _project(
        self, context: Context, lengths: Tensor, cache: NativeCache
    ) -> list[tuple[Tensor, Tensor] | None]:
        """Packed keys and values of every layer for a cache; None for one that doesn't read the context."""
        config = self.reader.config
        room = -(-context.states_BMD.shape[1] // LANES) * LANES
        shape = (len(lengths), config.kv_heads[1], room, config.decoder.head_width)
        space = iter(self._space(cache, sum(config.cross_layers), 2, *shape))
        packed: list[tuple[Tensor, Tensor] | None] = []
        for layer in self.reader.decoder.layers:
            assert isinstance(layer, T5DecoderLayer)
            if layer.cross_attention is None:
                packed.append(None)
                continue
            keys, values = next(space)
            self._pack(layer.cross_attention, context, lengths, keys, values)
            packed.append((keys, values))
        return packed

    def _space(self, cache: NativeCache, *shape: int) -> Tensor:
        """Memory that belongs to a cache while it lives, and to a later one then.

        It may be hundreds of megabytes, and the system would hand them out page by page for each question.
        """
        size = math.prod(shape)
        memory, self._spare = self._spare, None
        if memory is None or len(memory) < size:
            memory = self.kernels.empty(size, dtype=self.dtype)
        weakref.finalize(cache, self._give_back, memory).atexit = False
        return memory[:size].view(shape)

    def _give_back(self, memory: Tensor) -> None:
        self._spare = memory

    def _pack(
        self, attention: CrossAttention, context: Context, lengths: Tensor, keys: Tensor, values: Tensor
    ) -> None:
        """Fill [B, G, room, h]; what is behind a context stays as it is, and is never read."""
        for question, length in enumerate(lengths.tolist()):
            for first in range(0, length, CHUNK):
                states = context.states_BMD[question, first : min(first + CHUNK, length)]
                made = self.products(states, attention.key, attention.value)
                new_keys, new_values = made.view(len(states), 2, keys.shape[1], keys.shape[3]).unbind(1)
                self.kernels.pack_context(new_keys, new_values, keys[question], values[question], first)

    def _self_bias(self, capacity: int) -> Tensor:
        """[H, capacity] by distance into the past."""
        table = self.reader.decoder.relative_bias
        assert table is not None
        bias = table(torch.tensor([capacity - 1]), torch.arange(capacity))
        return bias[0, :, 0].float().flip(-1).contiguous()

    def _layer(self, layer: nn.Module) -> Layer:
        assert isinstance(layer, T5DecoderLayer)
        attention, cross, block = layer.self_attention, layer.cross_attention, layer.feed_forward
        found = Layer(
            self_norm=self._floats(layer.self_attention_norm.weight),
            feed_forward_norm=self._floats(layer.feed_forward_norm.weight),
            query=self._linear(attention.query.weight),
            key=self._linear(attention.key.weight),
            value=self._linear(attention.value.weight),
            out=self._linear(attention.out.weight),
            inner=self._linear(block.inner.weight),
            feed_forward_out=self._linear(block.out.weight),
        )
        if block.gate is not None:
            found.gate = self._linear(block.gate.weight)
        if cross is not None:
            found.cross_norm = self._floats(layer.cross_attention_norm.weight)
            found.cross_query = self._linear(cross.query.weight)
            found.cross_out = self._linear(cross.out.weight)
        return found

    def _linear(self, weight: Tensor, *, exactly: bool = False) -> Linear:
        rows, columns = weight.shape
        found = None if exactly else self.products.rounded(weight)
        if found is None:
            return Linear(self._keep(weight), None, rows, columns, TYPES[weight.dtype])
        rounded, scale = found
        return Linear(self._keep(rounded), self._keep(scale), rows, columns, TYPES[torch.int8])

    def _floats(self, weight: Tensor) -> int:
        return self._keep(weight.float())

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._alive.append(tensor)
        return tensor.data_ptr()
