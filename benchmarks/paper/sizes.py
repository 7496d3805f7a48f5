"""The paper's systems at three sizes, and what they read.

| system | what it is |
|---|---|
| fid | FiD: equal stacks, multi-head, cross-attention in every layer |
| lsa | + cross-attention in every sixth layer of the decoder (LSA) |
| mq | + one key/value head in the decoder (MQ): FiDO with equal stacks |
| asym | + a larger decoder: FiDO |
| asym-no-lsa, asym-no-mq | FiDO without one part |
| asym-every-K | FiDO with cross-attention in every K-th layer |
| light | FiD that keeps the first sixth of each passage's vectors (FiD-Light) |
| lumen, lumen-mq | FiD and FiDO with a third of the encoder live |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost import Workload
from fidkit.preset import SIZES as STACKS
from fidkit.preset import TINY, TINY_DECODER

MULTI_QUERY = {"self_kv_heads": 1, "cross_kv_heads": 1}
EVERY_PREFIX = "asym-every-"


@dataclass(frozen=True)
class Size:
    """The paper's base and XL, or smaller ones in their place.

    Attributes:
        encoder: also the decoder of all but the asymmetric systems.
        large: the larger decoder.
        large_name: of the larger decoder.
        vocabulary: rows of the embedding tables.
        workload: one question of the paper's experiments.
        every: K of LSA for both decoders.
        sweep: K, passages and output lengths of figures 4 and 6.
        pretraining: the row and the target of the paper's pre-training.
    """

    encoder: StackConfig
    large: StackConfig
    large_name: str
    vocabulary: int
    workload: Workload
    every: tuple[int, int]
    sweep_every: tuple[int, ...]
    sweep_passages: tuple[int, ...]
    sweep_outputs: tuple[int, ...]
    pretraining: Workload

    def system(self, name: str) -> ReaderConfig:
        """The system called `name` (see the module)."""
        if name.startswith(EVERY_PREFIX):
            return self._asymmetric(cross_attention_every=int(name.removeprefix(EVERY_PREFIX)), **MULTI_QUERY)
        lsa, large_lsa = ({"cross_attention_every": every} for every in self.every)
        live = {"live_layers": max(1, self.encoder.layers // 3)}
        made = {
            "fid": lambda: self._symmetric(),
            "lsa": lambda: self._symmetric(**lsa),
            "mq": lambda: self._symmetric(**lsa, **MULTI_QUERY),
            "asym": lambda: self._asymmetric(**large_lsa, **MULTI_QUERY),
            "asym-no-lsa": lambda: self._asymmetric(**MULTI_QUERY),
            "asym-no-mq": lambda: self._asymmetric(**large_lsa),
            "light": lambda: self._symmetric(kept_vectors=self.kept_vectors),
            "lumen": lambda: self._symmetric(**live),
            "lumen-mq": lambda: self._symmetric(**live, **lsa, **MULTI_QUERY),
        }
        return made[name]()

    @property
    def kept_vectors(self) -> int:
        """FiD-Light's: the context of LSA's cost, a K-th of each row."""
        row = self.workload.question_tokens + self.workload.lengths[0]
        return round(row / self.every[0])

    def _symmetric(self, **knobs: Any) -> ReaderConfig:
        return ReaderConfig(
            encoder=self.encoder, decoder=self.encoder, vocabulary_size=self.vocabulary, **knobs
        )

    def _asymmetric(self, **knobs: Any) -> ReaderConfig:
        return ReaderConfig(
            encoder=self.encoder,
            decoder=self.large,
            vocabulary_size=self.vocabulary,
            shared_embedding=False,
            **knobs,
        )


# The papers' rows of 256 tokens: 48 of the question, 208 of the passage.
_FULL: dict[str, Any] = {
    "vocabulary": 32128,
    "workload": Workload(passages=40, question_tokens=48, passage_tokens=208, output_tokens=32),
    "every": (6, 6),
    "sweep_every": (1, 2, 3, 6, 12, 24),
    "sweep_passages": (1, 10, 20, 40, 100, 200),
    "sweep_outputs": (1, 8, 32, 64, 128, 256, 512),
    "pretraining": Workload(passages=1, question_tokens=48, passage_tokens=464, output_tokens=114),
}

SIZES = {
    "tiny": Size(
        encoder=TINY,
        large=TINY_DECODER,
        large_name="larger",
        vocabulary=512,
        workload=Workload(passages=3, question_tokens=4, passage_tokens=12, output_tokens=4),
        every=(3, 2),
        sweep_every=(1, 2),
        sweep_passages=(1, 2),
        sweep_outputs=(1, 4),
        pretraining=Workload(passages=1, question_tokens=4, passage_tokens=20, output_tokens=8),
    ),
    "small": Size(encoder=STACKS["small"], large=STACKS["large"], large_name="large", **_FULL),
    "base": Size(encoder=STACKS["base"], large=STACKS["xl"], large_name="XL", **_FULL),
}
