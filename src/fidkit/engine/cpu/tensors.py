"""Parameters of PyTorch's modules as the kernels take them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fidkit.checkpoint.stored import Weight
from fidkit.engine.cpu.weights import Rounding, to_int8

# A weight that was stored in 8 bits is this near to what it becomes there again: scales round.
_LOSSLESS = 1e-6


def weight_of(tensor: Tensor) -> Weight:
    """On the memory of the tensor, which is on the CPU."""
    tensor = tensor.detach()
    return Weight((tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy())


def matrix_of(tensor: Tensor, rounding: Rounding) -> Weight:
    """The same, in 8 bits where it was stored so before and may be kept so."""
    weight = weight_of(tensor)
    if rounding != "lossless" or tensor.ndim != 2 or weight.values.dtype != np.float32:
        return weight
    found = to_int8(weight.values)
    lossless = np.allclose(found.floats(), weight.values, rtol=_LOSSLESS, atol=0)
    return found if lossless else weight


def weights_of(parameters: Iterable[tuple[str, Tensor]], rounding: Rounding = "never") -> dict[str, Weight]:
    """Parameters by name."""
    return {name: matrix_of(parameter, rounding) for name, parameter in parameters}
