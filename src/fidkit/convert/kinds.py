"""Which of our modules reads a Hugging Face checkpoint, by the `model_type` of its `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import tokenizers

from fidkit.config import ReaderConfig
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Weights
from fidkit.errors import CheckpointError

_T5 = "fidkit.convert.t5:read"
KINDS = {
    "t5": _T5,
    "mt5": _T5,
    "umt5": _T5,
    "bert": "fidkit.convert.bert:read",
    "mpnet": "fidkit.convert.mpnet:read",
}
"""A function as `read` is, by its module and name; imported when needed."""
_ROBERTA = "its positions count from its padding token on, and it has one type of text"
OTHERS = {
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": "it has no types of text",
}
"""Encoders that are near to BERT, and what keeps them from being read as such."""


@dataclass(frozen=True)
class Foreign:
    """A checkpoint as Hugging Face lays it out.

    Attributes:
        record: its `config.json`.
        tensors: by their names there, without prefixes.
        where: the checkpoint, for messages.
        backend: its vocabulary, if there is one.
    """

    record: dict[str, Any]
    tensors: Weights
    where: str
    backend: tokenizers.Tokenizer | None = None


def read(found: Foreign) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration and weights, under our names, of a foreign checkpoint's.

    An encoder alone gives a configuration with a decoder, and no weights for it.

    Raises:
        CheckpointError: of no kind that is known, or not what it says it is.
    """
    kind = found.record.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        known, why = ", ".join(map(repr, KINDS)), OTHERS.get(str(kind))
        raise CheckpointError(
            f"{found.where}: model_type is {kind!r}, expected {known}"
            + (f"; {kind} is no BERT: {why}; take MiniLM, E5, BGE or GTE of BERT's layout" if why else "")
        )
    module, name = KINDS[kind].split(":")
    made: tuple[ReaderConfig, Weights, Notes] = getattr(import_module(module), name)(found)
    return made
