"""The decoder on a GPU: caches of fixed addresses, and a step that is recorded once and played again.

A step of a small batch is many small kernels; launching them one by one takes longer than running them. A
CUDA graph launches them together, and asks in return that nothing but the contents of its tensors changes
from step to step: the position is a tensor, and sizes are rounded up, so that other questions find the graph
they need. Letters as in `fidkit.nn`; N rows, W of them of each question.
"""

from __future__ import annotations

import functools
import logging
import math
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from fidkit.context import Context
from fidkit.engine.cuda.fused import PLAIN, Functions
from fidkit.errors import FidkitError
from fidkit.nn.attention import KeysValues
from fidkit.nn.cache import DecoderCache
from fidkit.nn.decoder import Decoder
from fidkit.nn.families.t5 import T5DecoderLayer
from fidkit.nn.layers import RMSNorm
from fidkit.nn.positions import HIDDEN, key_mask_bias
from fidkit.reader import Reader

log = logging.getLogger(__name__)

# Graphs that wait for questions of their sizes, and the share of the device's memory that all but the
# latest of them may hold.
_KEPT, _KEPT_SHARE = 4, 1 / 8
# Steps before a graph is recorded: libraries choose kernels and take workspace in the first ones.
_WARM_UP_STEPS = 3


class Size(NamedTuple):
    """What a recorded step is for.

    Attributes:
        questions: at a time.
        beams: rows of a question.
        room: vectors of a context.
        capacity: tokens of an answer.
    """

    questions: int
    beams: int
    room: int
    capacity: int

    @classmethod
    def of(cls, questions: int, beams: int, vectors: int, tokens: int) -> Size:
        """The smallest of the sizes that steps are recorded for, at most an eighth larger in each respect.

        Short contexts and answers share one.
        """
        return cls(_rounded(questions), beams, _rounded(max(vectors, 256)), _rounded(max(tokens, 64)))


