"""What NumPy and PyTorch both do, under one set of names.

Answering on a CPU needs no PyTorch; training, and answering on a GPU, needs its tensors. What is written with
these functions, and with the operators and methods that arrays and tensors share, exists once for both. An
array made from others is of their library, and on their device.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

Array = Any
"""A NumPy array or a PyTorch tensor."""


def _torch(x: Array) -> Any:
    """PyTorch, where `x` is a tensor of it; None for a NumPy array."""
    return None if isinstance(x, np.ndarray) else sys.modules["torch"]


# New ones


def full(shape: Sequence[int], value: float, like: Array, dtype: str = "float32") -> Array:
    """An array full of one value, beside `like`."""
    torch = _torch(like)
    if torch is None:
        return np.full(tuple(shape), value, np.dtype(dtype))
    return torch.full(tuple(shape), value, dtype=getattr(torch, dtype), device=like.device)


def arange(end: int, like: Array) -> Array:
    """0, 1 ... `end` - 1, int64, beside `like`."""
    torch = _torch(like)
    return np.arange(end) if torch is None else torch.arange(end, device=like.device)


def made(values: Any, like: Array, dtype: str | None = None) -> Array:
    """An array of Python's numbers or of a NumPy array, beside `like`."""
    array = np.asarray(values, None if dtype is None else np.dtype(dtype))
    torch = _torch(like)
    return array if torch is None else torch.from_numpy(array).to(like.device)


def copied(x: Array) -> Array:
    """A copy with memory of its own."""
    return x.copy() if _torch(x) is None else x.clone()


# Together and apart


