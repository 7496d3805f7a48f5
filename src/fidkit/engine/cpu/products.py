"""Products with weights that are laid out once for the CPU's matrix library."""

from __future__ import annotations

import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# How many vectors the layout is chosen for; it was measured to be as good for 256 to 4096 of them.
_VECTORS = 1024


class Products:
    """`x @ linear.weight.T + linear.bias` for many x and some linears, as `F.linear` has it.

    The library (oneDNN) lays a matrix out anew at every product; keeping it in that layout costs a copy of
    the matrix and makes bfloat16 about 1.15 and float32 2 times as fast. The layout is made when a matrix is
    first used: a later change of its weights is not seen.

    Args:
        own: nobody else uses the linears. A matrix is then kept in the library's layout alone, and its
            linear, whose weight is on `meta`, can't be used by itself until it is given back.
    """

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._packed: dict[tuple[nn.Linear, ...], tuple[Tensor, Tensor | None]] = {}

    def __call__(self, x_XD: Tensor, *linears: nn.Linear, gelu: bool = False) -> Tensor:
        """[X, D] -> [X, E]; of several linears side by side, in one product. Then GELU, in its exact form."""
        if not packs(x_XD.device, x_XD.dtype):
            made = torch.cat([linear(x_XD) for linear in linears], 1) if linears[1:] else linears[0](x_XD)
            return F.gelu(made) if gelu else made
        packed = self._packed.get(linears)
        if packed is None:
            packed = self._packed[linears] = self._pack(linears), _side_by_side(linears)
        then, form = ("gelu", "none") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x_XD, *packed, then, [], form)

    def _pack(self, linears: tuple[nn.Linear, ...]) -> Tensor:
        weights = [linear.weight.detach() for linear in linears]
        assert not any(weight.is_meta for weight in weights)
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), _VECTORS)
        for linear in linears if self._own else ():
            linear.weight = nn.Parameter(linear.weight.to("meta"), requires_grad=False)
        return packed

    def give_back(self, module: nn.Module) -> None:
        """Let the linears of a module be used by themselves again, as they were."""
        mine = set(module.modules())
        for linears, (packed, _) in self._packed.items() if self._own else ():
            if mine.issuperset(linears) and linears[0].weight.is_meta:
                parts = packed.to_dense().split([len(linear.weight) for linear in linears])
                for linear, weight in zip(linears, parts, strict=True):
                    linear.weight = nn.Parameter(weight, requires_grad=False)


def _side_by_side(linears: tuple[nn.Linear, ...]) -> Tensor | None:
    """Biases of linears that all have one, or None where none has."""
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    assert len(biases) in (0, len(linears))
    return torch.cat(biases) if biases else None


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of this kind keep their matrices in the library's layout, too."""
    return (
        device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16_products()))
    )


@cache
def has_bfloat16_products() -> bool:
    """Whether the library multiplies bfloat16 on this CPU; elsewhere plain loops stand in for it."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
