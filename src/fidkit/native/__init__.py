"""CPU kernels in C++, built at first use where there is a compiler; torch does the same without them.

`FIDKIT_NATIVE=0` leaves them out. Which of the two runs is the caller's choice, made once
(`fidkit.engine.runner`); results agree to rounding.
"""

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
