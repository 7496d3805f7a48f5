"""The vocabulary of a foreign checkpoint."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from fidkit.config import ReaderConfig
from fidkit.errors import CheckpointError
from fidkit.tokens import FILE, Tokenizer

PIECES = "spiece.model"


def read_vocabulary(directory: Path, config: ReaderConfig) -> tokenizers.Tokenizer | None:
    """`tokenizer.json` taken over as it is, else made from SentencePiece's file; None if there is neither.

    Raises:
        CheckpointError: unreadable, larger than the embedding, or needing an extra that isn't installed.
    """
    if (directory / FILE).is_file():
        return Tokenizer.load(directory / FILE, config).backend
    if not (directory / PIECES).is_file():
        return None
    try:
        from transformers import T5Tokenizer

        backend = T5Tokenizer.from_pretrained(directory).backend_tokenizer
    except ImportError as error:
        raise CheckpointError(
            f"{directory}: has {PIECES} but no {FILE}; to convert it, `pip install 'fidkit[encoders]'`, "
            f"or put the {FILE} of the same model beside it"
        ) from error
    if backend.get_vocab_size() > config.vocabulary_size:
        raise CheckpointError(
            f"{directory / PIECES}: {backend.get_vocab_size()} tokens, but the checkpoint has "
            f"{config.vocabulary_size} embeddings"
        )
    return backend
