"""The decoder on the CPU's native kernels: one call a token."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidkit.checkpoint.stored import Weight
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context, Sight
from fidkit.engine.cpu.positions import bias_of_past
from fidkit.engine.cpu.stack import RMS_EPSILON, layers_of
from fidkit.engine.cpu.weights import LaidOut, Rounding, Weights, activation_bits, joined, rounded, within
from fidkit.engine.cpu.words import Words
from fidkit.native import LANES, TYPES, Array, Kernels, Layer, Linear, Step, address
from fidkit.written import Written, no_room


@dataclass
class Crossed:
    """Keys and values of a context in every layer, laid out for the kernels; written once, read by any step.

    Attributes:
        lengths: [B] int64, real vectors of each context.
        room: keys that every context has room for.
        packed: of each layer with cross-attention, keys and values [B, G, room, h].
        layers: what the kernel reads, with pointers into `packed`.
    """

    lengths: np.ndarray
    room: int
    packed: list[tuple[np.ndarray, np.ndarray]]
    layers: ctypes.Array[Layer]


class NativeCache(Written):
    """Self-attention caches, written one position a step, and the keys and values of a context.

    Attributes:
        beams: W, rows of a question.
        length: positions written so far.
        max_tokens: positions there is room for.
        self_keys, self_values: [layers, N, G, max_tokens, h].
        self_bias: [H, max_tokens] float32, by distance into the past.
        crossed: of the context.
    """

    def __init__(
        self, config: ReaderConfig, crossed: Crossed, self_bias: np.ndarray, max_tokens: int, beams: int
    ) -> None:
        super().__init__(max_tokens)
        self.beams = beams
        self.crossed, self.self_bias = crossed, self_bias
        stack, rows = config.decoder, beams * len(crossed.lengths)
        shape = (stack.layers, rows, config.kv_heads[0], max_tokens, stack.head_width)
        dtype = crossed.packed[0][0].dtype
        try:
            self.self_keys, self.self_values = np.zeros(shape, dtype), np.zeros(shape, dtype)
        except MemoryError as error:
            raise no_room(shape, dtype.itemsize) from error

    def select(self, rows_N: Array) -> None:
        """Let row i go on from what row `rows_N[i]` has written; both are rows of the same question."""
        rows = np.asarray(rows_N)
        for cache in (self.self_keys, self.self_values):
            written = cache[:, :, :, : self.length]
            written[...] = written[:, rows]

    @property
    def cross_bytes(self) -> int:
        """Bytes of the cross-attention caches; layers without cross-attention add none."""
        return sum(array.nbytes for pair in self.crossed.packed for array in pair)


class NativeDecoder:
    """Start and step of a reader's decoder.

    Args:
        config: of a reader whose decoder is of a family that suits (`Family.kernels` is `t5`).
        weights: its parameters by name, float32, bfloat16 or rounded; they are read where they are.
        words: what the decoder reads and writes tokens with.
        kernels: the compiled kernels.
        rounding: of matrices to 8 bits; activations and caches stay as they are, and so does a tied head that
            isn't stored so.

    Attributes:
        dtype: of keys and values, `float32` or `bfloat16`.
    """

    dtype = "float32"

    def __init__(
        self,
        config: ReaderConfig,
        weights: Weights,
        words: Words,
        kernels: Kernels,
        rounding: Rounding = "never",
    ) -> None:
        self.config, self.kernels, self.words, self.rounding = config, kernels, words, rounding
        self._alive: list[Array] = []
        self._spare: np.ndarray | None = None
        # By the context that they are of; kept while a context that is worked on lives.
        self._made: weakref.WeakValueDictionary[int, Crossed] = weakref.WeakValueDictionary()
        self._works, self._kept = 0, dict[int, Crossed]()
        of_decoder = within(weights, "decoder.")
        of_layers = layers_of(of_decoder, config.decoder.layers)
        layers = [self._layer(of) for of in of_layers]
        self._layers = (Layer * len(layers))(*layers)
        self._reading = [number for number, reads in enumerate(config.cross_layers) if reads]
        self._keys_values = self._laid_out([of_layers[number] for number in self._reading])
        self._final_norm = self._floats(of_decoder["norm.weight"])
        self._relative_bias = of_decoder["relative_bias.weight"].floats()
        self._head, self._mean, self._shift = self._head_of(weights)
        self._head_bias = None
        for name in ("head.bias.weight", "head.linear.bias"):
            if name in weights:
                self._head_bias = weights[name].floats()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Within it a context's keys and values are kept as long as it is: it is looked back at."""
        self._works += 1
        try:
            yield
        finally:
            self._works -= 1
            if not self._works:
                self._kept.clear()

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> NativeCache:
        """Project the context's keys and values, unless they are at hand still; make room for steps."""
        crossed = self._crossed(context)
        bias = bias_of_past(self._relative_bias, max_tokens, self.config.relative_max_distance)
        return NativeCache(self.config, crossed, bias, max_tokens, beams)

    def step(self, ids_N: np.ndarray, cache: NativeCache, looked: np.ndarray | None = None) -> np.ndarray:
        """Logits [N, V] (float32) of the token after `ids_N`.

        Args:
            ids_N: tokens.
            cache: grows by one position.
            looked: [layers with cross-attention, N, room] float32, becomes the weights of attention, summed
                over heads.

        Raises:
            UsageError: the cache has no room for another position.
        """
        config, stack, crossed = self.config, self.config.decoder, cache.crossed
        states = self.words.rows(ids_N)
        logits = np.empty((len(ids_N), config.vocabulary_size), np.float32)
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
            context=crossed.room,
            lengths=address(crossed.lengths),
            layers=stack.layers,
            layer=crossed.layers,
            self_keys=address(cache.self_keys),
            self_values=address(cache.self_values),
            self_bias=address(cache.self_bias),
            final_norm=self._final_norm,
            head_linear=self._head,
            head_scale=stack.width**-0.5 if config.tied_head else 1.0,
            epsilon=RMS_EPSILON,
            head_mean=self._mean,
            head_shift=self._shift,
            looked=address(looked),
            states=address(states),
            logits=address(logits),
        )
        self.kernels.decoder_step(step, self.dtype)
        cache.length += 1
        if self._head_bias is not None:
            logits += self._head_bias
        return logits

    def look(self, ids_BT: np.ndarray, context: Context) -> Sight:
        """What it makes of answers as it wrote them, token by token, and where it looks meanwhile."""
        B, T = ids_BT.shape
        cache = self.start(context, max(1, T))
        looked = np.empty((len(self._reading), B, cache.crossed.room), np.float32)
        logits_BTV = np.empty((B, T, self.config.vocabulary_size), np.float32)
        mass_BM = np.zeros_like(looked[0])
        first_BM = mass_BM
        last_B = np.full(B, self.config.pad_token)
        for t in range(T):
            logits_BTV[:, t] = self.step(last_B, cache, looked)
            mass_BM = mass_BM + looked.sum(0) * (ids_BT[:, t, None] != IGNORED)
            if t == 0:
                first_BM = looked[-1].copy()
            last_B = np.where(ids_BT[:, t] == IGNORED, self.config.pad_token, ids_BT[:, t])
        M = context.mask_BM.shape[1]
        return Sight(logits_BTV, mass_BM[:, :M], first_BM[:, :M])

    def _crossed(self, context: Context) -> Crossed:
        if (made := self._made.get(id(context))) is not None:
            return made
        lengths = np.ascontiguousarray(np.asarray(context.mask_BM).sum(1).astype(np.int64))
        room = -(-context.mask_BM.shape[1] // LANES) * LANES
        shape = (len(lengths), self.config.kv_heads[1], room, self.config.decoder.head_width)
        memory = self._take(len(self._reading) * 2 * math.prod(shape))
        space = memory[: len(self._reading) * 2 * math.prod(shape)].reshape(-1, 2, *shape)
        packed = [(keys, values) for keys, values in space]
        layers = type(self._layers).from_buffer_copy(self._layers)
        for number, (keys, values) in zip(self._reading, packed, strict=True):
            layers[number].cross_keys, layers[number].cross_values = address(keys), address(values)
        for question, length in enumerate(lengths.tolist()):
            of_question = [(keys[question], values[question]) for keys, values in packed]
            self._fill(context.states_BMD[question, :length], of_question)
        crossed = Crossed(lengths, room, packed, layers)
        weakref.finalize(crossed, self._give_back, memory).atexit = False
        self._made[id(context)] = crossed
        if self._works:
            self._kept[id(context)] = crossed
        weakref.finalize(context, self._forget, id(context)).atexit = False
        return crossed

    def _forget(self, context: int) -> None:
        """Another context may get the number of one that is gone."""
        self._made.pop(context, None)
        self._kept.pop(context, None)

    def _take(self, size: int) -> np.ndarray:
        """Memory that belongs to a context's keys and values while they live, and to later ones then.

        It may be hundreds of megabytes, and the system would hand them out page by page for each question.
        """
        memory, self._spare = self._spare, None
        if memory is None or len(memory) < size:
            memory = self.kernels.empty((size,), np.float32 if self.dtype == "float32" else np.uint16)
        return memory

    def _give_back(self, memory: np.ndarray) -> None:
        self._spare = memory

    def _fill(self, states_MD: Any, to: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Project keys and values of a context, to [G, room, h] of each layer; what is behind it stays."""
        weights: list[LaidOut] = self._keys_values
        if weights:
            packed = [weight.packed() for weight in weights]
            self.kernels.project_context(states_MD, packed, weights[0].activations, to)

    def _laid_out(self, layers: list[Weights]) -> list[Any]:
        """What `_fill` multiplies with, a layer each."""
        made = []
        for layer in layers:
            both = joined(
                [self._rounded(layer[f"cross_attention.{name}.weight"]) for name in ("key", "value")]
            )
            made.append(
                LaidOut.of(both, None, self.kernels.lanes, activation_bits(self.rounding, self.kernels))
            )
        return made

    def _rounded(self, weight: Weight) -> Weight:
        return rounded(weight, self.rounding)

    def _layer(self, layer: Weights) -> Layer:
        found = Layer(
            self_norm=self._floats(layer["self_attention_norm.weight"]),
            feed_forward_norm=self._floats(layer["feed_forward_norm.weight"]),
            query=self._linear(layer["self_attention.query.weight"]),
            key=self._linear(layer["self_attention.key.weight"]),
            value=self._linear(layer["self_attention.value.weight"]),
            out=self._linear(layer["self_attention.out.weight"]),
            inner=self._linear(layer["feed_forward.inner.weight"]),
            feed_forward_out=self._linear(layer["feed_forward.out.weight"]),
        )
        if "feed_forward.gate.weight" in layer:
            found.gate = self._linear(layer["feed_forward.gate.weight"])
        if "cross_attention.query.weight" in layer:
            found.cross_norm = self._floats(layer["cross_attention_norm.weight"])
            found.cross_query = self._linear(layer["cross_attention.query.weight"])
            found.cross_out = self._linear(layer["cross_attention.out.weight"])
        return found

    def _head_of(self, weights: Weights) -> tuple[Linear, int | None, int | None]:
        """The head's matrix, and what is taken off its logits where it is the words, standardised."""
        if not self.config.tied_head:
            return self._linear(weights["head.linear.weight"]), None, None
        words = self.words
        mean, shift = words.mean, words.shift
        if mean is None or shift is None:
            return self._as_read(words.table), None, None
        assert words.table.scale is not None
        table = Weight(words.table.values, np.ascontiguousarray(words.table.scale * shift))
        return self._as_read(table), self._keep(mean), self._keep(shift)

    def _linear(self, weight: Weight) -> Linear:
        if weight.values.dtype == np.uint16 and self.rounding != "always":
            return self._as_read(weight)
        return self._as_read(self._rounded(weight))

    def _as_read(self, weight: Weight) -> Linear:
        kind = "bfloat16" if weight.values.dtype == np.uint16 else str(weight.values.dtype)
        scale = None if weight.scale is None else self._keep(weight.scale)
        return Linear(self._keep(weight.values), scale, *weight.shape, TYPES[kind])

    def _floats(self, weight: Weight) -> int:
        return self._keep(weight.floats())

    def _keep(self, array: np.ndarray) -> int:
        array = np.ascontiguousarray(array)
        self._alive.append(array)
        return int(address(array) or 0)
