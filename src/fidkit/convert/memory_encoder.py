"""The encoder of one reader as the memory encoder of another (LUMEN's memory shape)."""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

DISTANCES = ("relative_buckets", "relative_max_distance")
PLACES = ("positions", "passage_position")
"""What all stacks of a reader have in common that know distances, or positions."""
FORMAT = ("passage_format", "title_end_token")
SEED = 0


def take_memory_encoder(
    config: ReaderConfig,
    weights: dict[str, Tensor],
    backend: tokenizers.Tokenizer | None,
    source: Reader,
) -> tuple[ReaderConfig, dict[str, Tensor], Notes]:
    """Give the reader the whole encoder of `source`, without its final norm, as memory encoder.

    Where widths differ, a projection is drawn at random (always the same): such a reader has to be trained.
    A source with another vocabulary brings it along, for passages alone, and how it is given their titles.

    Args:
        config: of the reader.
        weights: that belong to it.
        backend: its vocabulary, where it is known.
        source: a reader with all layers live.

    Raises:
        CheckpointError: the source has another vocabulary that isn't known, other distances or positions, or
            isn't FiD.
    """
    theirs = source.tokenizer and source.tokenizer.backend
    own = backend is not None and theirs is not None and backend.to_str() != theirs.to_str()
    _require_alike(config, source, own_vocabulary=own)
    new = _with_stack_of(config, source.config, own_vocabulary=own)
    kept = {n: w for n, w in weights.items() if not n.startswith(("memory_encoder.", "memory_projection."))}
    taken = {
        f"memory_encoder.encoder.{name}": p.detach().clone()
        for name, p in source.live_encoder.named_parameters()
        if not name.startswith("norm.")
    }
    taken |= {
        f"memory_encoder.embedding.{name}": p.detach().clone()
        for name, p in source.embedding.named_parameters()
    }
    notes = Notes(copied=tuple(taken))
    if own:
        notes += Notes(
            remarks=(f"passages have a vocabulary of their own, of {new.memory_vocabulary_size} tokens",)
        )
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


def _with_stack_of(config: ReaderConfig, theirs: ReaderConfig, *, own_vocabulary: bool) -> ReaderConfig:
    changes: dict[str, Any] = {
        "memory_encoder": theirs.encoder.model_dump(),
        "memory_vocabulary_size": theirs.vocabulary_size if own_vocabulary else None,
        "memory_end_token": theirs.end_token if own_vocabulary else None,
    }
    if own_vocabulary or config.memory_vocabulary_size is not None:
        changes |= {name: getattr(theirs, name) for name in FORMAT}
    if theirs.encoder.blocks.learned_positions:
        changes |= {name: getattr(theirs, name) for name in PLACES}
    new: ReaderConfig = config.replace(**changes)
    return new


def _require_alike(config: ReaderConfig, source: Reader, *, own_vocabulary: bool) -> None:
    theirs = source.config
    alike: tuple[str, ...] = () if own_vocabulary else ("vocabulary_size",)
    if theirs.encoder.blocks.relative_bias:
        alike += DISTANCES
    if theirs.encoder.blocks.learned_positions and config.encoder.blocks.learned_positions:
        alike += PLACES
    differ = [
        f"{name} is {getattr(theirs, name)}, expected {getattr(config, name)}"
        for name in alike
        if getattr(theirs, name) != getattr(config, name)
    ]
    if theirs.memory_layers:
        differ.append("it has a memory encoder itself")
    if differ:
        raise CheckpointError(
            f"its encoder can't be the memory encoder of this reader: {'; '.join(differ)}; take a checkpoint "
            "without one, of the same positions and, if its tokenizer isn't there, of the same vocabulary"
        )