def concatenate(arrays: Sequence[Array], axis: int = 0) -> Array:
    """One behind the other."""
    torch = _torch(arrays[0])
    return np.concatenate(arrays, axis) if torch is None else torch.cat(list(arrays), axis)


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Side by side, along a new axis."""
    torch = _torch(arrays[0])
    return np.stack(arrays, axis) if torch is None else torch.stack(list(arrays), axis)


def split(x: Array, sizes: Sequence[int]) -> list[Array]:
    """Parts of the first axis that are so long."""
    if _torch(x) is None:
        return np.split(x, np.cumsum(sizes)[:-1])
    return list(x.split(list(sizes)))


def padded(rows: Sequence[Array], fill: float) -> Array:
    """[R, longest, ...] of R rows, filled up on the right."""
    if _torch(rows[0]) is not None:
        from torch.nn.utils.rnn import pad_sequence

        return pad_sequence(list(rows), batch_first=True, padding_value=fill)
    out = np.full((len(rows), max(map(len, rows)), *rows[0].shape[1:]), fill, rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def repeated(x: Array, times: Any) -> Array:
    """Each element of the first axis so many times in a row: one number for all, or a number each."""
    return np.repeat(x, times, 0) if _torch(x) is None else x.repeat_interleave(times, 0)


# Element by element


def masked(x: Array, mask: Array, value: float) -> Array:
    """`x` with `value` where `mask` is True."""
    if _torch(x) is not None:
        return x.masked_fill(mask, value)
    out = x.copy()
    np.copyto(out, x.dtype.type(value), where=mask)
    return out


def where(condition: Array, x: Array, y: Array) -> Array:
    """`x` where `condition` is True, else `y`."""
    torch = _torch(condition)
    return np.where(condition, x, y) if torch is None else torch.where(condition, x, y)


def typed(x: Array, dtype: str) -> Array:
    """`x` in another type; not copied where it is of that type."""
    torch = _torch(x)
    return x.astype(dtype, copy=False) if torch is None else x.to(getattr(torch, dtype))


def expm1(x: Array) -> Array:
    """The exponential of each, less 1."""
    return np.expm1(x) if _torch(x) is None else x.expm1()


def log(x: Array) -> Array:
    """The natural logarithm of each."""
    return np.log(x) if _torch(x) is None else x.log()


def below(x: Array) -> Array:
    """The next smaller number to each positive one."""
    torch = _torch(x)
    return np.nextafter(x, np.zeros_like(x)) if torch is None else torch.nextafter(x, torch.zeros_like(x))


# Over the last axis


def log_softmax(x: Array) -> Array:
    """Logits to log-probabilities."""
    if _torch(x) is not None:
        return x.log_softmax(-1)
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(x: Array) -> Array:
    """Logits to probabilities."""
    if _torch(x) is not None:
        return x.softmax(-1)
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def largest(x: Array, k: int) -> tuple[Array, Array]:
    """The k largest of each row, the largest first, and their places."""
    if _torch(x) is not None:
        found = x.topk(k, -1)
        return found.values, found.indices
    # Sorting a vocabulary takes longer than a step of a small decoder.
    few = np.broadcast_to(np.arange(x.shape[-1]), x.shape)
    if k < x.shape[-1]:
        few = np.sort(np.argpartition(-x, k - 1, -1)[..., :k], -1)
    order = np.argsort(-np.take_along_axis(x, few, -1), -1, kind="stable")
    places = np.take_along_axis(few, order, -1)
    return np.take_along_axis(x, places, -1), places


def descending(x: Array) -> Array:
    """Places from the largest of each row to the smallest; of equal ones, the first comes first."""
    if _torch(x) is not None:
        return x.argsort(dim=-1, descending=True, stable=True)
    return np.argsort(-x, -1, kind="stable")


# By place


def gather(x: Array, places: Array, axis: int) -> Array:
    """Elements along an axis by their places; axes of `places` that are 1 stand for all."""
    if _torch(x) is None:
        return np.take_along_axis(x, places, axis)
    shape = list(x.shape)
    shape[axis] = places.shape[axis]
    return x.gather(axis, places.expand(shape))


def taken(x: Array, places: Array) -> Array:
    """The elements of the first axis at these places."""
    return np.take(x, places, 0) if _torch(x) is None else x.index_select(0, places)


def firsts(numbers: Array) -> Array:
    """For each of some numbers that never decrease, the place of the first that is equal."""
    torch = _torch(numbers)
    return np.searchsorted(numbers, numbers) if torch is None else torch.searchsorted(numbers, numbers)


def counts(numbers: Array, least: int) -> Array:
    """How often each of 0, 1 ... occurs; `least` counts at least."""
    return np.bincount(numbers, minlength=least) if _torch(numbers) is None else numbers.bincount(None, least)


def grouped(numbers: Array) -> Array:
    """Places that sort numbers; of equal ones, the first comes first."""
    return np.argsort(numbers, kind="stable") if _torch(numbers) is None else numbers.argsort(stable=True)


def placed(into: Array, places: Array, values: Any) -> Array:
    """`into` with `values` (one for all, or one each) at each row's own places of the last axis, in place."""
    if _torch(into) is None:
        np.put_along_axis(into, places, values, -1)
        return into
    return into.scatter_(-1, places, values)


def added(into: Array, places: Array, values: Array) -> Array:
    """`into` plus `values` at each row's own places, in place; several may go to one."""
    if _torch(into) is not None:
        return into.scatter_add_(1, places, values)
    np.add.at(into, (np.arange(len(into))[:, None], places), values)
    return into


def raised(into: Array, places: Array, values: Array) -> Array:
    """`into`, or `values` at each row's own places where these are larger, in place."""
    if _torch(into) is not None:
        return into.scatter_reduce_(1, places, values, "amax")
    np.maximum.at(into, (np.arange(len(into))[:, None], places), values)
    return into


# Where they are, and what is recorded


def without_gradients(like: Array) -> AbstractContextManager[object]:
    """Within it nothing is recorded for training, which NumPy never does."""
    torch = _torch(like)
    return nullcontext() if torch is None else torch.inference_mode()


def device_of(x: Array) -> Any:
    """Of a tensor; None of a NumPy array."""
    return None if _torch(x) is None else x.device


def answers_at_once(x: Array) -> bool:
    """Whether looking at a value is free, as on a CPU; a GPU would have to be waited for."""
    return _torch(x) is None or x.device.type == "cpu"
