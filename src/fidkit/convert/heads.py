"""Fewer key/value heads for a decoder: neighbouring heads become one, which their query heads share.

Head n of an attention layer looks at x_i Q_n^T K_n y_j^T and writes O_n V_n y_j^T, so only the products of
its matrices matter. `svd` takes the one key matrix, and the one value matrix, with which the products of all
heads of a group change least (the leading singular vectors of all products on top of each other), and gives
each query head the Q and O that go with it. `mean` averages key and value matrices (GQA, arXiv 2305.13245)
and leaves Q and O alone. Heads with equal keys and values are merged without loss by both; the axes of heads
that differ have nothing in common, and only `svd` finds any that they can share.

Letters: H heads, G key/value heads, n = H / G heads that become one, h head width, E decoder width, D width
of what keys and values are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.errors import ConfigError

Way = Literal["svd", "mean"]
USUAL: Way = "svd"
Weights = dict[str, Tensor]
_LEAST = 1e-6


def merge_heads(
    config: ReaderConfig, weights: Mapping[str, Tensor], heads: int, way: Way
) -> tuple[ReaderConfig, Weights, Notes]:
    """The reader with `heads` key/value heads in its decoder, for self- and cross-attention.

    Raises:
        ConfigError: they don't divide those that there are.
    """
    new, merged, names = _merged_config(config, heads), dict(weights), list[str]()
    for layer, kind in _changing(config, weights, heads):
        some = _merge_by_svd if way == "svd" else _merge_by_mean
        merged |= some(config, weights, layer, kind, heads)
        names += [f"{layer}.{kind}_attention.{matrix}.weight" for matrix in ("key", "value")]
    return new, merged, Notes(merged=tuple(names))


def merge_moments(
    config: ReaderConfig, moments: Mapping[str, Tensor], heads: int, way: Way
) -> tuple[ReaderConfig, Weights]:
    """Second moments of a reader for what `merge_heads` makes of it.

    Those of merged heads are means. With `svd` a head has other axes than before, each a mixture of all old
    ones, so all of them have the mean of the old ones.
    """
    new, merged = _merged_config(config, heads), dict(moments)
    for layer, kind in _changing(config, moments, heads):
        merged |= _merge_by_mean(config, moments, layer, kind, heads)
        for matrix in ("query", "key", "value", "out") if way == "svd" else ():
            name = f"{layer}.{kind}_attention.{matrix}.weight"
            along = 1 if matrix == "out" else 0
            of_heads = merged[name].unflatten(along, (-1, config.decoder.head_width))
            merged[name] = (
                of_heads.mean(along + 1, keepdim=True).expand_as(of_heads).flatten(along, along + 1)
            )
    return new, merged


def _merged_config(config: ReaderConfig, heads: int) -> ReaderConfig:
    new: ReaderConfig = config.replace(self_kv_heads=heads, cross_kv_heads=heads)
    if config.decoder.blocks.biased:
        raise ConfigError(
            f"the decoder is of family {config.decoder.family}, whose keys and values have biases; heads are "
            "merged in those without"
        )
    for kind, before in zip(("self", "cross"), config.kv_heads, strict=True):
        if before % heads:
            raise ConfigError(
                f"{heads} key/value heads must divide the {before} that {kind}-attention has now; "
                f"choose one of {[n for n in range(1, before + 1) if before % n == 0]}"
            )
    return new


def _changing(config: ReaderConfig, tensors: Mapping[str, Tensor], heads: int) -> Iterator[tuple[str, str]]:
    """Layers, by the beginning of their names, and kinds of attention whose heads become fewer."""
    for number in range(config.decoder.layers):
        for kind, before in zip(("self", "cross"), config.kv_heads, strict=True):
            layer = f"decoder.layers.{number}"
            if before != heads and f"{layer}.{kind}_attention.key.weight" in tensors:
                yield layer, kind


def _merge_by_mean(
    config: ReaderConfig, weights: Mapping[str, Tensor], layer: str, kind: str, heads: int
) -> Weights:
    names = [f"{layer}.{kind}_attention.{matrix}.weight" for matrix in ("key", "value")]
    grouped = {name: weights[name].unflatten(0, (heads, -1, config.decoder.head_width)) for name in names}
    return {name: group.mean(1).flatten(0, 1) for name, group in grouped.items()}


def _merge_by_svd(
    config: ReaderConfig, weights: Mapping[str, Tensor], layer: str, kind: str, heads: int
) -> Weights:
    attention = f"{layer}.{kind}_attention"
    names = [f"{attention}.{matrix}.weight" for matrix in ("query", "key", "value", "out")]
    dtype, h = weights[names[0]].dtype, config.decoder.head_width
    query, key, value, out = (weights[name].double() for name in names)
    asking = _normed(weights, f"{attention}_norm")
    reading = _context(config, weights) if kind == "cross" else asking
    key, query = _share(key, query * asking, reading, heads, h)
    value, out = _share(value, out.T, reading, heads, h)
    merged = zip(names, (query / asking, key, value, out.T), strict=True)
    return {name: weight.to(dtype).contiguous() for name, weight in merged}


def _normed(weights: Mapping[str, Tensor], norm: str) -> Tensor:
    """[width]: how large what comes out of a norm is in each place; never 0.

    It was divided by its root mean square, or by its deviation, so that the norm's weights say it.
    """
    weight, bias = weights[f"{norm}.weight"].double(), weights.get(f"{norm}.bias")
    return _never_zero(weight if bias is None else torch.hypot(weight, bias.double()))


def _context(config: ReaderConfig, weights: Mapping[str, Tensor]) -> Tensor:
    """[D]: how large what cross-attention reads is in each place: states, and two tokens if any."""
    last, norm = f"live_encoder.layers.{config.live - 1}.feed_forward_norm", "live_encoder.norm"
    if f"{norm}.weight" in weights:
        states = _normed(weights, norm)
    elif f"{last}.bias" in weights and config.live:  # a norm behind each layer
        states = _normed(weights, last)
    else:
        states = torch.ones(config.encoder.width, dtype=torch.double)
    if not config.token_skip:
        return states
    words = torch.ones(config.decoder.width, dtype=torch.double)
    if not config.standardised_embedding:
        table = "embedding.weight" if config.shared_embedding else "decoder.embedding.weight"
        words = _never_zero(weights[table].double().square().mean(0).sqrt())
    return torch.cat([states, words, words])


def _share(read: Tensor, other: Tensor, scale_D: Tensor, heads: int, h: int) -> tuple[Tensor, Tensor]:
    """One matrix for the n of each group, and the others that go with it.

    Args:
        read: [heads of it x h, D], keys or values.
        other: [H x h, E], the queries or outputs that they are multiplied with.
        scale_D: how large what `read` is applied to is in each place.
        heads: how many are to be left.
        h: head width.

    Returns:
        [heads x h, D] and [H x h, E].
    """
    read_GnhD = (read * scale_D).unflatten(0, (heads, -1, h))
    # Query heads that share a key/value head already are one head of them all.
    other_GnmhE = other.unflatten(0, (*read_GnhD.shape[:2], -1, h))
    shared, turned = [], []
    for read_nhD, other_nmhE in zip(read_GnhD, other_GnmhE, strict=True):
        axes_hD = _leading_axes(read_nhD, other_nmhE, h)
        turn_nhh = read_nhD @ axes_hD.T
        size = _size(read_nhD) / _size(axes_hD)  # as large as before: training depends on it
        shared.append(axes_hD * size / scale_D)
        turned.append(turn_nhh.mT[:, None] @ other_nmhE / size)
    return torch.cat(shared), torch.stack(turned).flatten(0, -2)


def _leading_axes(read_nhD: Tensor, other_nmhE: Tensor, h: int) -> Tensor:
    """[h, D], orthonormal: of all products other^T read on top of each other, what most of them lies in.

    Right singular vectors, by the eigenvectors of the products' square, which is D wide and not n x E high.
    """
    squared_nhh = (other_nmhE @ other_nmhE.mT).sum(1)
    square_DD = (read_nhD.mT @ squared_nhh @ read_nhD).sum(0)
    axes_hD = torch.linalg.eigh(square_DD).eigenvectors.T.flip(0)[:h]
    missing = h - len(axes_hD)  # where heads are wider than what they read
    return torch.nn.functional.pad(axes_hD, (0, 0, 0, missing))


def _never_zero(weight: Tensor) -> Tensor:
    return torch.where(weight.abs() < _LEAST, _LEAST, weight)


def _size(weight: Tensor) -> Tensor:
    return weight.square().mean().sqrt().clamp_min(torch.finfo(weight.dtype).tiny)
