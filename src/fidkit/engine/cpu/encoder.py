"""PyTorch's encoder layers on the CPU's native kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fidkit.engine.cpu.layerwise import Layerwise
from fidkit.engine.cpu.products import Products
from fidkit.engine.cpu.stack import EncoderStack, Norm, chunks
from fidkit.engine.cpu.tensors import weight_of, weights_of
from fidkit.engine.cpu.weights import Rounding
from fidkit.native import Kernels
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.families.bert import LayerNorm
from fidkit.nn.layers import RMSNorm
from fidkit.nn.rows import Rows


class NativeEncoder:
    """Runs encoder layers over ragged rows; a `fidkit.nn.encoder.Run`.

    Float32 goes through all layers in one call, and so does what is rounded to 8 bits; bfloat16 goes product
    by product (`Layerwise`). Rows whose sides don't see each other, and layers of a family that these kernels
    don't suit, are left to the plain layers.

    Args:
        kernels: the compiled kernels.
        own: see `Products`.
        rounding: of matrices; layers that are run together are rounded together.
    """

    def __init__(self, kernels: Kernels, *, own: bool = False, rounding: Rounding = "never") -> None:
        self.kernels, self.rounding = kernels, rounding
        self.products = Products(kernels, own=own)
        self._layerwise = Layerwise(kernels, self.products)
        self._stacks: dict[tuple[nn.Module, ...], EncoderStack] = {}

    def __call__(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None
    ) -> Tensor:
        """Encode [X, D]; the same type comes back."""
        if layers.kernels is None or not layers.layers or not len(x_XD) or rows.sides is not None:
            self.products.give_back(layers)
            return layers(x_XD, rows, norm)
        if x_XD.dtype == torch.float32 or self.rounding == "always":
            states_XD = x_XD.detach().to(torch.float32, copy=True).numpy()
            made = self._stack(layers)(states_XD, rows.starts.numpy(), _vectors(norm))
            return torch.from_numpy(made).to(x_XD.dtype)
        out = torch.empty_like(x_XD)
        for first, end, starts in chunks(rows.starts.numpy()):
            begins = torch.from_numpy(starts)
            self._layerwise(layers, x_XD[first:end], begins, rows.longest, norm, out[first:end])
        return out

    def _stack(self, layers: EncoderLayers) -> EncoderStack:
        key = tuple(layers.layers)
        found = self._stacks.get(key)
        if found is None:
            table = layers.relative_bias
            found = self._stacks[key] = EncoderStack(
                self.kernels,
                layers.stack,
                [weights_of(layer.named_parameters(), self.rounding) for layer in layers.layers],
                None if table is None else weight_of(table.weight),
                0 if table is None else table.max_distance,
                self.rounding,
            )
        return found


def _vectors(norm: nn.Module | None) -> Norm | None:
    """Weight and bias of a norm, as `EncoderStack` takes them."""
    if norm is None or isinstance(norm, nn.Identity):
        return None
    assert isinstance(norm, RMSNorm | LayerNorm)
    bias = norm.bias.detach().float().numpy() if isinstance(norm, LayerNorm) else None
    return norm.weight.detach().float().numpy(), bias
