"""The kernels as functions of arrays: NumPy's, or PyTorch's tensors on the CPU."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_void_p
from functools import cache
from typing import Any, Literal

import numpy as np

from fidkit.native.build import BuildError, library
from fidkit.native.threads import threads

log = logging.getLogger(__name__)

LANES = 16
"""Numbers in the widest vector. Sizes that are multiples of it suit the vectors of any CPU."""

_VERSION = 7
TYPES = {"float32": 0, "bfloat16": 1, "int8": 2}

Bits = Literal[8, 16, 32]
"""Of activations in products: as floats (32), or as integers that meet weights of 8 bits."""

_MODES: dict[Bits, int] = {32: 0, 16: 1, 8: 2}

Array = Any
"""A NumPy array, whose bfloat16 is uint16, or a tensor."""


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
        ("head_mean", c_void_p),
        ("head_shift", c_void_p),
        ("looked", c_void_p),
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


class CrossLayer(Structure):
    """A decoder layer that looks at a context, and where its keys and values go; see context.h."""

    _fields_ = [("keys_values", Packed), *((name, c_void_p) for name in ("keys", "values"))]


class CrossContext(Structure):
    """A context, and the layers that look at it; see context.h."""

    _fields_ = [
        ("states", c_void_p),
        *((name, c_int64) for name in ("stride", "count", "groups", "head", "room", "layers")),
        ("layer", POINTER(CrossLayer)),
    ]


_KERNELS = (
    "row_attention", "add_norm", "gated_gelu", "product", "encode", "pack_context", "project_context",
    "decoder_step",
)  # fmt: skip


class Kernels:
    """The compiled kernels.

    Arrays are contiguous unless said otherwise; `T` below is float32 or bfloat16. Any number of threads may
    call; the cores are shared (`native/threads.h`). A kernel that finds no memory for what it needs meanwhile
    raises MemoryError.
    """

    def __init__(self, path: os.PathLike[str]) -> None:
        threads()  # a number that can't be is refused before any work
        try:
            self._library = ctypes.CDLL(os.fspath(path))
            version = self._library.fidkit_version()
        except (OSError, AttributeError) as error:
            raise BuildError(f"{path} can't be loaded ({error}); delete it, and it is built again") from error
        lacks = [name for name in _KERNELS if not hasattr(self._library, f"fidkit_{name}")]
        if version != _VERSION or lacks:
            raise BuildError(f"{path} is of another version of fidkit; delete it, and it is built again")
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
        declare.fidkit_project_context.argtypes = [c_int, c_int, POINTER(CrossContext), c_int]
        declare.fidkit_decoder_step.argtypes = [c_int, POINTER(Step), c_int]
        for kernel in _KERNELS:
            getattr(declare, f"fidkit_{kernel}").errcheck = _refuse_no_room

    @property
    def has_bfloat16(self) -> bool:
        """Whether this CPU multiplies bfloat16 in hardware."""
        return bool(self._library.fidkit_has_bfloat16())

    @property
    def lanes(self) -> int:
        """Numbers in a vector here, and keys in a block of the packed caches: 4, 8 or 16."""
        return int(self._library.fidkit_lanes())

    @property
    def most_of_8_bits(self) -> int:
        """What the largest activation of a vector becomes where they have 8 bits: 127 or less."""
        return int(self._library.fidkit_most_of_8_bits())

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """New memory that holds anything, in large pages where the system has them."""
        memory = np.empty(shape, dtype)
        self._library.fidkit_ask_for_large_pages(address(memory), memory.nbytes)
        return memory

    def row_attention(
        self,
        q_XHh: Array,
        k_XHh: Array,
        v_XHh: Array,
        starts: Array,
        bias_by_distance: Array,
        out_XHh: Array | None = None,
    ) -> Array:
        """Attention [X, H, h] of each row to itself, of T; h is a multiple of 16.

        Args:
            q_XHh: queries of all rows, T; the heads of a vector stand together, vectors may lie apart, by a
                multiple of four bytes.
            k_XHh: keys, laid out as the queries.
            v_XHh: values, too.
            starts: [R + 1] int64, where rows begin.
            bias_by_distance: [H, 2 S - 1] float32, S the longest row or more; `[h, S - 1 + key - query]`.
            out_XHh: where to write, if not to new memory; may be `q_XHh`.
        """
        _, H, h = q_XHh.shape
        out = _new(q_XHh, q_XHh.shape) if out_XHh is None else out_XHh
        at = _apart(q_XHh, k_XHh, v_XHh)
        # Queries are read four bytes at a time.
        assert len(q_XHh) < 2 or at[-1] * q_XHh.itemsize % 4 == 0
        self._library.fidkit_row_attention(
            type_of(q_XHh), *at, *_apart(out), *_at(starts),
            len(starts) - 1, H, h, *_at(bias_by_distance), (bias_by_distance.shape[1] + 1) // 2, threads(),
        )  # fmt: skip
        return out

    def add_norm(
        self, states: Array, change: Array | None, weight: Array, epsilon: float, out: Array
    ) -> Array:
        """Add `change` (T) to `states` [X, D] (float32); `out` (T) becomes their RMS norm times `weight`."""
        added = None if change is None else _at(change)[0]
        self._library.fidkit_add_norm(
            type_of(out), *_at(states), added, *_at(weight), epsilon, *_at(out), *states.shape, threads()
        )
        return out

    def gated_gelu(self, gate: Array, inner: Array) -> Array:
        """gelu(gate) * inner (T, tanh form), written over `inner`."""
        self._library.fidkit_gated_gelu(type_of(gate), *_at(gate, inner, inner), _size(gate), threads())
        return inner

    def product(self, x_XD: Array, weight: Packed, activations: Bits) -> Array:
        """[X, D] -> [X, E], float32: `x` times a weight that was laid out, plus its bias.

        Args:
            x_XD: vectors may lie apart.
            weight: [E, D], laid out for `activations`.
            activations: each 256 columns of a vector have a unit of their own where these are integers.
        """
        out = _new(x_XD, (len(x_XD), weight.rows))
        at, apart = _apart(x_XD[:, None])
        self._library.fidkit_product(
            _MODES[activations], at, apart, len(x_XD), ctypes.byref(weight), address(out), threads()
        )
        return out

    def encode(self, encoder: Encoder, activations: Bits) -> None:
        """Run layers over rows, in place; weights are laid out for `activations`.

        Heads are whole vectors of any CPU: a multiple of `LANES` wide.
        """
        assert encoder.head % LANES == 0
        self._library.fidkit_encode(_MODES[activations], ctypes.byref(encoder), threads())

    def pack_context(
        self, keys: Array, values: Array, to_keys: Array, to_values: Array, first: int = 0
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
        skipped = first * h * keys.itemsize
        self._library.fidkit_pack_context(
            type_of(keys), *_apart(keys, values), M, G, h, to_keys.shape[1],
            *(at + skipped for at in _at(to_keys, to_values)), threads(),
        )  # fmt: skip

    def project_context(
        self,
        states_MD: Array,
        weights: Sequence[Packed],
        activations: Bits,
        to: Sequence[tuple[Array, Array]],
    ) -> None:
        """Keys and values of a context in all layers that look, laid out as `decoder_step` reads them.

        Args:
            states_MD: float32, vectors may lie apart.
            weights: of each layer, [2 G h, D], keys above values, laid out for `activations`.
            activations: 32 for caches of float32 alone.
            to: of each layer, keys and values [G, room, h] (T), room a multiple of `LANES` and at least M.
        """
        M = len(states_MD)
        G, room, h = to[0][0].shape
        assert room >= M
        layers = (CrossLayer * len(to))(
            *(CrossLayer(weight, *_at(*pair)) for weight, pair in zip(weights, to, strict=True))
        )
        at, apart = _apart(states_MD[:, None])
        context = CrossContext(at, apart, M, G, h, room, len(to), layers)
        self._library.fidkit_project_context(
            _MODES[activations], type_of(to[0][0]), ctypes.byref(context), threads()
        )

    def decoder_step(self, step: Step, dtype: str) -> None:
        """Run one position; caches are of `dtype`, heads a multiple of `LANES` wide."""
        assert step.head % LANES == 0
        self._library.fidkit_decoder_step(TYPES[dtype], ctypes.byref(step), threads())


@cache
def kernels() -> Kernels | None:
    """The kernels of this machine; None, with one warning, if they can't be built."""
    if os.environ.get("FIDKIT_NATIVE") == "0":
        return None
    try:
        return Kernels(library())
    except BuildError as error:
        log.warning("native kernels are off, PyTorch has to do all the work: %s", error)
        return None


