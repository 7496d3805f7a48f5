"""BERT's encoder (arXiv 1810.04805), and those that share its layout: MiniLM, E5, BGE, GTE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fidkit.families.record import Family

if TYPE_CHECKING:
    from fidkit.config import ReaderConfig, StackConfig

TOKEN_TYPES = 2
"""Vectors that say which of two texts a token is of: question, passage."""


@dataclass(frozen=True)
class Bert(Family):
    """Embeddings have positions, types and a norm of their own."""

    def embedding_parameters(self, config: ReaderConfig, stack: StackConfig, vocabulary: int) -> int:
        return (vocabulary + config.positions + TOKEN_TYPES) * stack.width + self.norms(stack, 1)

    def kept_by_embedding(self, stack: StackConfig) -> int:
        return stack.width  # the sum, before its norm


BERT = Bert(
    name="bert",
    modules="fidkit.nn.families.bert",
    feed_forward_drops=False,
    biased=True,
    scaled=True,
    norm_vectors=2,
    norm_keeps=1,
    final_norm=False,
    relative_bias=False,
    learned_positions=True,
    embedding="bert",
    kernels="bert",
)
