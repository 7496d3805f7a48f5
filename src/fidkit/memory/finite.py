"""What memory may hold to be stored at all, whatever the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fidkit.errors import MemoryStoreError

if TYPE_CHECKING:
    from torch import Tensor

# 127 scales of the codec int8, each rounded up, must still be a float.
_LARGEST_VALUE = 3e38


def require_finite(memory_XD: Tensor) -> None:
    """Refuse memory that no codec can store.

    Raises:
        MemoryStoreError: a value is no finite number, or too large for some codec.
    """
    if not memory_XD.numel():
        return
    low, high = memory_XD.aminmax()
    # The comparison is false for what is no number, too.
    if not (float(low) >= -_LARGEST_VALUE and float(high) <= _LARGEST_VALUE):
        raise MemoryStoreError(
            f"the memory of a passage has values that are no finite numbers up to {_LARGEST_VALUE:g}; the "
            "reader's weights or its precision are at fault: build it in float32, or mend the reader"
        )
