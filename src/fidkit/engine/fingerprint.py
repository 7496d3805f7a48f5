"""What a stored memory depends on, as one short string."""

from __future__ import annotations

import hashlib
import json

import torch

from fidkit.errors import CheckpointError
from fidkit.reader import Reader


def memory_fingerprint(reader: Reader) -> str:
    """SHA-256 over all that decides the memory of a passage, besides the passage and the precision.

    That is the memory encoder with its embedding, its shape, and the tokenizer of passages with their format.
    The rest of a reader may be trained on: its memory stays valid.

    Raises:
        CheckpointError: the reader has no tokenizer.
    """
    if reader.tokenizer is None:
        raise CheckpointError(
            "this reader has no tokenizer, so what its memory is of can't be told; "
            "load one that was saved with a tokenizer.json"
        )
    config = reader.config
    shape = {
        "stack": config.memory_stack.model_dump(exclude={"family"}) | {"layers": config.memory_layers},
        "block": config.memory_stack.family,
        "relative_buckets": config.relative_buckets,
        "relative_max_distance": config.relative_max_distance,
        "tokenizer": reader.tokenizer.fingerprint,
    }
    if config.memory_stack.blocks.learned_positions:
        shape["passage_position"] = config.passage_position
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, parameter in sorted(reader.memory_encoder.named_parameters()):
        weights = parameter.detach().float().cpu().contiguous()
        digest.update(f"{name}{list(weights.shape)}".encode())
        digest.update(weights.view(torch.uint8).numpy().data)
    return digest.hexdigest()
