"""What a reader computes with, by name."""

from __future__ import annotations

from typing import Literal, get_args

from fidkit.engine.cpu.weights import Rounding
from fidkit.errors import UsageError

Precision = Literal["auto", "as-is", "float32", "bfloat16", "int8"]
"""What a reader computes with.

`auto`: bfloat16 where the device multiplies it in hardware, else float32. `as-is`: what the weights are.
A matrix that was stored in 8 bits is multiplied as such where products are float32, by vectors of 8 bits
where the CPU has an instruction for that, and of 16 elsewhere. `int8`: as `auto`, with the matrices that
every step of the decoder reads rounded to 8 bits; on a CPU with native kernels so are those of encoders and
of the context's keys and values, and the vectors that they are multiplied with.
"""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ROUNDING: dict[Precision, Rounding] = {"auto": "lossless", "int8": "always"}
"""Of matrices on a CPU: under `auto` of float32 ones; in the others nothing is rounded."""


def check_precision(precision: str) -> None:
    """Refuse an unknown name.

    Raises:
        UsageError: lists the names that there are.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