def _refuse_no_room(has_room: int, *_: object) -> None:
    if not has_room:
        raise MemoryError(
            "no memory was left for the native kernels to work in; read fewer passages at once, or give more"
        )


def address(array: Array | None) -> int | None:
    """Where an array's numbers begin; None of None."""
    if array is None:
        return None
    at: int = array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()
    return at


def type_of(array: Array) -> int:
    """The number that kernels know the type by."""
    name = str(array.dtype).removeprefix("torch.")
    return TYPES["bfloat16" if name == "uint16" else name]


def _new(like: Array, shape: tuple[int, ...]) -> Array:
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_empty(shape)


def _size(array: Array) -> int:
    return int(np.prod(array.shape))


def _strides(array: Array) -> tuple[int, ...]:
    """In elements."""
    if isinstance(array, np.ndarray):
        return tuple(stride // array.itemsize for stride in array.strides)
    return tuple(array.stride())


def _is_contiguous(array: Array) -> bool:
    if isinstance(array, np.ndarray):
        return array.flags.c_contiguous
    return bool(array.is_contiguous()) and array.device.type == "cpu"


def _at(*arrays: Array) -> list[int]:
    assert all(map(_is_contiguous, arrays))
    return [int(address(array) or 0) for array in arrays]


def _apart(*vectors: Array) -> list[int]:
    """Where vectors [X, heads, h] are, and how many values lie between one and the next."""
    heads, h = vectors[0].shape[1:]
    apart = max(_strides(vectors[0])[0], heads * h)  # the stride of a single vector may be anything
    for array in vectors:
        assert not _size(array) or _is_contiguous(array[:1])
        assert len(array) < 2 or _strides(array)[0] == apart
    return [*(int(address(array) or 0) for array in vectors), apart]
