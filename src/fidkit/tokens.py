"""Text to tokens and back.

Question and passage are tokenised apart, so that a passage is tokenised once in its life, serves every
question, and joins it on tokens or on states alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers

from fidkit import assets
from fidkit.config import ReaderConfig
from fidkit.errors import CheckpointError, is_panic
from fidkit.types import Passage

FILE = "tokenizer.json"
PASSAGE_FILE = "memory_tokenizer.json"
"""Of passages, where the memory encoder has a vocabulary of its own."""
SENTINEL = "<extra_id_"
UNKNOWN = "<unk>"

_in_use: weakref.WeakValueDictionary[tuple[str, int, int, int, int], tokenizers.Tokenizer]
_in_use = weakref.WeakValueDictionary()
"""Vocabularies of open readers, by their file, its state, and the embeddings that they were found to fit."""


def is_well_formed(text: str) -> bool:
    """Whether a text holds whole characters only; half of one, a lone surrogate, is no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def well_formed(text: str) -> str:
    """The text with every half character replaced, as a decoder would."""
    if is_well_formed(text):
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in text)


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """A question's tokens; `dropped` counts those beyond what the reader takes."""

    ids: list[int]
    dropped: int


class Tokenizer:
    """A `tokenizer.json` together with a reader's text formats and limits.

    Args:
        backend: of questions and answers, and of passages too unless they have one of their own.
        config: formats and limits.
        passages: of passages, where the reader's memory encoder has a vocabulary of its own.

    Raises:
        CheckpointError: it has, and there is none; or the other way round.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: ReaderConfig,
        passages: tokenizers.Tokenizer | None = None,
    ) -> None:
        if (passages is None) != (config.memory_vocabulary_size is None):
            raise CheckpointError(
                f"memory_vocabulary_size is {config.memory_vocabulary_size}, but there is "
                f"{'no' if passages is None else 'a'} tokenizer of passages ({PASSAGE_FILE}); have both or "
                "neither"
            )
        self.backend, self.config = _plain(backend), config
        self.passage_backend = self.backend if passages is None else _plain(passages)
        self._encoder = _textual(self.backend, (config.pad_token, config.end_token))
        self._passage_encoder = self._encoder
        if passages is not None:
            self._passage_encoder = _textual(self.passage_backend, (config.passage_end_token,))

    @classmethod
    def load(cls, path: Path, config: ReaderConfig, passages: Path | None = None) -> Tokenizer:
        """Read a `tokenizer.json`, and that of passages where they have their own.

        Raises:
            CheckpointError: missing, unreadable, or with more tokens than the reader has embeddings.
        """
        own = None if passages is None else _read(passages, config.passage_vocabulary_size)
        return cls(_read(path, config.vocabulary_size), config, own)

    @classmethod
    def bundled(cls, config: ReaderConfig) -> Tokenizer:
        """The vocabulary that comes with fidkit."""
        return cls.load(assets.tokenizer_file(), config)

    def save(self, path: Path) -> None:
        self.backend.save(str(path))

    def save_passages(self, path: Path) -> None:
        """Write the tokenizer of passages."""
        self.passage_backend.save(str(path))

    def with_config(self, config: ReaderConfig) -> Tokenizer:
        """The same vocabularies, as far as `config` has a use for them, with its formats and limits."""
        own = self.passage_backend if config.memory_vocabulary_size is not None else None
        return Tokenizer(self.backend, config, own)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with anything that changes a passage's tokens."""
        c = self.config
        parts = [self.passage_backend.to_str(), c.passage_format, str(c.passage_tokens)]
        parts.append(str(c.passage_end_token))
        if c.title_end_token is not None:
            parts.append(f"title ends with {c.title_end_token}")
        if self._passage_encoder is not self.passage_backend:
            parts.append("control tokens are text")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @cached_property
    def _with_sentinels(self) -> tokenizers.Tokenizer:
        """Takes sentinels for what they are; all other control tokens are text here too."""
        controls = _controls(self.backend, (self.config.pad_token, self.config.end_token))
        return _renamed(self.backend, {i: c for i, c in controls.items() if not c.startswith(SENTINEL)})

    def _format_question(self, text: str) -> str:
        return self.config.question_format.format(question=text.strip())

    def question(self, text: str, *, sentinels: bool = False) -> QuestionTokens:
        """Tokens of a question, its prefix included, cut to what the reader takes.

        Args:
            text: the question.
            sentinels: take `<extra_id_0>` for T5's mask; otherwise it is text like any other, unless the
                reader's own question format has one (Atlas).
        """
        own = SENTINEL in self.config.question_format
        backend = self._with_sentinels if sentinels or own else self._encoder
        ids = backend.encode(well_formed(self._format_question(text)), add_special_tokens=False).ids
        config = self.config
        front = [] if config.start_token is None else [config.start_token]
        behind = [] if config.question_end_token is None else [config.question_end_token]
        limit = config.question_tokens - len(front) - len(behind)
        return QuestionTokens([*front, *ids[:limit], *behind], max(0, len(ids) - limit))

    def passages(self, passages: Iterable[Passage]) -> list[list[int]]:
        """Tokens of passages with their end of sequence, cut to what the reader takes."""
        limit, end = self.config.passage_tokens - 1, self.config.passage_end_token
        return [[*ids[:limit], end] for ids in self._of_passages(list(passages))]

    def length(self, passage: Passage) -> int:
        """Tokens of a passage with its end of sequence, nothing cut."""
        return len(self._of_passages([passage])[0]) + 1

    def _of_passages(self, passages: Sequence[Passage]) -> list[list[int]]:
        """All tokens of passages, without their end."""
        between, form, encoder = (
            self.config.title_end_token,
            self.config.passage_format,
            self._passage_encoder,
        )
        if between is None:
            return _encode(encoder, (form.format(title=p.title, text=p.text) for p in passages))
        titles, texts = (
            _encode(encoder, part) for part in ((p.title for p in passages), (p.text for p in passages))
        )
        return [[*title, between, *text] for title, text in zip(titles, texts, strict=True)]

    def start_of(self, passage: Passage, token: int) -> int | None:
        """The character of a passage's text at which one of its tokens begins; None outside of the text."""
        config = self.config
        if config.title_end_token is None:
            before, _ = config.passage_format.split("{text}")
            text = config.passage_format.format(title=passage.title, text=passage.text)
            ahead = len(before.format(title=passage.title))
        else:
            token, ahead, text = token - len(self.passage_spans(passage.title)) - 1, 0, passage.text
        offsets = self.passage_spans(text)
        if not 0 <= token < len(offsets):
            return None
        start = offsets[token][0] - ahead
        return start if 0 <= start < len(passage.text) else None

    def passage_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text of a passage stands in it, in characters; nothing is cut."""
        return self._passage_encoder.encode(well_formed(text), add_special_tokens=False).offsets

    def target(self, text: str, limit: int | None = None) -> list[int]:
        """Tokens of an answer with its end of sequence, at most `limit` in all."""
        return self._end(self.encode(text), limit)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the tokens before the first end of sequence."""
        kept = list(ids)
        if self.config.end_token in kept:
            kept = kept[: kept.index(self.config.end_token)]
        return self.backend.decode(kept, skip_special_tokens=True).strip()

    def _end(self, ids: list[int], limit: int | None) -> list[int]:
        return (ids if limit is None else ids[: limit - 1]) + [self.config.end_token]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text as it stands, all of them."""
        return self._encoder.encode(well_formed(text), add_special_tokens=False).ids

    def encode_all(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of many texts."""
        return _encode(self._encoder, texts)


