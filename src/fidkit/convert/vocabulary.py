"""The vocabulary of a foreign checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tokenizers

from fidkit.config import ReaderConfig
from fidkit.convert import strangers
from fidkit.convert.files import read_json
from fidkit.errors import CheckpointError
from fidkit.tokens import FILE, Tokenizer

PIECES = "spiece.model"
NEEDED = {"transformers": "transformers", "sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
"""What converts SentencePiece's file: modules, and the packages that have them."""


BYTES = "ByT5Tokenizer"


def require_vocabulary(directory: Path, record: dict[str, Any]) -> None:
    """Refuse a model that reads bytes: its tokenizer is code of transformers, and no file a reader can have.

    Args:
        directory: of the checkpoint.
        record: its `config.json`.

    Raises:
        CheckpointError: it is ByT5.
    """
    path = directory / "tokenizer_config.json"
    said = read_json(path) if path.is_file() else {}
    classes = (said.get("tokenizer_class"), record.get("tokenizer_class"))
    if BYTES in classes and not (directory / FILE).is_file():
        raise CheckpointError(
            f"{directory}: a model of bytes (ByT5), which has no vocabulary ({FILE}) that a reader could "
            "answer with; take T5 v1.1, Flan-T5 or another model with one"
        )


def read_vocabulary(directory: Path, config: ReaderConfig) -> tokenizers.Tokenizer | None:
    """`tokenizer.json` taken over as it is, else made from SentencePiece's file; None if there is neither.

    Raises:
        CheckpointError: unreadable, larger than the embedding, or needing an extra that isn't installed.
    """
    if (directory / FILE).is_file():
        return Tokenizer.load(directory / FILE, config).backend
    if not (directory / PIECES).is_file():
        return None
    strangers.require_weights(directory / PIECES)
    missing = [package for module, package in NEEDED.items() if not _is_installed(module)]
    if missing:
        raise CheckpointError(
            f"{directory}: has {PIECES} but no {FILE}; converting it needs {', '.join(missing)}: "
            f"`pip install 'fidkit[encoders]'`, or put the {FILE} of the same model beside it"
        )
    from transformers import T5Tokenizer

    try:
        backend = T5Tokenizer.from_pretrained(directory).backend_tokenizer
    except Exception as error:  # a damaged file is whatever its parser says
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{directory / PIECES}: expected SentencePiece's file, but {reason}; download it again"
        ) from error
    if backend.get_vocab_size() > config.vocabulary_size:
        raise CheckpointError(
            f"{directory / PIECES}: {backend.get_vocab_size()} tokens, but the checkpoint has "
            f"{config.vocabulary_size} embeddings"
        )
    return backend


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what it is a part of is missing, or it was withheld
        return False
