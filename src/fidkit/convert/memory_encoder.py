"""The encoder of one reader as the memory encoder of another (LUMEN's memory shape)."""

from __future__ import annotations

import tokenizers
import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

ALIKE = ("vocabulary_size", "relative_buckets", "relative_max_distance")
"""What all stacks of a reader have in common; their families may differ."""
SEED = 0


def take_memory_encoder(
    config: ReaderConfig,
    weights: dict[str, Tensor],
    backend: tokenizers.Tokenizer | None,
    source: Reader,
) -> tuple[ReaderConfig, dict[str, Tensor], Notes]:
    """Give the reader the whole encoder of `source`, without its final norm, as memory encoder.

    Where widths differ, a projection is drawn at random (always the same): such a reader has to be trained.

    Args:
        config: of the reader.
        weights: that belong to it.
        backend: its vocabulary, where it is known.
        source: a reader with all layers live.

    Raises:
        CheckpointError: the source has another vocabulary or other layers, or isn't FiD.
    """
    _require_alike(config, backend, source)
    new: ReaderConfig = config.replace(
        memory_encoder=source.config.encoder.model_dump(), memory_vocabulary_size=None, memory_end_token=None
    )
    kept = {n: w for n, w in weights.items() if not n.startswith(("memory_encoder.", "memory_projection."))}
    taken = {
        f"memory_encoder.encoder.{name}": p.detach().clone()
        for name, p in source.live_encoder.named_parameters()
        if not name.startswith("norm.")
    }
    taken["memory_encoder.embedding.weight"] = source.embedding.weight.detach().clone()
    notes = Notes(copied=tuple(taken))
    if new.projects_memory:
        drawn = torch.randn(
            new.encoder.width, new.memory_width, generator=torch.Generator().manual_seed(SEED)
        )
        taken["memory_projection.weight"] = drawn * new.memory_width**-0.5
        notes += Notes(
            remarks=(
                f"memory is {new.memory_width} wide, the encoder {new.encoder.width}: the projection "
                "between them is random and has to be trained",
            )
        )
    return new, kept | taken, notes


def _require_alike(config: ReaderConfig, backend: tokenizers.Tokenizer | None, source: Reader) -> None:
    differ = [
        f"{name} is {getattr(source.config, name)}, expected {getattr(config, name)}"
        for name in ALIKE
        if getattr(source.config, name) != getattr(config, name)
    ]
    theirs = source.tokenizer and source.tokenizer.backend
    if backend is not None and theirs is not None and backend.to_str() != theirs.to_str():
        differ.append("its tokenizer is another")
    if source.config.memory_layers:
        differ.append("it has a memory encoder itself")
    if differ:
        raise CheckpointError(
            f"its encoder can't be the memory encoder of this reader: {'; '.join(differ)}; take a T5 or FiD "
            "checkpoint of the same family"
        )
