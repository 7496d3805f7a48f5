"""What all peers on the weights of `transformers`' T5 have in common, whatever library runs them.

Rows of question and passage are sorted by length and encoded in sub-batches with a mask; the states of a
question's rows stand side by side without padding; the decoder writes greedily. T5 takes one width for both
stacks, and its `generate` no decoder deeper than the encoder, so that such a peer is always plain FiD.
"""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fidkit.bench.batches import SortedRows, SubBatch
from fidkit.bench.encoder_error import fits_float32, relative_error, sample
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import DTYPES, Subject, building
from fidkit.config import ReaderConfig
from fidkit.engine.precision import Precision

FEED_FORWARD = {"t5": "relu", "t5-v1.1": "gated-gelu"}
SIZES = {"cpu": (1, 2, 8), "cuda": (8, 40)}
"""Rows of a sub-batch that are tried, by device: a CPU wants its caches to hold one, a GPU much at a time."""

LONG_MS = 5000
"""A try that takes longer is the only one of its kind."""


class T5Fid(Subject):
    """FiD on the weights of a T5.

    While it warms up, it tries each way to encode with each size of sub-batches, and keeps the fastest.

    Args:
        name: of the subject.
        like: a reader whose encoder's sizes both stacks have.
        dtype: of weights and activations.
        device: it runs on.
        model: a `T5ForConditionalGeneration` to run; by default one of random weights.
    """

    ENCODERS: Sequence[str] = ("",)
    """Ways to encode; see `use_encoder`."""

    def __init__(
        self, name: str, like: ReaderConfig, dtype: Precision, device: torch.device, model: Any = None
    ) -> None:
        self.name, self.dtype, self.device = name, dtype, device
        self.config = plain_fid(like)
        self.model = model
        self.encoder_tried_ms: dict[str, float] = {}
        self.size = SIZES[device.type][-1]
        self.way = self.ENCODERS[0]

    @abstractmethod
    def run_batch(self, batch: SubBatch) -> Tensor:
        """States [R, S, D] of a sub-batch; whatever stands where padding is."""

    def use_encoder(self, way: str) -> None:
        """Encode from now on in one of `ENCODERS`."""
        self.way = way

    def sort_rows(self, questions: Questions) -> SortedRows:
        """Rows in sub-batches of the present size."""
        return SortedRows(questions, self.size, self.config.pad_token, self.device)

    def use_size(self, size: int) -> None:
        """Encode from now on so many rows at a time."""
        self.size = size
        self.rows = self.sort_rows(self.questions)

    def prepare(self, questions: Questions) -> None:
        self.questions = questions
        self.use_size(self.size)
        if self.model is None:
            self.model = random_t5(self.config, DTYPES[self.dtype], self.device)
        self.expected_MD = self._expected(sample(questions))

    def encode(self) -> None:
        self.fused_BMD = self._encode(self.rows)

    def choose_encoder(self) -> None:
        """Try all ways to encode, and keep the fastest."""
        rows = len(self.questions.rows)
        sizes = sorted({min(size, rows) for size in SIZES[self.device.type]})
        for way in self.ENCODERS:
            self.use_encoder(way)
            self.run_batch(self.rows.batches[0])  # compiles
            for size in sizes:
                self.use_size(size)
                name = f"{way} x {size}" if way else f"x {size}"
                ms = self.took(self._encoded)
                # What is new about a size takes no seconds.
                self.encoder_tried_ms[name] = ms if ms > LONG_MS else min(ms, self.took(self._encoded))
        tries = [(way, size) for way in self.ENCODERS for size in sizes]
        times = list(self.encoder_tried_ms.values())
        way, size = tries[times.index(min(times))]
        self.use_encoder(way)
        self.use_size(size)

    def warm_up(self, tokens: int) -> None:
        self.choose_encoder()
        self.encode()
        self.decode(tokens)

    def encoder_error(self) -> float | None:
        if self.expected_MD is None:
            return None
        return relative_error(self._encode(self.sort_rows(sample(self.questions)))[0], self.expected_MD)

    def took(self, run: Callable[[], Tensor]) -> float:
        """Milliseconds until a result is there."""
        began = time.perf_counter()
        run().flatten()[:1].tolist()  # waits for the device
        return 1000 * (time.perf_counter() - began)

    @torch.inference_mode()
    def _expected(self, questions: Questions) -> Tensor | None:
        """Fused states by the same weights in float32, if there is room for them."""
        if not fits_float32(self.config, self.device):
            return None
        encoder = self.model.encoder
        if encoder.dtype != torch.float32:
            encoder = copy.deepcopy(encoder).float()
        rows = self.sort_rows(questions)
        found = rows.fuse(encoder(batch.ids, batch.mask).last_hidden_state for batch in rows.batches)
        return found[0]

    def _encoded(self) -> Tensor:
        self.encode()
        return self.fused_BMD

    def _encode(self, rows: SortedRows) -> Tensor:
        return rows.fuse(self.run_batch(batch) for batch in rows.batches)


def plain_fid(like: ReaderConfig) -> ReaderConfig:
    """FiD with the encoder of `like` and a decoder of the same size."""
    return ReaderConfig(
        encoder=like.encoder,
        decoder=like.encoder,
        vocabulary_size=like.vocabulary_size,
        tied_head=like.tied_head,
        relative_buckets=like.relative_buckets,
        relative_max_distance=like.relative_max_distance,
        pad_token=like.pad_token,
        end_token=like.end_token,
    )


def t5_sizes(config: ReaderConfig) -> dict[str, Any]:
    """`T5Config`'s words for a plain FiD reader."""
    stack = config.encoder
    return {
        "vocab_size": config.vocabulary_size,
        "d_model": stack.width,
        "d_kv": stack.head_width,
        "d_ff": stack.feed_forward,
        "num_layers": stack.layers,
        "num_decoder_layers": stack.layers,
        "num_heads": stack.heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "feed_forward_proj": FEED_FORWARD[config.encoder.family],
        "tie_word_embeddings": config.tied_head,
    }


def random_t5(config: ReaderConfig, dtype: torch.dtype, device: torch.device, attention: str = "sdpa") -> Any:
    """A `T5ForConditionalGeneration` in eval mode with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokens: dict[str, Any] = {
        "pad_token_id": config.pad_token,
        "eos_token_id": config.end_token,
        "decoder_start_token_id": config.pad_token,
    }
    sizes = T5Config(**t5_sizes(config), **tokens)
    sizes._attn_implementation = attention
    with building(dtype, device):
        model = T5ForConditionalGeneration(sizes).eval()
        if not config.tied_head:
            # transformers 5 ties every head that it makes itself, also where T5 v1.1 has its own.
            head = torch.randn(config.vocabulary_size, config.encoder.width) * config.encoder.width**-0.5
            model.lm_head.weight = nn.Parameter(head)
    return model
