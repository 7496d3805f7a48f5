"""What a stored memory depends on, as one short string."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from fidkit.config import ReaderConfig
from fidkit.errors import CheckpointError
from fidkit.tokens import Tokenizer

if TYPE_CHECKING:
    from fidkit.reader import Reader


def memory_fingerprint(reader: Reader) -> str:
    """`fingerprint_of` a reader."""
    named = reader.memory_encoder.named_parameters()
    floats = ((name, parameter.detach().float().cpu().numpy()) for name, parameter in named)
    return fingerprint_of(reader.config, reader.tokenizer, floats)


def fingerprint_of(
    config: ReaderConfig, tokenizer: Tokenizer | None, parameters: Iterable[tuple[str, np.ndarray]]
) -> str:
    """SHA-256 over all that decides the memory of a passage, besides the passage and the precision.

    That is the memory encoder with its embedding, its shape, and the tokenizer of passages with their format.
    The rest of a reader may be trained on: its memory stays valid.

    Args:
        config: of the reader.
        tokenizer: its own.
        parameters: of its memory encoder, float32, by their names there.

    Raises:
        CheckpointError: the reader has no tokenizer.
    """
    if tokenizer is None:
        raise CheckpointError(
            "this reader has no tokenizer, so what its memory is of can't be told; "
            "load one that was saved with a tokenizer.json"
        )
    shape = {
        "stack": config.memory_stack.model_dump(exclude={"family"}) | {"layers": config.memory_layers},
        "block": config.memory_stack.family,
        "relative_buckets": config.relative_buckets,
        "relative_max_distance": config.relative_max_distance,
        "tokenizer": tokenizer.fingerprint,
    }
    if config.memory_stack.blocks.learned_positions:
        shape["passage_position"] = config.passage_position
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, floats in sorted(parameters, key=lambda named: named[0]):
        digest.update(f"{name}{list(floats.shape)}".encode())
        digest.update(np.ascontiguousarray(floats).data.cast("B"))
    return digest.hexdigest()
