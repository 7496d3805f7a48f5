"""Which of our modules reads a Hugging Face checkpoint, by the `model_type` of its `config.json`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights
from fidkit.errors import CheckpointError

KINDS = {"t5": "fidkit.convert.t5:read_t5", "bert": "fidkit.convert.bert:read_bert"}
"""A function as `read` is, by its module and name; imported when needed."""


def read(record: dict[str, Any], tensors: Weights, where: str) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration and weights, under our names, of a foreign checkpoint's.

    Args:
        record: its `config.json`.
        tensors: by their names there.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: of no kind that is known, or not what it says it is.
    """
    kind = record.get("model_type")
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise CheckpointError(f"{where}: model_type is {kind!r}, expected {known}")
    module, name = KINDS[kind].split(":")
    found: tuple[ReaderConfig, Weights, Notes] = getattr(import_module(module), name)(record, tensors, where)
    return found
