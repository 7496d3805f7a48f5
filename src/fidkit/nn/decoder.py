"""The decoder: reads a fused context, whichever reader made it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fidkit.config import ReaderConfig
from fidkit.nn.attention import KeysValues, Probe
from fidkit.nn.blocks import TargetEmbedding, blocks
from fidkit.nn.cache import DecoderCache
from fidkit.nn.dropout import Dropout
from fidkit.nn.positions import causal_bias, key_mask_bias

LayerProbe = Callable[[int, Tensor], None]
"""Sees a layer's number and its cross-attention scores [B, H, T, M], before the softmax."""


class Decoder(nn.Module):
    """A causal stack over target tokens with cross-attention to the context."""

    def __init__(self, config: ReaderConfig, embedding: TargetEmbedding) -> None:
        super().__init__()
        family = blocks(config.decoder)
        self.config = config
        self.embedding = embedding
        self.layers = nn.ModuleList(family.decoder_layer(config, reads) for reads in config.cross_layers)
        self.relative_bias = family.decoder_bias(config)
        self.norm = family.last_norm(config.decoder)
        self.dropout = Dropout(config.dropout)

    def project(self, context_BMD: Tensor) -> list[KeysValues | None]:
        """Cross keys and values of each layer, once a question; None where a layer has no cross-attention."""
        return [layer.project(context_BMD) for layer in self.layers]

    def forward(
        self, ids_BT: Tensor, context_BMD: Tensor, mask_BM: Tensor, probe: LayerProbe | None = None
    ) -> Tensor:
        """States [B, T, E] of all target positions at once (teacher forcing)."""
        positions = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        bias = self._self_bias(positions, positions)
        cross, cross_bias = self.project(context_BMD), key_mask_bias(mask_BM)
        x = self.dropout(self.embedding.of_targets(ids_BT, positions))
        for number, layer in enumerate(self.layers):
            x = layer(x, bias, cross[number], cross_bias, _for_layer(probe, number))
        return self.dropout(self.norm(x))

    def start(self, context_BMD: Tensor, mask_BM: Tensor, max_tokens: int, beams: int = 1) -> DecoderCache:
        """Caches for writing `beams` answers of up to `max_tokens` tokens to each question."""
        return DecoderCache(
            self.config,
            cross=self.project(context_BMD),
            cross_bias=key_mask_bias(mask_BM),
            max_tokens=max_tokens,
            like=context_BMD,
            beams=beams,
        )

    def step(self, ids_N: Tensor, cache: DecoderCache) -> Tensor:
        """State [N, E] of the next position; `cache` grows by one position.

        Self-attention sees N rows of one token. Cross-attention sees B questions with their W rows along
        the query axis, so that they share the question's keys and values instead of having copies.

        Raises:
            UsageError: the cache has no room for another position.
        """
        here = cache.next_position()
        positions = torch.arange(here + 1, device=ids_N.device)
        bias = self._self_bias(positions[here:], positions)
        x_N1E = self.embedding.of_targets(ids_N[:, None], positions[here:])
        for number, layer in enumerate(self.layers):
            x_N1E = layer.mix(x_N1E, bias, cache.appender(number))
            x_BWE = x_N1E.view(-1, cache.beams, x_N1E.shape[-1])
            x_BWE = layer.read(x_BWE, cache.cross[number], cache.cross_bias, None)
            x_N1E = layer.think(x_BWE.view_as(x_N1E))
        cache.length += 1
        return self.norm(x_N1E)[:, 0]

    def _self_bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        causal = causal_bias(query_positions, key_positions)
        if self.relative_bias is None:
            return causal
        return self.relative_bias(query_positions, key_positions) + causal


def _for_layer(probe: LayerProbe | None, number: int) -> Probe | None:
    return None if probe is None else lambda scores: probe(number, scores)