def _encode(backend: tokenizers.Tokenizer, texts: Iterable[str]) -> list[list[int]]:
    """All tokens of many texts, and none around them."""
    encoded = backend.encode_batch([well_formed(text) for text in texts], add_special_tokens=False)
    return [e.ids for e in encoded]


def _plain(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """It cuts nothing, fills up nothing, and what looks like a control token in somebody's text is text."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def read_backend(path: Path) -> tokenizers.Tokenizer:
    """The vocabulary of a `tokenizer.json`.

    Raises:
        CheckpointError: missing or unreadable.
    """
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path}: expected a tokenizer.json, but {error}") from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise CheckpointError(f"{path}: expected a tokenizer.json, but the library failed") from error


def require_embeddings(backend: tokenizers.Tokenizer, embeddings: int, path: Path) -> None:
    """Refuse a vocabulary with tokens that have no embedding.

    Raises:
        CheckpointError: says how many there are of both.
    """
    tokens = backend.get_vocab_size()
    largest = tokens - 1
    if None in map(backend.id_to_token, range(tokens)):  # some have larger numbers
        largest = max(backend.get_vocab().values())
    if largest >= embeddings:
        what = f"has a token numbered {largest}" if tokens <= embeddings else f"{tokens} tokens"
        raise CheckpointError(
            f"{path}: {what}, but the reader has {embeddings} embeddings; use the tokenizer that the reader "
            "was trained with"
        )


def _read(path: Path, embeddings: int) -> tokenizers.Tokenizer:
    """A vocabulary, which readers that have the same file share: to read it takes a reader's time to open."""
    try:
        state = path.stat()
    except OSError:
        return read_backend(path)  # which says what is wrong
    key = (os.path.realpath(path), state.st_ino, state.st_mtime_ns, state.st_size, embeddings)
    backend = _in_use.get(key)
    if backend is None:
        backend = read_backend(path)
        require_embeddings(backend, embeddings, path)
        _in_use[key] = backend
    return backend


def _textual(backend: tokenizers.Tokenizer, own: Sequence[int]) -> tokenizers.Tokenizer:
    """An encoder that makes no control token of any text: the backend if it makes none, else a copy."""
    controls = _controls(backend, own)
    return _renamed(backend, controls) if _writes(backend, controls) else backend


def _controls(backend: tokenizers.Tokenizer, own: Sequence[int]) -> dict[int, str]:
    """Tokens that steer and are no text, by number: what the file calls special, sentinels, and `own`."""
    if (unknown := backend.token_to_id(UNKNOWN)) is not None:
        own = (*own, unknown)
    added = backend.get_added_tokens_decoder().items()
    found = {i: t.content for i, t in added if t.special or i in own or t.content.startswith(SENTINEL)}
    named = {i: backend.id_to_token(i) for i in own}
    return {i: name for i, name in named.items() if name} | found


def _writes(backend: tokenizers.Tokenizer, controls: Mapping[int, str]) -> bool:
    """Whether some text becomes a control token.

    A Unigram model finds whatever is among its pieces, `</s>` too, which in T5's vocabulary is one.
    """
    texts = [text for name in controls.values() for text in (name, f"a{name}b")]
    encoded = backend.encode_batch(texts, add_special_tokens=False)
    return any(not controls.keys().isdisjoint(e.ids) for e in encoded)


def _renamed(backend: tokenizers.Tokenizer, controls: Mapping[int, str]) -> tokenizers.Tokenizer:
    """The same tokens under the same numbers, with names for `controls` that are in nobody's text.

    For encoding alone: only so does the library find no token and keep all numbers, whatever kind of model it
    is and whatever the file says of added tokens.
    """
    names = {name: f"\0{uuid.uuid4().hex}" for name in controls.values()}
    record = json.loads(backend.to_str())
    record["post_processor"] = None  # it names control tokens, and is never asked
    for token in record["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = record["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return tokenizers.Tokenizer.from_str(json.dumps(record))
