"""FiD on `transformers`' T5, as a competent user would write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fidkit.bench.batches import SubBatch
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import Facts, Needs, at_precision
from fidkit.bench.t5_fid import SIZES, T5Fid, t5_sizes
from fidkit.config import ReaderConfig
from fidkit.cost import Workload, batch_bytes
from fidkit.cost.workload import live_rows
from fidkit.engine.precision import Precision
from fidkit.errors import FidkitError

# Copies of attention scores that stand in memory at once, at most: eager keeps scores, bias and weights; sdpa
# writes mask and bias out.
_SCORE_COPIES = {"eager": 4, "sdpa": 1}
TRIES = 3
"""Of each way to decode, before the fastest is chosen."""


class HfFid(T5Fid):
    """FiD on T5 with one kind of attention; `generate` decodes with its cache.

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
        super().__init__(name, like, dtype, device, model)
        self.attention = attention

    @property
    def facts(self) -> Facts:
        return Facts(
            preset=None,
            dtype=self.dtype,
            config={
                "model": "T5ForConditionalGeneration",
                **self.choices,
                **t5_sizes(self.config),
            },
            reader=self.config,
        )

    @property
    def choices(self) -> dict[str, Any]:
        """What a row says of how it runs."""
        return {
            "attention": self.attention,
            "sub_batch": self.size,
            "encoder_tried_ms": self.encoder_tried_ms,
        }

    @property
    def hungriest(self) -> str:
        """Of the kinds of attention that run, what needs most memory."""
        return self.attention

    def needs(self, workload: Workload) -> Needs:
        padded = at_precision(workload, self.dtype).replace(padded=True)
        memory = batch_bytes(self.config, padded)
        scores = live_rows(padded).pairs * self.config.encoder.heads * padded.value_bytes
        at_once = min(1.0, SIZES[self.device.type][-1] / (workload.questions * workload.passages))
        reading = at_once * (memory.reading + _SCORE_COPIES[self.hungriest] * scores)
        return Needs(memory.weights, memory.total - memory.weights - memory.reading + int(reading))

    def prepare(self, questions: Questions) -> None:
        super().prepare(questions)
        # No end of sequence: everybody writes the same number of tokens.
        self.model.generation_config.eos_token_id = None
        self.model.set_attn_implementation(self.attention)
        self.encoder: Callable[..., Any] = self.model.encoder

    def run_batch(self, batch: SubBatch) -> Tensor:
        mask = batch.mask if batch.padded else None
        states: Tensor = self.encoder(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        return states

    def decode(self, tokens: int) -> Tensor:
        return self._generate(tokens)

    def _generate(self, tokens: int, **more: Any) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        ids: Tensor = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.fused_BMD),
            attention_mask=self.rows.mask_BM,
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            **more,
        )
        return ids[:, 1:]  # without the token that starts the decoder


class HfFastest(HfFid):
    """FiD on T5 with the attention that is fastest on this machine and workload, in each stack."""

    ENCODERS: Sequence[str] = ("sdpa", "eager")
    DECODERS: Sequence[str] = ("sdpa", "eager")

    def __init__(
        self, name: str, like: ReaderConfig, dtype: Precision, device: torch.device, model: Any = None
    ) -> None:
        super().__init__(name, like, dtype, device, model=model)
        self.decoder_way = self.DECODERS[0]
        self.decoder_tried_ms: dict[str, float] = {}

    @property
    def choices(self) -> dict[str, Any]:
        chosen = {"attention": self.way, "decoder": self.decoder_way}
        return super().choices | chosen | {"decoder_tried_ms": self.decoder_tried_ms}

    def use_encoder(self, way: str) -> None:
        super().use_encoder(way)
        self.model.encoder.set_attn_implementation(way)

    def use_decoder(self, way: str) -> None:
        """Decode from now on in one of `DECODERS`."""
        self.decoder_way = way
        # All of the model, since `generate` makes masks in its form; then the encoder again.
        self.model.set_attn_implementation("sdpa" if way == "sdpa" else "eager")
        self.use_encoder(self.way)

    def choose_decoder(self, tokens: int) -> None:
        """Take the way to decode that writes `tokens` tokens soonest."""
        for way in self.DECODERS:
            self.use_decoder(way)
            self.decode(tokens)
            self.decoder_tried_ms[way] = min(self.took(lambda: self.decode(tokens)) for _ in range(TRIES))
        self.use_decoder(min(self.decoder_tried_ms, key=lambda way: self.decoder_tried_ms[way]))

    def warm_up(self, tokens: int) -> None:
        self.choose_encoder()
        self.encode()
        self.choose_decoder(tokens)

    @property
    def hungriest(self) -> str:
        return "eager"


class HfCompiled(HfFastest):
    """The same through `torch.compile`.

    The encoder is compiled with sdpa attention, for any number of rows of any length, and tried with weights
    as they are and frozen into what is compiled. The decoder is tried as it is, and with eager attention,
    static caches and a compiled forward pass.
    """

    ENCODERS = ("compiled", "frozen")
    DECODERS = ("sdpa", "eager", "compiled")

    def __init__(self, like: ReaderConfig, dtype: Precision, device: torch.device, model: Any = None) -> None:
        super().__init__("hf-compile", like, dtype, device, model)

    @property
    def choices(self) -> dict[str, Any]:
        return super().choices | {"attention": "sdpa", "compiled": True, "encoder": self.way}

    def needs(self, workload: Workload) -> Needs:
        needs = super().needs(workload)
        return Needs(2 * needs.weights, needs.working)  # what is frozen is a copy

    def use_encoder(self, way: str) -> None:
        self.way, self.encoder = way, self.encoders[way]
        self.model.encoder.set_attn_implementation("sdpa")

    def prepare(self, questions: Questions) -> None:
        super().prepare(questions)
        encoder = self.model.encoder
        self.encoders: dict[str, Callable[..., Any]] = {
            "compiled": torch.compile(encoder, dynamic=True),
            "frozen": torch.compile(encoder, dynamic=True, options={"freezing": True}),
        }
        self.use_encoder(self.way)
        self.forward: Callable[..., Any] = self.model.forward
        # On other devices `generate` compiles by itself what runs on static caches.
        on_cpu = self.device.type == "cpu"
        self.compiled: Callable[..., Any] = torch.compile(self.forward) if on_cpu else self.forward

    def run_batch(self, batch: SubBatch) -> Tensor:
        # Always with a mask: without one it would be compiled once more.
        states: Tensor = self.encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        return states

    def warm_up(self, tokens: int) -> None:
        """Compile, and take the fastest of what is tried.

        Raises:
            FidkitError: there is no working compiler.
        """
        try:
            super().warm_up(tokens)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise FidkitError(
                f"hf-compile: torch.compile failed: {reason}; install a C++ compiler, or leave hf-compile out"
            ) from error

    def use_decoder(self, way: str) -> None:
        super().use_decoder(way)
        self.model.forward = self.compiled if way == "compiled" else self.forward

    def decode(self, tokens: int) -> Tensor:
        static = {"cache_implementation": "static"} if self.decoder_way == "compiled" else {}
        return self._generate(tokens, **static)
