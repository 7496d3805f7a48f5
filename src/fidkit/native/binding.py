"""The kernels as functions of tensors."""

from __future__ import annotations

import ctypes
import logging
import os
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from fidkit.native.build import BuildError, library

log = logging.getLogger(__name__)

LANES = 16
"""Numbers in the widest vector. Sizes that are multiples of it suit the vectors of any CPU."""

_VERSION = 3
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class Linear(Structure):
    """A weight [rows, columns] of a decoder; `scale` [rows] of int8 weights only."""

    _fields_ = [
        ("weight", c_void_p),
        ("scale", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("type", c_int64),
    ]


class Layer(Structure):
    """A decoder layer; see decoder.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("self_norm", "cross_norm", "feed_forward_norm")),
        *((name, Linear) for name in ("query", "key", "value", "out", "cross_query", "cross_out")),
        *((name, Linear) for name in ("gate", "inner", "feed_forward_out")),
        ("cross_keys", c_void_p),
        ("cross_values", c_void_p),
    ]


class Step(Structure):
    """One position of a decoder; see decoder.h."""

    _fields_ = [
        *((name, c_int64) for name in ("rows", "beams", "width", "heads", "head", "self_groups")),
        *((name, c_int64) for name in ("cross_groups", "feed_forward", "position", "capacity", "context")),
        ("lengths", c_void_p),
        ("layers", c_int64),
        ("layer", POINTER(Layer)),
        ("self_keys", c_void_p),
        ("self_values", c_void_p),
        ("self_bias", c_void_p),
        ("final_norm", c_void_p),
        ("head_linear", Linear),
        ("head_scale", c_float),
        ("epsilon", c_float),
        ("states", c_void_p),
        ("logits", c_void_p),
    ]


class Packed(Structure):
    """A weight that is laid out for products with many vectors; see products.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "bias")),
        *((name, c_int64) for name in ("rows", "columns")),
    ]


class EncoderLayer(Structure):
    """An encoder layer; see encoder.h."""

    _fields_ = [
        *((name, Packed) for name in ("query_key_value", "out", "inner", "feed_forward_out", "gate")),
        *((name, c_void_p) for name in ("attention_norm", "attention_shift")),
        *((name, c_void_p) for name in ("feed_forward_norm", "feed_forward_shift")),
    ]


