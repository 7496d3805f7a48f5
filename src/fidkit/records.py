"""How large a record is: what a codec keeps of one token's memory on disk.

No torch here: cost models predict the size of a memory with what its codecs write.
"""

from __future__ import annotations

from fidkit.errors import UsageError

CODECS = ("float32", "bf16", "int8", "pq")
PLAIN_BYTES = {"float32": 4, "bf16": 2}  # of a value
INT8_SCALE_BYTES = 2  # one bf16 scale a token
PQ_DIMENSIONS = 16  # of one subspace, as in MEMORY-VQ
PQ_CODE_BYTES = 2  # 65,536 codes a subspace


def bytes_per_token(width: int, codec: str) -> int:
    """Bytes of one token's memory on disk.

    float32 is 4 a value; bf16 is 2; int8 is 1 a value and a scale; pq is 2 a subspace of 16 values.
    Codebooks of pq, the same for any number of passages, are not counted.

    Args:
        width: values of a vector of memory.
        codec: one of `CODECS`.

    Raises:
        UsageError: unknown codec.
    """
    check_codec(codec)
    if codec in PLAIN_BYTES:
        return PLAIN_BYTES[codec] * width
    if codec == "int8":
        return width + INT8_SCALE_BYTES
    return -(-width // PQ_DIMENSIONS) * PQ_CODE_BYTES


def check_codec(name: str) -> None:
    """Refuse a codec that doesn't exist.

    Raises:
        UsageError: names those that do.
    """
    if name not in CODECS:
        raise UsageError(f"codec is {name!r}; choose one of {', '.join(CODECS)}")
