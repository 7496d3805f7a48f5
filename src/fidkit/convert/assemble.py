"""From a foreign checkpoint's configuration and weights to a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import tokenizers

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, Weights, build, passage_backend, reshape_weights
from fidkit.convert.vocabulary import read_vocabulary, require_fit
from fidkit.reader import Reader
from fidkit.tokens import FILE as TOKENIZER


def assemble(
    directory: Path, config: ReaderConfig, weights: Weights, notes: Notes, **knobs: Unpack[Knobs]
) -> tuple[Reader, Notes]:
    """A reader with the vocabulary that lies in `directory`, reshaped where asked.

    Args:
        directory: of the checkpoint.
        config: as the checkpoint has it.
        weights: under our names.
        notes: on how they were read.
        knobs: see `fidkit.convert.reshape.Knobs`.

    Raises:
        CheckpointError: a vocabulary that doesn't fit, or weights that don't.
        ConfigError: a shape that cannot be built.
    """
    backend = read_vocabulary(directory)
    require_fit(directory, backend, config)
    if backend is None:
        notes += Notes(remarks=(f"no vocabulary found; put its {TOKENIZER} beside the converted weights",))
    return with_vocabulary(backend, directory, config, weights, notes, **knobs)


def with_vocabulary(
    backend: tokenizers.Tokenizer | None,
    directory: Path,
    config: ReaderConfig,
    weights: Weights,
    notes: Notes,
    **knobs: Unpack[Knobs],
) -> tuple[Reader, Notes]:
    """`assemble` with the vocabulary at hand; None has none."""
    config, weights, changes = reshape_weights(config, weights, backend, **knobs)
    own = passage_backend(config, knobs.get("memory_encoder"))
    return build(config, weights, backend, str(directory), own), notes + changes
