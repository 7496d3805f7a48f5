"""Any checkpoint that can be converted: a fidkit reader, or Hugging Face's T5."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from fidkit import checkpoint
from fidkit.convert import files
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, reshape
from fidkit.convert.t5 import import_t5
from fidkit.reader import Reader


def load(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader from any checkpoint, reshaped where asked; see `import_t5` and `reshape`.

    Raises:
        CheckpointError: not there, of no known kind, or damaged.
        ConfigError: a shape that cannot be built.
    """
    if str(path_or_name) == checkpoint.BUNDLED:
        return reshape(Reader.from_pretrained(path_or_name), **knobs)
    directory = files.locate(path_or_name)
    if "format_version" in files.read_json(directory / checkpoint.CONFIG):
        return reshape(Reader.from_pretrained(directory), **knobs)
    return import_t5(directory, **knobs)
