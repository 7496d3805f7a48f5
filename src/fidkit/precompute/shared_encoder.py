"""Whether a reader's memory encoder is the lower part of the encoder that searches."""

from __future__ import annotations

import numpy as np

from fidkit import assets
from fidkit.checkpoint import locate
from fidkit.checkpoint.files import Directory, open_directory
from fidkit.checkpoint.stored import Weight, encoder_weights, stored_weights
from fidkit.engine.meaning import ENCODER
from fidkit.errors import UsageError
from fidkit.precompute.opened import require_memory

_MEMORY = "memory_encoder."
# Of a number that isn't rounded to 8 bits: what bfloat16 leaves of it.
_FLOAT_STEP = 2.0**-8


def require_shared(name: str) -> int:
    """Refuse a reader whose memory isn't what the first layers of the searching encoder leave.

    A reader may be stored in float32, bfloat16 or 8 bits: numbers that are one step of 8 bits apart count as
    the same.

    Args:
        name: of the reader: directory, bundled name or hub name.

    Returns:
        How many layers the memory encoder has.

    Raises:
        UsageError: says what is different.
        CheckpointError, ConfigError: one of the two can't be read.
    """
    reader, searching = open_directory(locate(name)), open_directory(assets.reader(ENCODER))
    require_memory(reader.config, name)
    if different := _shape(reader, searching) or _weights(reader, searching) or _tokens(reader, searching):
        raise UsageError(
            f"{name}: {different}, so one pass can't make both memory and vectors; run `fidkit corpus build` "
            "without --memory, and `fidkit memory build` after it"
        )
    return reader.config.memory_layers


def _shape(reader: Directory, searching: Directory) -> str:
    ours, theirs = reader.config.memory_stack, searching.config.encoder
    if reader.config.memory_layers > theirs.layers or ours.replace(layers=theirs.layers) != theirs:
        return f"its memory encoder is of another kind or size than {ENCODER}, which searches"
    return ""


def _tokens(reader: Directory, searching: Directory) -> str:
    one, other = reader.tokenizer, searching.tokenizer
    if one is None or other is None or one.fingerprint != other.fingerprint:
        return f"its passages become other tokens than those of {ENCODER}, which searches"
    if (first := reader.config.passage_position) != 0:
        return f"its passages begin at position {first} (`passage_position`), and at 0 for {ENCODER}"
    return ""


def _weights(reader: Directory, searching: Directory) -> str:
    theirs = encoder_weights(searching)
    for name, weight in stored_weights(reader).items():
        if name.startswith(_MEMORY):
            part = name.removeprefix(_MEMORY)
            if not _same(weight, theirs[part.replace("encoder.", "live_encoder.", 1)]):
                return f"its memory encoder was trained on and is no longer {ENCODER}'s, first in {part}"
    return ""


def _same(one: Weight, other: Weight) -> bool:
    """Whether two tensors have the same numbers, as far as 8 bits tell."""
    if one.shape != other.shape:
        return False
    numbers = other.floats()
    step = np.abs(numbers) * _FLOAT_STEP if other.scale is None else other.scale[..., None]
    return bool((np.abs(one.floats() - numbers) <= step).all())
