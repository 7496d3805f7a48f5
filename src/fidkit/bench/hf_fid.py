"""FiD on `transformers`' T5, as a user would write it.

Rows of question and passage are padded to the longest and encoded together with a mask; the states of a
question's rows stand side by side; `generate` decodes greedily with its cache. T5 takes one width for both
stacks, and its `generate` no decoder deeper than the encoder, so that the peer is always plain FiD.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fidkit.bench.questions import Questions, Tokens
from fidkit.bench.subjects import DTYPES, Facts, Needs, Subject, at_precision, building
from fidkit.config import ReaderConfig
from fidkit.cost import Workload, batch_bytes
from fidkit.cost.workload import live_rows
from fidkit.engine.precision import Precision
from fidkit.errors import FidkitError

FEED_FORWARD = {"t5": "relu", "t5-v1.1": "gated-gelu"}
# Copies of attention scores that stand in memory at once, at most: eager keeps scores, bias and weights; sdpa
# writes mask and bias out.
_SCORE_COPIES = {"eager": 4, "sdpa": 1}
TRIES = 3
"""Of each way to decode, before the fastest is chosen."""


class HfFid(Subject):
    """FiD on T5.

    Args:
        name: of the subject.
        like: a reader whose encoder's sizes both stacks have.
        dtype: float32 or bfloat16.
        device: it runs on.
        attention: `sdpa`, which is transformers' default, or `eager`.
        model: a `T5ForConditionalGeneration` to run; by default one of random weights.
    """

    def __init__(
        self,
        name: str,
        like: ReaderConfig,
        dtype: Precision,
        device: torch.device,
        attention: str = "sdpa",
        model: Any = None,
    ) -> None:
        self.name, self.dtype, self.device, self.attention = name, dtype, device, attention
        self.config = plain_fid(like)
        self.model = model

    @property
    def facts(self) -> Facts:
        return Facts(
            preset=None,
            dtype=self.dtype,
            config={
                "model": "T5ForConditionalGeneration",
                "attention": self.attention,
                **t5_sizes(self.config),
            },
            reader=self.config,
        )

    def needs(self, workload: Workload) -> Needs:
        padded = at_precision(workload, self.dtype).replace(padded=True)
        memory = batch_bytes(self.config, padded)
        scores = live_rows(padded).pairs * self.config.encoder.heads * padded.value_bytes
        return Needs(memory.weights, memory.total - memory.weights + _SCORE_COPIES[self.attention] * scores)

    def prepare(self, questions: Questions) -> None:
        if self.model is None:
            self.model = random_t5(self.config, DTYPES[self.dtype], self.device, self.attention)
        # No end of sequence: everybody writes the same number of tokens.
        self.model.generation_config.eos_token_id = None
        self.ids, self.mask = pad_rows(questions.rows, self.config.pad_token, self.device)
        self.questions = len(questions.questions)
        self.encoder: Callable[..., Any] = self.model.encoder

    def encode(self) -> None:
        states = self.encoder(input_ids=self.ids, attention_mask=self.mask).last_hidden_state
        self.states_BMD = states.reshape(self.questions, -1, states.shape[-1])
        self.mask_BM = self.mask.reshape(self.questions, -1)

    def decode(self, tokens: int) -> Tensor:
        return self._generate(tokens)

    def _generate(self, tokens: int, **more: Any) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        ids: Tensor = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.states_BMD),
            attention_mask=self.mask_BM,
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            **more,
        )
        return ids[:, 1:]  # without the token that starts the decoder


class HfCompiled(HfFid):
    """The same through `torch.compile`, with the decoder that is fastest on this machine and workload.

    The encoder is compiled with sdpa attention. For the decoder three ways are tried while preparing: sdpa
    and eager attention as they are, and eager attention with static caches and a compiled forward pass.
    """

    WAYS = ("sdpa", "eager", "compiled")

    def __init__(self, like: ReaderConfig, dtype: Precision, device: torch.device, model: Any = None) -> None:
        super().__init__("hf-compile", like, dtype, device, model=model)
        self.way = ""
        self.tried_ms: dict[str, float] = {}

    @property
    def facts(self) -> Facts:
        facts = super().facts
        facts.config.update(compiled=True, decoder=self.way, decoder_tried_ms=self.tried_ms)
        return facts

    def prepare(self, questions: Questions) -> None:
        super().prepare(questions)
        self.encoder = torch.compile(self.model.encoder)
        self.forward: Callable[..., Any] = self.model.forward
        # On other devices `generate` compiles by itself what runs on static caches.
        on_cpu = self.device.type == "cpu"
        self.compiled: Callable[..., Any] = torch.compile(self.forward) if on_cpu else self.forward

    def warm_up(self, tokens: int) -> None:
        """Compile, and take the decoder that writes `tokens` tokens soonest.

        Raises:
            FidkitError: there is no working compiler.
        """
        try:
            self.encode()
            for way in self.WAYS:
                self.use(way)
                self.decode(tokens)
                self.tried_ms[way] = min(self._took(tokens) for _ in range(TRIES))
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise FidkitError(
                f"hf-compile: torch.compile failed: {reason}; install a C++ compiler, or leave hf-compile out"
            ) from error
        self.use(min(self.tried_ms, key=lambda way: self.tried_ms[way]))

    def use(self, way: str) -> None:
        """Decode from now on in one of `WAYS`."""
        self.way = way
        # All of the model, since `generate` makes masks in its form; then the encoder again.
        self.model.set_attn_implementation("sdpa" if way == "sdpa" else "eager")
        self.model.encoder.set_attn_implementation("sdpa")
        self.model.forward = self.compiled if way == "compiled" else self.forward

    def decode(self, tokens: int) -> Tensor:
        return self._generate(
            tokens, **({"cache_implementation": "static"} if self.way == "compiled" else {})
        )

    def _took(self, tokens: int) -> float:
        began = time.perf_counter()
        self.decode(tokens).tolist()  # waits for the device
        return 1000 * (time.perf_counter() - began)


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


def random_t5(config: ReaderConfig, dtype: torch.dtype, device: torch.device, attention: str) -> Any:
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


def pad_rows(rows: Sequence[Tokens], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [R, S] of rows, padded on the right to the longest."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
