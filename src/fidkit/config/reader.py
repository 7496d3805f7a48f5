"""The space of readers.

A reader is one point of this space; FiD, FiD-Light, FiDO, MemoryFiD and LUMEN are names for some
points (`fidkit.presets`). Combinations no paper tried are as valid as those with a name.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fidkit import families
from fidkit.config.formats import FORMAT_FIELDS, check_format
from fidkit.config.possible import require_possible
from fidkit.config.stack import MOST, StackConfig, in_family, said_family, whole_layers, without_family
from fidkit.config.strict import Strict, parse, said
from fidkit.errors import ConfigError

FORMAT_VERSION = 1
LATER = (
    "memory_encoder",
    "frozen",
    "live_attention",
    "rerank",
    "memory_vocabulary_size",
    "memory_end_token",
    "positions",
    "passage_position",
    "start_token",
    "question_end_token",
    "title_end_token",
    "token_skip",
    "standardised_embedding",
    "head_bias",
    "extractive",
)
"""Knobs that a file of format 1 may leave out; then they have their defaults."""
STACKS = ("encoder", "decoder", "memory_encoder")


class RerankConfig(Strict):
    """Passages are scored on the way, and only the best are read to the end (GLIMMER).

    Attributes:
        after: live layers that run over all passages; a score is made of what they leave.
        keep: passages of each question that go through the other live layers and into the context.
    """

    after: int = Field(ge=1)
    keep: int = Field(ge=1, le=MOST)


LiveAttention = Literal["full", "passage-sees-question", "question-sees-passage", "apart"]
"""Who attends to whom in the live layers, where question and passage stand in one row.

