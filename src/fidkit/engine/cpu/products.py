"""Products of many vectors with weights that are laid out for the CPU once."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.checkpoint import to_int8
from fidkit.native import Kernels, Packed

# How many vectors oneDNN's layout is chosen for; it was measured to be as good for 256 to 4096 of them.
_VECTORS = 1024
# A weight that was stored in 8 bits is this near to what it becomes there again: scales round.
_LOSSLESS = 1e-6

Rounding = Literal["never", "lossless", "always"]
"""Which matrices are kept in 8 bits, with a scale a row: those that lose nothing were stored so before."""


class Products:
    """`x @ linear.weight.T + linear.bias` for many x and some linears, as `F.linear` has it.

    Float32 is multiplied by our kernels, bfloat16 by oneDNN where it has instructions for it. Laying a matrix
    out takes a copy of it and happens when it is first used: a later change of its weights is not seen.

    Args:
        kernels: the compiled kernels.
        own: nobody else uses the linears. A matrix is then kept in its layout alone, and its linear, whose
            weight is on `meta`, can't be used by itself until it is given back.
        rounding: of float32 matrices. One in 8 bits takes a quarter of the bytes and half of the time.
    """

    def __init__(self, kernels: Kernels, *, own: bool = False, rounding: Rounding = "never") -> None:
        self.kernels, self.rounding = kernels, rounding
        self._own = own
        self._laid_out: dict[tuple[nn.Linear, ...], LaidOut] = {}
        self._reordered: dict[tuple[nn.Linear, ...], tuple[Tensor, Tensor | None]] = {}

    def __call__(self, x_XD: Tensor, *linears: nn.Linear, gelu: bool = False) -> Tensor:
        """[X, D] -> [X, E]; of several linears side by side, in one product. Then GELU, in its exact form."""
        if x_XD.dtype == torch.float32:
            weight = self.laid_out(linears)
            made = self.kernels.product(x_XD, weight.packed(), rounded=weight.rounded)
            return F.gelu(made) if gelu else made
        if not packs(x_XD.device, x_XD.dtype):
            made = torch.cat([linear(x_XD) for linear in linears], 1) if linears[1:] else linears[0](x_XD)
            return F.gelu(made) if gelu else made
        reordered = self._reordered.get(linears)
        if reordered is None:
            weight = torch.ops.mkldnn._reorder_linear_weight(_joined(linears), _VECTORS)
            reordered = self._reordered[linears] = weight, _biases(linears)
            self._take(linears)
        then, form = ("gelu", "none") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x_XD, *reordered, then, [], form)

    def laid_out(self, linears: tuple[nn.Linear, ...], *, exactly: bool = False) -> LaidOut:
        """The weights of linears, one below the other, for our kernels.

        Args:
            linears: float32, and of as many inputs each.
            exactly: leave them in float32 whatever the rounding is.
        """
        weight = self._laid_out.get(linears)
        if weight is None or (exactly and weight.rounded):
            if weight is not None:
                self._restore(linears, weight.floats())
            joined = _joined(linears)
            rounded = None if exactly else self.rounded(joined)
            weight = LaidOut.of(joined, rounded, _biases(linears), self.kernels.lanes)
            self._laid_out[linears] = weight
            self._take(linears)
        return weight

    def rounded(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """A matrix in 8 bits with the scales of its rows; None if it is kept as it is."""
        if self.rounding == "never" or (self.rounding == "lossless" and weight.dtype != torch.float32):
            return None
        rounded, scale = to_int8(weight)
        if self.rounding == "always":
            return rounded, scale
        lossless = torch.allclose(rounded * scale[:, None], weight, rtol=_LOSSLESS, atol=0)
        return (rounded, scale) if lossless else None

    def _take(self, linears: tuple[nn.Linear, ...]) -> None:
        for linear in linears if self._own else ():
            linear.weight = nn.Parameter(linear.weight.to("meta"), requires_grad=False)

    def give_back(self, module: nn.Module) -> None:
        """Let the linears of a module be used by themselves again, as they were."""
        if not self._own:
            return
        mine = set(module.modules())
        for linears, laid_out in self._laid_out.items():
            if mine.issuperset(linears):
                self._restore(linears, laid_out.floats())
        for linears, (reordered, _) in self._reordered.items():
            if mine.issuperset(linears):
                self._restore(linears, reordered.to_dense())

    def _restore(self, linears: tuple[nn.Linear, ...], joined: Tensor) -> None:
        if not linears[0].weight.is_meta:
            return
        parts = joined.split([len(linear.weight) for linear in linears])
        for linear, weight in zip(linears, parts, strict=True):
            linear.weight = nn.Parameter(weight.clone(), requires_grad=False)


@dataclass(frozen=True)
class LaidOut:
    """A weight [E, D] as `products.h` reads it.

    Attributes:
        weight: [vectors of rows, slots of columns, lanes, elements of a slot], float32 or int8.
        scale: [E], filled up, of int8 only.
        bias: [E], filled up, or None.
        shape: E and D.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, weight: Tensor, rounded: tuple[Tensor, Tensor] | None, bias: Tensor | None, lanes: int
    ) -> LaidOut:
        """Lay `weight` out, or what it is rounded to."""
        scale, depth, (E, D) = None, 1, weight.shape
        if rounded is not None:
            (weight, scale), depth = rounded, 2
        filled = F.pad(weight, (0, -D % depth, 0, -E % lanes))
        laid_out = filled.view(-1, lanes, filled.shape[1] // depth, depth).transpose(1, 2).contiguous()
        scale, bias = (None if x is None else F.pad(x, (0, -E % lanes)) for x in (scale, bias))
        return cls(laid_out, scale, bias, (E, D))

    @property
    def rounded(self) -> bool:
        return self.scale is not None

    def packed(self) -> Packed:
        """What kernels read; it holds while this does."""
        return Packed(*(address(x) for x in (self.weight, self.scale, self.bias)), *self.shape)

    def floats(self) -> Tensor:
        """[E, D] as it was before, or as it was rounded."""
        E, D = self.shape
        weight = self.weight.transpose(1, 2).flatten(2).flatten(0, 1)[:E, :D]
        return weight.clone() if self.scale is None else weight * self.scale[:E, None]


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin; None of None."""
    return None if tensor is None else tensor.data_ptr()


def _joined(linears: tuple[nn.Linear, ...]) -> Tensor:
    weights = [linear.weight.detach() for linear in linears]
    assert not any(weight.is_meta for weight in weights)
    return torch.cat(weights)


def _biases(linears: tuple[nn.Linear, ...]) -> Tensor | None:
    """Biases of linears that all have one, or None where none has."""
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    assert len(biases) in (0, len(linears))
    return torch.cat(biases) if biases else None


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products with native kernels keep their matrices in a layout of their own, too."""
    return device.type == "cpu" and (dtype == torch.float32 or (dtype == torch.bfloat16 and _reorders()))


def _reorders() -> bool:
    """Whether oneDNN multiplies bfloat16 here, and gains by a layout of its own."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return on_x86 and torch.backends.mkldnn.is_available() and has_bfloat16_products()


@cache
def has_bfloat16_products() -> bool:
    """Whether oneDNN multiplies bfloat16 on this CPU; elsewhere plain loops stand in for it."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
