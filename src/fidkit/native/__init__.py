"""CPU kernels in C++, built at first use where there is a compiler; torch does the same without them.

`FIDKIT_NATIVE=0` leaves them out. Which of the two runs is the caller's choice, made once
(`fidkit.engine.runner`); results agree to rounding.

Names are imported when first used, because kernels are compiled before there are other packages (`make`, and
wheels that bring them).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fidkit.native.binding import (
        LANES,
        TYPES,
        Array,
        Bits,
        Encoder,
        EncoderLayer,
        Kernels,
        Layer,
        Linear,
        Packed,
        Step,
        address,
        kernels,
    )

__all__ = [
    "LANES",
    "TYPES",
    "Array",
    "Bits",
    "Encoder",
    "EncoderLayer",
    "Kernels",
    "Layer",
    "Linear",
    "Packed",
    "Step",
    "address",
    "kernels",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("fidkit.native.binding"), name)
    raise AttributeError(f"module 'fidkit.native' has no attribute {name!r}")