class Encoder(Structure):
    """Encoder layers and the rows that they run over; see encoder.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("states", "starts")),
        *((name, c_int64) for name in ("rows", "width", "heads", "head", "feed_forward", "reach", "layers")),
        ("layer", POINTER(EncoderLayer)),
        *((name, c_void_p) for name in ("bias", "final_norm", "final_shift")),
        *((name, c_float) for name in ("epsilon", "scale")),
        ("norms_behind", c_int64),
    ]


class Kernels:
    """The compiled kernels.

    Tensors are on the CPU and contiguous unless said otherwise; `T` below is float32 or bfloat16.
    """

    def __init__(self, path: os.PathLike[str]) -> None:
        self._library = ctypes.CDLL(os.fspath(path))
        if self._library.fidkit_version() != _VERSION:
            raise BuildError(f"{path} is of another version of fidkit; delete it")
        declare = self._library
        pointers, sizes = c_void_p, c_int64
        declare.fidkit_ask_for_large_pages.argtypes = [pointers, sizes]
        declare.fidkit_row_attention.argtypes = [
            c_int, *[pointers] * 3, sizes, pointers, sizes, pointers, *[sizes] * 3, pointers, sizes, c_int,
        ]  # fmt: skip
        declare.fidkit_add_norm.argtypes = [
            c_int, *[pointers] * 3, c_float, pointers, sizes, sizes, c_int,
        ]  # fmt: skip
        declare.fidkit_gated_gelu.argtypes = [c_int, *[pointers] * 3, sizes, c_int]
        declare.fidkit_product.argtypes = [
            c_int, pointers, *[sizes] * 2, POINTER(Packed), pointers, c_int,
        ]  # fmt: skip
        declare.fidkit_encode.argtypes = [c_int, POINTER(Encoder), c_int]
        declare.fidkit_pack_context.argtypes = [
            c_int, *[pointers] * 2, *[sizes] * 5, *[pointers] * 2, c_int,
        ]  # fmt: skip
        declare.fidkit_decoder_step.argtypes = [c_int, POINTER(Step), c_int]

    @property
    def has_bfloat16(self) -> bool:
        """Whether this CPU multiplies bfloat16 in hardware."""
        return bool(self._library.fidkit_has_bfloat16())

    @property
    def lanes(self) -> int:
        """Numbers in a vector here, and keys in a block of the packed caches: 4, 8 or 16."""
        return int(self._library.fidkit_lanes())

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """New memory that holds anything, in large pages where the system has them."""
        memory = torch.empty(shape, dtype=dtype)
        self._library.fidkit_ask_for_large_pages(memory.data_ptr(), memory.nbytes)
        return memory

    def row_attention(
        self,
        q_XHh: Tensor,
        k_XHh: Tensor,
        v_XHh: Tensor,
        starts: Tensor,
        bias_by_distance: Tensor,
        out_XHh: Tensor | None = None,
    ) -> Tensor:
        """Attention [X, H, h] of each row to itself, of T; h is a multiple of 16.

        Args:
            q_XHh: queries of all rows, T; the heads of a vector stand together, vectors may lie apart.
            k_XHh: keys, laid out as the queries.
            v_XHh: values, too.
            starts: [R + 1] int64, where rows begin.
            bias_by_distance: [H, 2 S - 1] float32, S the longest row or more; `[h, S - 1 + key - query]`.
            out_XHh: where to write, if not to new memory; may be `q_XHh`.
        """
        _, H, h = q_XHh.shape
        out = q_XHh.new_empty(q_XHh.shape) if out_XHh is None else out_XHh
        self._library.fidkit_row_attention(
            TYPES[q_XHh.dtype], *_apart(q_XHh, k_XHh, v_XHh), *_apart(out), *_at(starts),
            len(starts) - 1, H, h, *_at(bias_by_distance), (bias_by_distance.shape[1] + 1) // 2, _threads(),
        )  # fmt: skip
        return out

    def add_norm(
        self, states: Tensor, change: Tensor | None, weight: Tensor, epsilon: float, out: Tensor
    ) -> Tensor:
        """Add `change` (T) to `states` [X, D] (float32); `out` (T) becomes their RMS norm times `weight`."""
        added = None if change is None else _at(change)[0]
        self._library.fidkit_add_norm(
            TYPES[out.dtype], *_at(states), added, *_at(weight), epsilon, *_at(out), *states.shape, _threads()
        )
        return out

    def gated_gelu(self, gate: Tensor, inner: Tensor) -> Tensor:
        """gelu(gate) * inner (T, tanh form), written over `inner`."""
        self._library.fidkit_gated_gelu(TYPES[gate.dtype], *_at(gate, inner, inner), gate.numel(), _threads())
        return inner

    def product(self, x_XD: Tensor, weight: Packed, *, rounded: bool) -> Tensor:
        """[X, D] -> [X, E], float32: `x` times a weight that was laid out, plus its bias.

        Args:
            x_XD: vectors may lie apart.
            weight: [E, D], of int8 if `rounded`, else of float32.
            rounded: activations become integers of 13 bits or more then, each vector with a unit of its own.
        """
        out = x_XD.new_empty(len(x_XD), weight.rows)
        at, apart = _apart(x_XD.unsqueeze(1))
        self._library.fidkit_product(
            int(rounded), at, apart, len(x_XD), ctypes.byref(weight), out.data_ptr(), _threads()
        )
        return out

    def encode(self, encoder: Encoder, *, rounded: bool) -> None:
        """Run layers over rows, in place; weights are int8 if `rounded`, else float32."""
        self._library.fidkit_encode(int(rounded), ctypes.byref(encoder), _threads())

    def pack_context(
        self, keys: Tensor, values: Tensor, to_keys: Tensor, to_values: Tensor, first: int = 0
    ) -> None:
        """Lay cross keys and values [M, G, h] (T) of a question out as `decoder_step` reads them.

        Args:
            keys: of all heads; the heads of a vector stand together, vectors may lie apart.
            values: laid out as the keys.
            to_keys: [G, room, h], room a multiple of `LANES` and at least `first` + M.
            to_values: the same.
            first: place of the first key, a multiple of `LANES`.
        """
        M, G, h = keys.shape
        assert first % LANES == 0
        assert first + M <= to_keys.shape[1]
        skipped = first * h * keys.element_size()
        self._library.fidkit_pack_context(
            TYPES[keys.dtype], *_apart(keys, values), M, G, h, to_keys.shape[1],
            *(at + skipped for at in _at(to_keys, to_values)), _threads(),
        )  # fmt: skip

    def decoder_step(self, step: Step, dtype: torch.dtype) -> None:
        """Run one position; caches are of `dtype`."""
        self._library.fidkit_decoder_step(TYPES[dtype], ctypes.byref(step), _threads())


@cache
def kernels() -> Kernels | None:
    """The kernels of this machine; None, with one warning, if they can't be built."""
    if os.environ.get("FIDKIT_NATIVE") == "0":
        return None
    try:
        return Kernels(library())
    except (BuildError, OSError) as error:
        log.warning("native kernels are off, answers take longer: %s", error)
        return None


def _at(*tensors: Tensor) -> list[int]:
    for tensor in tensors:
        assert tensor.is_contiguous()
        assert tensor.device.type == "cpu"
    return [tensor.data_ptr() for tensor in tensors]


def _apart(*vectors: Tensor) -> list[int]:
    """Where vectors [X, heads, h] are, and how many values lie between one and the next."""
    heads, h = vectors[0].shape[1:]
    apart = max(vectors[0].stride(0), heads * h)  # the stride of a single vector may be anything
    for tensor in vectors:
        assert tensor.device.type == "cpu"
        assert not tensor.numel() or tensor[:1].is_contiguous()
        assert len(tensor) < 2 or tensor.stride(0) == apart
    return [*(tensor.data_ptr() for tensor in vectors), apart]


def _threads() -> int:
    return torch.get_num_threads()
