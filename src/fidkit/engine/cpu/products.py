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
    """`x @ linear.weight.T` for many x and some linears, as `torch.nn.functional.linear` has it.

    The library (oneDNN) lays a matrix out anew at every product; keeping it in that layout costs a copy of
    the matrix and makes bfloat16 about 1.15 and float32 2 times as fast. The layout is made when a matrix is
    first used: a later change of its weights is not seen.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[nn.Linear, ...], Tensor] = {}

    def __call__(self, x_XD: Tensor, *linears: nn.Linear) -> Tensor:
        """[X, D] -> [X, E]; of several linears side by side, in one product."""
        if not packs(x_XD.device, x_XD.dtype):
            made = [F.linear(x_XD, linear.weight) for linear in linears]
            return made[0] if len(made) == 1 else torch.cat(made, 1)
        packed = self._packed.get(linears)
        if packed is None:
            weight = torch.cat([linear.weight.detach() for linear in linears])
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, _VECTORS)
            self._packed[linears] = packed
        return torch.ops.mkldnn._linear_pointwise(x_XD, packed, None, "none", [], "")


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
