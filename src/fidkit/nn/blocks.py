"""What a family of blocks is made of: the small interface that stacks know, and nothing of a family's own.

A family's torch half is a `Blocks`, which builds these parts; `fidkit.families` has its other half.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.config import ReaderConfig, StackConfig
from fidkit.nn.attention import CrossAttention, KeysValues, Probe
from fidkit.nn.positions import PositionBias
from fidkit.nn.rows import Rows

Side = Literal["question", "passage"]
"""What a row is, before question and passage are joined."""


class Embedding(nn.Embedding):
    """Vectors of tokens, `weight` [V, width]. A family adds positions in `of_rows`, `of_targets`.

    Whatever a passage gets must not depend on its question: its memory is to be valid for any.
    """

    def of_rows(self, ids_X: Tensor, rows: Rows, side: Side) -> Tensor:
        """[X, width] of the tokens of all `rows`, which are questions or passages."""
        return self(ids_X)

    def of_targets(self, ids: Tensor, positions_T: Tensor) -> Tensor:
        """[..., T, width] of target tokens [..., T] that stand at these positions."""
        return self(ids)


class SharedWords(nn.Module):
    """The words of another embedding, without what its family adds to them.

    Args:
        embedding: whose table it is.
        standardised: take the mean of all words from each, and give all the length root of the width, as
            vectors of independent numbers around 0 have it. Vectors of public encoders share a large part, so
            that any two look alike; a decoder that is to tell words apart by products starts from these.
    """

    def __init__(self, embedding: Embedding, *, standardised: bool = False) -> None:
        super().__init__()
        self.shared, self.standardised = embedding, standardised
        self._made: tuple[tuple[object, ...], Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """[V, width]."""
        table = self.shared.weight
        if not self.standardised:
            return table
        if torch.is_grad_enabled() and table.requires_grad:
            return standardised(table)
        # Made once, and again when the table has changed, was replaced or converted.
        version = 0 if table.is_inference() else table._version
        state = (table.data_ptr(), version, table.dtype, table.device)
        if self._made is None or self._made[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                self._made = state, standardised(table.detach())
        return self._made[1]

    def forward(self, ids: Tensor) -> Tensor:
        """[..., width] of tokens [...]."""
        return F.embedding(ids, self.weight)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}

    def of_targets(self, ids: Tensor, positions_T: Tensor) -> Tensor:
        """[..., T, width] of target tokens [..., T], wherever they stand."""
        vectors: Tensor = self(ids)
        return vectors


def standardised(table_VE: Tensor) -> Tensor:
    """Rows less their mean, each of length root of the width; computed in float32."""
    table = table_VE.float()
    centred: Tensor = table - table.mean(0)
    return (F.normalize(centred, dim=1) * table.shape[1] ** 0.5).to(table_VE.dtype)


TargetEmbedding = Embedding | SharedWords
"""What a decoder reads its tokens with."""


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward over ragged rows; `forward(x_XD, rows, bias)`.

    `bias` is [1, H, S, S] by position in the row, S the longest row or more: the stack's, 0 where the family
    has none.
    """

    def outputs(self) -> list[nn.Linear]:
        """The last matrix of each sub-layer, whose products are added to the residual stream."""
        raise NotImplementedError


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention where the layer has it, feed-forward.

    A layer without cross-attention owns no parameter of it (FiDO section 3.1).
    """

    cross_attention: CrossAttention | None

    def forward(
        self, x: Tensor, bias: Tensor, cross: KeysValues | None, cross_bias: Tensor, probe: Probe | None
    ) -> Tensor:
        """All positions [B, T, E] at once, as in training; steps take the three parts one by one."""
        return self.think(self.read(self.mix(x, bias, _as_is), cross, cross_bias, probe))

    def project(self, context_BMD: Tensor) -> KeysValues | None:
        """Cross keys and values, once a question; None where the layer has no cross-attention."""
        return None if self.cross_attention is None else self.cross_attention.keys_values(context_BMD)

    def mix(self, x: Tensor, bias: Tensor, remember: Callable[[KeysValues], KeysValues]) -> Tensor:
        """Self-attention, residual included."""
        raise NotImplementedError

    def read(self, x: Tensor, cross: KeysValues | None, bias: Tensor, probe: Probe | None) -> Tensor:
        """Cross-attention, residual included; the identity in a layer that has none."""
        raise NotImplementedError

    def think(self, x: Tensor) -> Tensor:
        """Feed-forward, residual included."""
        raise NotImplementedError

    def outputs(self) -> list[nn.Linear]:
        """The last matrix of each sub-layer, whose products are added to the residual stream."""
        raise NotImplementedError


class Blocks(ABC):
    """Builds the parts of stacks of one family."""

    def embedding(self, config: ReaderConfig, stack: StackConfig, vocabulary: int) -> Embedding:
        """An embedding of so many tokens for an encoder of this shape, or for the decoder."""
        return Embedding(vocabulary, stack.width)

    def decoder_embedding(self, config: ReaderConfig, shared: Embedding | None) -> TargetEmbedding:
        """The decoder's: that of the encoder where the reader shares it, or one of its own.

        Of an encoder of another kind the words alone are shared.
        """
        if shared is None:
            return self.embedding(config, config.decoder, config.vocabulary_size)
        same = config.encoder.blocks.embedding == config.decoder.blocks.embedding
        if same and not config.standardised_embedding:
            return shared
        return SharedWords(shared, standardised=config.standardised_embedding)

    @abstractmethod
    def encoder_layer(self, config: ReaderConfig, stack: StackConfig) -> EncoderLayer:
        """A layer of an encoder of this shape."""

    @abstractmethod
    def decoder_layer(self, config: ReaderConfig, reads_context: bool) -> DecoderLayer:
        """A layer of the decoder, with or without cross-attention."""

    @abstractmethod
    def last_norm(self, stack: StackConfig) -> nn.Module:
        """What comes after the last layer of a stack; `nn.Identity()` where the layers norm their output."""

    def encoder_bias(self, config: ReaderConfig, stack: StackConfig) -> PositionBias | None:
        """Position bias of all layers of an encoder; None where there is none, or each layer has its own."""
        return None

    def decoder_bias(self, config: ReaderConfig) -> PositionBias | None:
        """The same of the decoder's self-attention."""
        return None


def blocks(stack: StackConfig) -> Blocks:
    """The torch half of a stack's family."""
    found: Blocks = import_module(stack.blocks.modules).BLOCKS[stack.family]
    return found


def _as_is(new: KeysValues) -> KeysValues:
    return new
