"""The vocabulary of a foreign checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from fidkit.config import ReaderConfig
from fidkit.convert import strangers
from fidkit.convert.files import read_json
from fidkit.errors import CheckpointError
from fidkit.tokens import FILE, read_backend, require_embeddings

PIECES = "spiece.model"
WORDS = "vocab.txt"
WORDPIECE = ("BertTokenizer", "BertTokenizerFast")
BERT_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]")
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


def read_vocabulary(directory: Path) -> tokenizers.Tokenizer | None:
    """`tokenizer.json` as it is, else made of SentencePiece's file or of BERT's list; None if there is none.

    Raises:
        CheckpointError: unreadable, or needing an extra that isn't installed.
    """
    if (directory / FILE).is_file():
        return read_backend(directory / FILE)
    if (directory / PIECES).is_file():
        return _of_pieces(directory)
    return _of_words(directory) if (directory / WORDS).is_file() else None


def require_fit(directory: Path, backend: tokenizers.Tokenizer | None, config: ReaderConfig) -> None:
    """Refuse a vocabulary with more tokens than the checkpoint has embeddings.

    Raises:
        CheckpointError: says both.
    """
    if backend is None:
        return
    found = next((name for name in (FILE, PIECES, WORDS) if (directory / name).is_file()), FILE)
    require_embeddings(backend, config.vocabulary_size, directory / found)


def _of_pieces(directory: Path) -> tokenizers.Tokenizer:
    strangers.require_weights(directory / PIECES)
    missing = [package for module, package in NEEDED.items() if not _is_installed(module)]
    if missing:
        raise CheckpointError(
            f"{directory}: has {PIECES} but no {FILE}; converting it needs {', '.join(missing)}: "
            f"`pip install 'fidkit[encoders]'`, or put the {FILE} of the same model beside it"
        )
    from transformers import T5Tokenizer

    try:
        return T5Tokenizer.from_pretrained(directory).backend_tokenizer
    except Exception as error:  # a damaged file is whatever its parser says
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{directory / PIECES}: expected SentencePiece's file, but {reason}; download it again"
        ) from error


def _of_words(directory: Path) -> tokenizers.Tokenizer:
    """BERT's WordPiece, from its list of tokens, one a line."""
    path = directory / "tokenizer_config.json"
    said = read_json(path) if path.is_file() else {}
    kind = said.get("tokenizer_class", WORDPIECE[0])
    if kind not in WORDPIECE:
        raise CheckpointError(
            f"{directory}: its {WORDS} belongs to {kind}, which is code of transformers; put a {FILE} "
            "beside it"
        )
    try:
        words = WordPiece.read_file(str(directory / WORDS))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"{directory / WORDS}: expected BERT's tokens, one a line, but {error}; download it again"
        ) from error
    if missing := [name for name in BERT_TOKENS if name not in words]:
        raise CheckpointError(f"{directory / WORDS}: lacks {', '.join(missing)}; expected BERT's tokens")
    backend = tokenizers.Tokenizer(WordPiece(words, unk_token=BERT_TOKENS[0]))
    accents = said.get("strip_accents")
    backend.normalizer = BertNormalizer(
        lowercase=bool(said.get("do_lower_case", True)),
        strip_accents=None if accents is None else bool(accents),
        handle_chinese_chars=bool(said.get("tokenize_chinese_chars", True)),
    )
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([name for name in (*BERT_TOKENS, "[MASK]") if name in words])
    return backend


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what it is a part of is missing, or it was withheld
        return False