`full`: everyone. `passage-sees-question`: vectors of the question attend to the question alone, those of the
passage to both, so that nothing flows from memory to question (the LUMEN paper's "no mem2q").
`question-sees-passage`: the other way round ("no q2mem"). `apart`: neither sees the other.
"""
Part = Literal["memory", "question", "embedding"]


class ReaderConfig(Strict):
    """A point in the space of Fusion-in-Decoder readers.

    Attributes:
        encoder, decoder: the two stacks, of independent size and family. In files and in Python, `block`
            names the family of all stacks at once, where it is one.
        vocabulary_size: rows of the embedding tables.
        tied_head: logits from the decoder's embedding, scaled by width ** -0.5, as T5 v1.0 does.
        shared_embedding: encoder and decoder share one table (needs equal widths).
        standardised_embedding: the decoder reads and writes the shared table with its mean taken from each
            word, and all words of one length; see `fidkit.nn.blocks.SharedWords`.
        head_bias: logits begin with a learned number a token.
        extractive: answers are pieces of the passages' titles and texts, unless `Decoding` says otherwise;
            for readers that were trained on such answers. Needs `token_skip`, which has tokens at hand.
        token_skip: keys and values of cross-attention are made of each state and, beside it, of its token and
            of the token before that in its row, as the decoder writes them. So a decoder learns in minutes to
            copy: what stands in a passage need not be read out of its states. A memory stores no more for it,
            since tokens are at hand.
        live_layers: encoder layers that run per question, the last ones; the others run once per passage,
            and once per question by itself (LUMEN). All of them: FiD. None of them: MemoryFiD. `None` means
            all. A proportion such as `"1/3"` is taken where it gives a whole number of layers.
        memory_encoder: the stack that passages go through once in their life, where it is not the
            encoder's first layers: deeper or wider (LUMEN's memory shape). It has an embedding of its own.
            Memory of another width than the encoder's is projected, live. `None` means the encoder's first
            layers, those that are not live.
        memory_vocabulary_size: rows of the memory encoder's embedding, where passages have a tokenizer of
            their own. Its memory is projected, live, whatever its width. `None` means one vocabulary for all.
        memory_end_token: ends a passage in that vocabulary; `None` means `end_token`.
        frozen: parts that training leaves alone and that never drop out: `memory`, so that a stored memory
            stays valid while the reader is trained, `question` (the LUMEN paper's ablation), and `embedding`,
            the vectors of the encoder's words.
        live_attention: who attends to whom where question and passage are joined; see `LiveAttention`.
        rerank: score passages on the way and read on with the best (GLIMMER). `None` reads all to the end.
        kept_vectors: vectors of each passage that the decoder sees (FiD-Light). `None` means all.
        question_in_context: `each` keeps the question's vectors in front of every passage (FiD),
            `once` puts them in front of the context a single time (MemoryFiD), `none` drops them.
        cross_attention_every: K; decoder layers K, 2K, ... (counted from 1) have cross-attention
            (FiDO section 3.1).
        self_kv_heads, cross_kv_heads: key/value heads of the decoder's self- and cross-attention:
            1 is multi-query (FiDO section 3.2), the number of query heads is multi-head.
            `None` means multi-head.
        positions: vectors of learned positions, in families that have them.
        passage_position: of these, the one where passages begin. It doesn't depend on the question, so that
            a passage's memory is valid for any; questions begin at 0. At 0, which is where encoders of
            sentences know texts from, the two are told apart by their types of text.
        relative_buckets, relative_max_distance: T5's relative position bias; the distance is more than half
            of the buckets, since half of a decoder's have a distance each.
        dropout: training only.
        question_tokens, passage_tokens: what the reader takes of each, their prefixes included.
        question_format, passage_format: the text in front of the tokenizer, with `{question}` in the one
            and `{text}` in the other, which may have `{title}` too.
        pad_token, end_token: fill up rows, and start an answer; end answers and passages.
        start_token, question_end_token: in front of a question's tokens, and behind them; `None` puts nothing
            there.
        title_end_token: stands between title and text of a passage, which are then tokenised apart;
            `passage_format` has nothing but the two, `{title}{text}`. `None` leaves that to the format.
    """

    encoder: StackConfig
    decoder: StackConfig
    vocabulary_size: int = Field(default=32128, ge=2, le=MOST)
    tied_head: bool = False
    shared_embedding: bool = True
    standardised_embedding: bool = False
    head_bias: bool = False
    token_skip: bool = False
    extractive: bool = False
    live_layers: int | None = Field(default=None, ge=0)
    memory_encoder: StackConfig | None = None
    memory_vocabulary_size: int | None = Field(default=None, ge=2, le=MOST)
    memory_end_token: int | None = Field(default=None, ge=0)
    frozen: tuple[Part, ...] = ("memory",)
    live_attention: LiveAttention = "full"
    rerank: RerankConfig | None = None
    kept_vectors: int | None = Field(default=None, ge=1, le=MOST)
    question_in_context: Literal["each", "once", "none"] = "each"
    cross_attention_every: int = Field(default=1, ge=1)
    self_kv_heads: int | None = Field(default=None, ge=1)
    cross_kv_heads: int | None = Field(default=None, ge=1)
    positions: int = Field(default=512, ge=2, le=MOST)
    passage_position: int = Field(default=48, ge=0, le=MOST)
    relative_buckets: int = Field(default=32, ge=4, le=MOST)
    relative_max_distance: int = Field(default=128, ge=2, le=MOST)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    question_tokens: int = Field(default=48, ge=4, le=MOST)
    passage_tokens: int = Field(default=208, ge=4, le=MOST)
    question_format: str = "question: {question}"
    passage_format: str = "title: {title} context: {text}"
    pad_token: int = Field(default=0, ge=0)
    end_token: int = Field(default=1, ge=0)
    start_token: int | None = Field(default=None, ge=0)
    question_end_token: int | None = Field(default=None, ge=0)
    title_end_token: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_family(cls, given: Any) -> Any:
        """`block` is the family of every stack that doesn't say its own."""
        if not isinstance(given, dict) or "block" not in given:
            return given
        fields = {name: value for name, value in given.items() if name != "block"}
        block = given["block"]
        if not isinstance(block, str) or block not in families.FAMILIES:
            raise ValueError(f"block: {block!r} is no family; choose one of {', '.join(families.FAMILIES)}")
        for name in STACKS:
            own = said_family(fields.get(name))
            if own not in (None, block):
                raise ValueError(f"block is {block}, but {name}.family is {own}; leave one of them out")
        return fields | in_family(fields, {name: block for name in STACKS})

    @field_validator("live_layers", mode="before")
    @classmethod
    def _whole_layers(cls, given: Any, info: ValidationInfo) -> Any:
        encoder = info.data.get("encoder")
        if isinstance(given, str | Fraction) and encoder is not None:
            return whole_layers(encoder.layers, given)
        if isinstance(given, float) and not given.is_integer():
            raise ValueError(f'{given} is no number of layers; write a proportion as text, such as "1/3"')
        return given

    @field_validator("question_format", "passage_format")
    @classmethod
    def _fillable(cls, form: str, info: ValidationInfo) -> str:
        check_format(form, *FORMAT_FIELDS[str(info.field_name)])
        return form

    @model_validator(mode="after")
    def _possible(self) -> ReaderConfig:
        if self.live_layers is None:
            object.__setattr__(self, "live_layers", self.encoder.layers)
        for name in ("self_kv_heads", "cross_kv_heads"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.decoder.heads)
        require_possible(self)
        return self

    @property
    def live(self) -> int:
        """Live encoder layers as a number (never None)."""
        return self.encoder.layers if self.live_layers is None else self.live_layers

    @property
    def question_layers(self) -> int:
        """Layers of the question encoder: the encoder's that are not live."""
        return self.encoder.layers - self.live

    @property
    def memory_layers(self) -> int:
        """Layers that run once per passage; without any there is no memory."""
        return self.memory_encoder.layers if self.memory_encoder else self.question_layers

    @property
    def memory_stack(self) -> StackConfig:
        """Width, heads and feed-forward of the memory encoder; `memory_layers` says how deep it is."""
        return self.memory_encoder or self.encoder

    @property
    def memory_width(self) -> int:
        """Size of the vectors that are stored, before any projection."""
        return self.memory_stack.width

    @property
    def projects_memory(self) -> bool:
        """Whether memory is brought into the encoder's space: it is of another width, or of other tokens."""
        return self.memory_width != self.encoder.width or self.memory_vocabulary_size is not None

    @property
    def context_width(self) -> int:
        """Size of the vectors that cross-attention's keys and values are made of."""
        return self.encoder.width + (2 * self.decoder.width if self.token_skip else 0)

    @property
    def passage_end_token(self) -> int:
        """What a passage ends with."""
        return self.end_token if self.memory_end_token is None else self.memory_end_token

    @property
    def passage_vocabulary_size(self) -> int:
        """Rows of the embedding that passages go through."""
        return self.memory_vocabulary_size or self.vocabulary_size

    @property
    def alpha(self) -> Fraction:
        """Live proportion of the encoder (LUMEN's alpha); a memory encoder of its own makes no difference."""
        return Fraction(self.live, self.encoder.layers)

    @property
    def cross_layers(self) -> tuple[bool, ...]:
        """For each decoder layer, whether it has cross-attention."""
        every = self.cross_attention_every
        return tuple((layer + 1) % every == 0 for layer in range(self.decoder.layers))

    @property
    def kv_heads(self) -> tuple[int, int]:
        """Key/value heads of the decoder's self- and cross-attention as numbers."""
        heads = self.decoder.heads
        return self.self_kv_heads or heads, self.cross_kv_heads or heads

    def replace(self, **changes: Any) -> Any:
        """A validated copy with some fields changed.

        A stack that doesn't say its family has that of the stack whose place it takes.

        Raises:
            ConfigError: an unknown field, or a combination that cannot be built.
        """
        fields = self.model_dump()
        if "block" in changes:
            fields |= {name: without_family(fields[name]) for name in STACKS}
        else:
            here = {"encoder": self.encoder, "decoder": self.decoder, "memory_encoder": self.memory_stack}
            changes |= in_family(changes, {name: stack.family for name, stack in here.items()})
        return parse(type(self), {**fields, **changes}, type(self).__name__)

    def record(self) -> dict[str, Any]:
        """All fields, without later knobs that have their defaults.

        So a reader's file and fingerprint stay the same when the space grows, and an older fidkit reads what
        it can. That is also why one family of all stacks is said once, as `block`, and not by each of them.
        """
        fields = type(self).model_fields
        unsaid = {name for name in LATER if getattr(self, name) == fields[name].default}
        record = self.model_dump(exclude=unsaid)
        stacks = [name for name in STACKS if record.get(name)]
        if len({record[name]["family"] for name in stacks}) > 1:
            return record
        ordered: dict[str, Any] = {}
        for name, value in record.items():
            ordered[name] = without_family(value) if name in stacks else value
            if name == "vocabulary_size":
                ordered["block"] = self.encoder.family
        return ordered

    def save(self, path: Path) -> None:
        record = {"format_version": FORMAT_VERSION, **self.record()}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ReaderConfig:
        """Read `config.json`.

        Raises:
            ConfigError: not JSON, a newer format, an unknown key, or an impossible combination.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}: expected a reader's config.json, but {said(error)}; save or download it again"
            ) from error
        if not isinstance(record, dict):
            raise ConfigError(f"{path}: expected a JSON object, got {type(record).__name__}")
        version = record.pop("format_version", None)
        if version is None and "model_type" in record:
            raise ConfigError(
                f"{path.parent}: a Hugging Face checkpoint ({record['model_type']}), not a fidkit reader; "
                f"run `fidkit convert {path.parent} NEW_DIRECTORY` and load that"
            )
        if version is None:
            raise ConfigError(
                f"{path}: expected a reader's config.json, but it has no format_version; save or download "
                "it again"
            )
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
            raise ConfigError(
                f"{path}: format_version is {version!r}, this fidkit reads up to {FORMAT_VERSION}; "
                "upgrade fidkit"
            )
        config: ReaderConfig = parse(cls, record, str(path))
        return config