def _rounded(number: int) -> int:
    """Up to a number of four binary digits, and zeros."""
    unit = 1 << max(0, number.bit_length() - 4)
    return -(-number // unit) * unit


class StaticCache(DecoderCache):
    """Caches of some rows, in the tensors of a `StaticStep`, which belongs to them while they live."""

    step: StaticStep


class StaticStep:
    """Caches of fixed addresses, and the step that reads and writes them.

    Args:
        reader: in eval mode; its weights are read where they are.
        size: room in the caches.
        functions: what stands between products, compiled or not.
        like: of the caches' type and device.

    Raises:
        FidkitError: the self-attention caches don't fit into memory.
        torch.OutOfMemoryError: the others don't.
    """

    def __init__(self, reader: Reader, size: Size, functions: Functions, like: Tensor) -> None:
        self.size, self.between, self.decoder, self.head = size, functions, reader.decoder, reader.head
        self.layers = [layer for layer in self.decoder.layers if isinstance(layer, T5DecoderLayer)]
        self.config, device = reader.config, like.device
        shape = (size.questions, self.config.kv_heads[1], size.room, self.config.decoder.head_width)
        cross: list[KeysValues | None] = [
            (like.new_zeros(shape), like.new_zeros(shape)) if reads else None
            for reads in self.config.cross_layers
        ]
        self.caches = DecoderCache(
            self.config,
            cross=cross,
            cross_bias=torch.zeros(size.questions, 1, 1, size.room, device=device),
            max_tokens=size.capacity,
            like=like,
            beams=size.beams,
        )
        self.self_bias = _self_bias(self.decoder, size.capacity)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.ids = torch.zeros(size.questions * size.beams, dtype=torch.long, device=device)
        self.logits: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    @property
    def nbytes(self) -> int:
        """Of the caches, which are most of it."""
        return self.caches.cross_bytes + self.caches.self_keys.nbytes + self.caches.self_values.nbytes

    def fill(self, context: Context, max_tokens: int) -> StaticCache:
        """Begin answers to other questions: caches of theirs, at the first position."""
        caches, (B, M, _) = self.caches, context.states_BMD.shape
        cross: list[KeysValues | None] = []
        for layer, kept in zip(self.layers, caches.cross, strict=True):
            attention = layer.cross_attention
            if attention is None or kept is None:
                cross.append(None)
                continue
            for old, new in zip(kept, attention.keys_values(context.states_BMD), strict=True):
                old[:B, :, :M].copy_(new)
                # Hidden, but 0 times what isn't finite would not be 0.
                old[:B, :, M:].zero_()
                old[B:].zero_()
            cross.append((kept[0][:B, :, :M], kept[1][:B, :, :M]))
        caches.cross_bias.fill_(HIDDEN)
        caches.cross_bias[:B, ..., :M] = key_mask_bias(context.mask_BM)
        for own in (caches.self_keys, caches.self_values):
            own.zero_()
        self.position.zero_()
        rows = B * caches.beams
        cache = StaticCache(
            self.config,
            cross=cross,
            cross_bias=caches.cross_bias[:B, ..., :M],
            max_tokens=max_tokens,
            like=context.states_BMD,
            beams=caches.beams,
            own=(caches.self_keys[:, :rows], caches.self_values[:, :rows]),
        )
        cache.step = self
        return cache

    def record(self) -> None:
        """Make a CUDA graph of the step. Leaves any contents in the caches."""
        side, current = _side_stream(self.ids.device), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                self.run()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            self.logits = self.run()
        self.graph = graph

    def __call__(self, ids_N: Tensor) -> Tensor:
        """Logits [N, V] (float32) after one more token of each row; nothing waits for the device."""
        self.ids[: len(ids_N)].copy_(ids_N)
        if self.graph is None:
            return self.run()[: len(ids_N)].float()
        self.graph.replay()
        assert self.logits is not None
        # The next step writes over them.
        return self.logits[: len(ids_N)].to(torch.float32, copy=True)

    def run(self) -> Tensor:
        """Logits of all rows, in the type of the weights; the position moves on."""
        between, layers = self.between, self.layers
        last = self.decoder.norm
        assert isinstance(last, RMSNorm)
        norms = [*(layer.self_attention_norm for layer in layers[1:]), last]
        x = self.decoder.embedding(self.ids)
        bias_1HT = between.causal_row(self.self_bias, self.position)
        normed = between.first(x, layers[0].self_attention_norm)
        for number, (layer, next_norm) in enumerate(zip(layers, norms, strict=True)):
            change = self._mix(layer, number, normed, bias_1HT)
            if layer.cross_attention is not None:
                x, normed = between.residual(x, change, layer.cross_attention_norm)
                change = self._read(layer, number, normed)
            x, normed = between.residual(x, change, layer.feed_forward_norm)
            x, normed = between.residual(x, between.feed_forward(layer.feed_forward, normed), next_norm)
        self.position.add_(1)
        logits: Tensor = self.head(normed)
        return logits

    def _mix(self, layer: T5DecoderLayer, number: int, normed_NE: Tensor, bias_1HT: Tensor) -> Tensor:
        """What self-attention adds; the position's keys and values are written first."""
        attention = layer.self_attention
        keys, values = self.caches.self_keys[number], self.caches.self_values[number]
        for cache, projection in ((keys, attention.key), (values, attention.value)):
            new = projection(normed_NE).view(len(normed_NE), attention.kv_heads, 1, attention.head_width)
            cache.index_copy_(2, self.position, new)
        mixed = self._attend(attention.query(normed_NE), 1, keys, values, bias_1HT)
        out: Tensor = attention.out(mixed)
        return out

    def _read(self, layer: T5DecoderLayer, number: int, normed_NE: Tensor) -> Tensor:
        """What cross-attention adds; the rows of a question share its keys and values."""
        attention, kept = layer.cross_attention, self.caches.cross[number]
        assert attention is not None
        assert kept is not None
        bias_B1M = self.caches.cross_bias[:, 0]
        mixed = self._attend(attention.query(normed_NE), self.size.beams, *kept, bias_B1M)
        out: Tensor = attention.out(mixed)
        return out

    def _attend(self, q: Tensor, together: int, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attention [n * together, H * h]; all queries of a key/value head are one matrix.

        Args:
            q: [n * together, H * h].
            together: queries that share keys and values, one after the other.
            keys: [n, G, S, h].
            values: the same.
            bias: float32, broadcastable to [n, queries, S], the queries of a key/value head together.
        """
        n, G, S, h = keys.shape
        shared = q.shape[1] // (G * h)
        q = q.view(n, together, G, shared, h).transpose(1, 2).reshape(n, G, together * shared, h)
        scores = q @ keys.transpose(-1, -2)
        weights = self.between.weigh(scores.view(n, -1, S), bias).view_as(scores)
        mixed = (weights @ values).view(n, G, together, shared, h)
        return mixed.transpose(1, 2).reshape(n * together, -1)


class CudaDecoder:
    """Start and step of a reader's decoder, with a recorded step for each size that is asked for.

    Args:
        reader: its decoder of a family that suits (`Family.kernels` is `t5`); in eval mode, and staying where
            it is; what graphs read are its weights, not copies.
        functions: what stands between products, compiled or not.
    """

    def __init__(self, reader: Reader, functions: Functions = PLAIN) -> None:
        self.reader, self.functions = reader, functions
        self._idle: list[StaticStep] = []
        device = reader.embedding.weight.device
        self._records, self._spare_bytes = device.type == "cuda", _spare_bytes(device)

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> StaticCache:
        """Project the context's keys and values to where the recorded step reads them.

        Raises:
            FidkitError: the self-attention caches don't fit into memory.
        """
        try:
            return self._begun(context, max_tokens, beams)
        except (torch.OutOfMemoryError, FidkitError):
            if not self.make_room():
                raise
        return self._begun(context, max_tokens, beams)

    def step(self, ids_N: Tensor, cache: StaticCache) -> Tensor:
        """Logits [N, V] (float32) of the token after `ids_N`.

        Raises:
            UsageError: the cache has no room for another position.
        """
        cache.next_position()
        logits = cache.step(ids_N)
        cache.length += 1
        return logits

    def make_room(self) -> bool:
        """Let go of all steps that nobody uses; False if there were none."""
        had = bool(self._idle)
        self._idle.clear()
        return had

    def _begun(self, context: Context, max_tokens: int, beams: int) -> StaticCache:
        B, M, _ = context.states_BMD.shape
        size = Size.of(B, beams, M, max_tokens)
        found = [step for step in self._idle if step.size == size]
        self._idle = [step for step in self._idle if step not in found]
        step = found[0] if found else self._made(size, context.states_BMD)
        cache = step.fill(context, max_tokens)
        # While the cache lives, the step is nobody else's.
        weakref.finalize(cache, self._give_back, step).atexit = False
        return cache

    # Made within inference mode, the caches could never be written outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _made(self, size: Size, like: Tensor) -> StaticStep:
        step = StaticStep(self.reader, size, self.functions, like.new_empty(0))
        if self._records:
            try:
                with torch.cuda.device(like.device):
                    step.record()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._records = False
                reason = str(error).strip().partition("\n")[0]
                log.warning("decoder steps aren't recorded as CUDA graphs, answers take longer: %s", reason)
        return step

    def _give_back(self, step: StaticStep) -> None:
        self._idle.insert(0, step)
        while len(self._idle) > _KEPT or sum(one.nbytes for one in self._idle[1:]) > self._spare_bytes:
            self._idle.pop()


def _spare_bytes(device: torch.device) -> float:
    if device.type != "cuda":
        return math.inf
    return _KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory


def _self_bias(decoder: Decoder, capacity: int) -> Tensor:
    """[H, capacity], float32: by distance into the past."""
    assert decoder.relative_bias is not None
    places = torch.arange(capacity, device=decoder.relative_bias.weight.device)
    return decoder.relative_bias(places[-1:], places)[0, :, 0].float().flip(-1).contiguous()


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: libraries keep workspace for every stream that they have seen."""
    return torch.cuda.Stream(device)
