"""Products of many tensors with weights that are laid out for the CPU once."""

from __future__ import annotations

import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.engine.cpu.tensors import matrix_of
from fidkit.engine.cpu.weights import LaidOut, Rounding, activation_bits, rounded
from fidkit.native import Kernels

# How many vectors oneDNN's layout is chosen for; it was measured to be as good for 256 to 4096 of them.
_VECTORS = 1024


class Products:
    """`x @ linear.weight.T + linear.bias` for many x and some linears, as `F.linear` has it.

    Float32 is multiplied by our kernels, bfloat16 by oneDNN where it has instructions for it. Laying a matrix
    out takes a copy of it and happens when it is first used: a later change of its weights is not seen.

    Args:
        kernels: the compiled kernels.
        own: nobody else uses the linears. A bfloat16 matrix is then kept in its layout alone, and its linear,
            whose weight is on `meta`, can't be used by itself until it is given back.
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
            made = self.laid_out(linears)(self.kernels, x_XD)
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

    def laid_out(self, linears: tuple[nn.Linear, ...]) -> LaidOut:
        """The weights of float32 linears of as many inputs each, one below the other, for our kernels."""
        weight = self._laid_out.get(linears)
        if weight is None:
            matrix = rounded(matrix_of(_joined(linears), self.rounding), self.rounding)
            bias = _biases(linears)
            as_read = None if bias is None else bias.float().numpy()
            weight = LaidOut.of(
                matrix, as_read, self.kernels.lanes, activation_bits(self.rounding, self.kernels)
            )
            self._laid_out[linears] = weight
        return weight

    def _take(self, linears: tuple[nn.Linear, ...]) -> None:
        for linear in linears if self._own else ():
            linear.weight = nn.Parameter(linear.weight.to("meta"), requires_grad=False)

    def give_back(self, module: nn.Module) -> None:
        """Let the linears of a module be used by themselves again, as they were."""
        if not self._own:
            return
        mine = set(module.modules())
        for linears, (reordered, _) in self._reordered.items():
            if mine.issuperset(linears):
                self._restore(linears, reordered.to_dense())

    def _restore(self, linears: tuple[nn.Linear, ...], joined: Tensor) -> None:
        if not linears[0].weight.is_meta:
            return
        parts = joined.split([len(linear.weight) for linear in linears])
        for linear, weight in zip(linears, parts, strict=True):
            linear.weight = nn.Parameter(weight.clone(), requires_grad=False)


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
