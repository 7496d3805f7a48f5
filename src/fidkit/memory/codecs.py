"""Codecs: how the vectors of a memory are kept. One record a token, of as many columns as the codec needs.

| codec   | bytes of a token        | error of a value                                                 |
|---------|-------------------------|------------------------------------------------------------------|
| float32 | 4 D                     | none                                                             |
| bf16    | 2 D                     | of rounding to the nearest: at most 2^-8 of the value            |
| int8    | D + 2                   | at most half the token's scale: 1/252 of its largest value       |
| pq      | 2 for 16 dimensions     | that of k-means; measured when the codebooks are trained         |

Letters: X tokens, D width, C columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fidkit.arrays import Array
from fidkit.memory.finite import require_finite
from fidkit.memory.pq import load_pq
from fidkit.records import INT8_SCALE_BYTES, check_codec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LARGEST_INT8 = 127
SIZES = {"float32": 4, "bfloat16": 2, "int8": 1, "uint16": 2}
"""Bytes of a column, by its kind."""
# The least normal float: a token of nothing but (almost) zeros has a scale, too.
_LEAST_SCALE = 2.0**-126


class Codec(Protocol):
    """Turns memory into records and back. Both go on the device that they are given.

    Attributes:
        name: as the command line calls it.
        width: D.
        columns: C.
        kind: the type of records, by PyTorch's name.
        fingerprint: of what decoding needs besides the records; empty where there is no such thing.
    """

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...

    def encode(self, memory_XD: Tensor) -> Tensor:
        """[X, C] from float32 or bfloat16.

        Raises:
            MemoryStoreError: a value is no finite number, or too large.
        """
        ...

    def decode(self, records_XC: Array, dtype: torch.dtype | None = None) -> Array:
        """[X, D]; the records themselves where they are of this type already.

        Args:
            records_XC: tensors, or NumPy's arrays (bfloat16 is uint16 there), which become float32.
            dtype: of tensors.
        """
        ...


class Plain:
    """Values as they are, in float32, or rounded to the nearest bfloat16."""

    fingerprint = ""

    def __init__(self, name: str, width: int, kind: str) -> None:
        self.name, self.width, self.columns, self.kind = name, width, width, kind

    def encode(self, memory_XD: Tensor) -> Tensor:
        import torch

        require_finite(memory_XD)
        return memory_XD.to(getattr(torch, self.kind))

    def decode(self, records_XC: Array, dtype: torch.dtype | None = None) -> Array:
        if not isinstance(records_XC, np.ndarray):
            return records_XC.to(dtype)
        return _widened(records_XC) if self.kind == "bfloat16" else records_XC


class Int8:
    """Whole numbers from -127 to 127 and, in two more bytes, the bfloat16 scale of the token."""

    name, fingerprint, kind = "int8", "", "int8"

    def __init__(self, width: int) -> None:
        self.width, self.columns = width, width + INT8_SCALE_BYTES

    def encode(self, memory_XD: Tensor) -> Tensor:
        import torch

        require_finite(memory_XD)
        largest_X1 = memory_XD.abs().amax(1, keepdim=True).float()
        scales_X1 = _bf16_not_below(largest_X1 / _LARGEST_INT8)
        values_XD = (memory_XD.float() / scales_X1).round_().to(torch.int8)
        return torch.cat([values_XD, scales_X1.bfloat16().view(torch.int8)], dim=1)

    def decode(self, records_XC: Array, dtype: torch.dtype | None = None) -> Array:
        if isinstance(records_XC, np.ndarray):
            scales_X1 = _widened(np.ascontiguousarray(records_XC[:, self.width :]).view(np.uint16))
            return records_XC[:, : self.width].astype(np.float32) * scales_X1
        import torch

        # A copy in any case: in place it might begin at an odd byte.
        scales_XB = records_XC[:, self.width :].clone(memory_format=torch.contiguous_format)
        scales_X1 = scales_XB.view(torch.bfloat16)
        # A value has 7 bits and a scale 8: exact in float32, rounded once in bfloat16.
        return records_XC[:, : self.width].to(dtype).mul_(scales_X1)


def _bf16_not_below(x: Tensor) -> Tensor:
    """The least bfloat16 that is not below x > 0, as float32.

    With a scale rounded to the nearest, the largest value of a token might come to 127.5 scales and its
    error to more than half of one.
    """
    import torch

    bits = x.clamp(min=_LEAST_SCALE).view(torch.int32)
    return ((bits + 0xFFFF) & -0x10000).view(torch.float32)


def _widened(x: np.ndarray) -> np.ndarray:
    """Bfloat16 as float32."""
    return (x.astype(np.uint32) << 16).view(np.float32)


def make_codec(name: str, width: int, directory: Path | None = None) -> Codec:
    """The codec of a memory.

    Args:
        name: one of `fidkit.records.CODECS`.
        width: D, of the memory's vectors.
        directory: of the memory; product quantisation reads its codebooks there.

    Raises:
        UsageError: unknown name.
        MemoryStoreError: no codebooks, or codebooks for another width.
    """
    check_codec(name)
    if name == "float32":
        return Plain(name, width, "float32")
    if name == "bf16":
        return Plain(name, width, "bfloat16")
    if name == "int8":
        return Int8(width)
    if directory is None:
        raise ValueError("codebooks are read from a directory")
    return load_pq(directory, width)


def record_bytes(codec: Codec) -> int:
    """Bytes of one token."""
    return codec.columns * SIZES[codec.kind]
