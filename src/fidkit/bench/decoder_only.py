"""A generic language model that reads the same passages in one prompt, through `transformers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fidkit.bench.questions import Questions, Tokens
from fidkit.bench.subjects import DTYPES, Facts, Needs, Subject, at_precision, building
from fidkit.cost import Workload
from fidkit.engine.precision import Precision

SIZES: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}
"""Qwen2's of 0.5 billion parameters, in `Qwen2Config`'s words; positions suffice for 500 passages."""


class DecoderOnly(Subject):
    """Reads the question after all its passages, then writes.

    Encoding is the forward pass over the prompt, which fills the cache and already has the first token's
    logits; decoding T tokens takes the other T - 1 steps.

    Args:
        dtype: float32 or bfloat16.
        device: it runs on.
        sizes: in `Qwen2Config`'s words.
    """

    name = "decoder-only"

    def __init__(
        self, dtype: Precision, device: torch.device, sizes: Mapping[str, Any] | None = None
    ) -> None:
        self.dtype, self.device = dtype, device
        self.sizes = dict(SIZES if sizes is None else sizes)

    @property
    def facts(self) -> Facts:
        return Facts(preset=None, dtype=self.dtype, config={"model": "Qwen2ForCausalLM", **self.sizes})

    def needs(self, workload: Workload) -> Needs:
        size = at_precision(workload, self.dtype).value_bytes
        width, inner, layers = (
            self.sizes[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
        )
        shared = width * self.sizes["num_key_value_heads"] // self.sizes["num_attention_heads"]
        layer = 2 * width * width + 2 * width * shared + 3 * width * inner
        tokens = workload.questions * (workload.question_tokens + sum(workload.lengths))
        cached = layers * 2 * shared
        return Needs(
            size * (self.sizes["vocab_size"] * width + layers * layer),
            # A step's cache is a copy of the last one's.
            size * tokens * (2 * cached + 6 * width + 3 * inner),
        )

    def prepare(self, questions: Questions) -> None:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        config = Qwen2Config(**self.sizes, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
        config._attn_implementation = "sdpa"
        with building(DTYPES[self.dtype], self.device):
            self.model: Any = Qwen2ForCausalLM(config).eval()
        self.ids, self.mask = pad_prompts(prompts(questions), self.device)
        self.cache: Any = None

    def encode(self) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.first_B = self._step(self.ids, self.mask, positions)

    def decode(self, tokens: int) -> Tensor:
        if surplus := self.cache.get_seq_length() - self.ids.shape[1]:  # what was written last time
            self.cache.crop(-surplus)
        written, mask = [self.first_B], self.mask
        for _ in range(tokens - 1):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            written.append(self._step(written[-1][:, None], mask, mask.sum(1, keepdim=True) - 1))
        return torch.stack(written, 1)

    def _step(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Likeliest next token [B]; the cache grows by `ids`."""
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1].argmax(-1)


def prompts(questions: Questions) -> list[Tokens]:
    """All passages of each question, then the question, once."""
    return [
        [token for passage in passages for token in passage] + question
        for question, passages in zip(questions.questions, questions.passages, strict=True)
    ]


def pad_prompts(rows: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, S], padded on the left, so that all go on at the same place."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
