"""Encoder layers in bfloat16, product by product: oneDNN's products are as fast as this hardware gets.

The residual stream is float32: it is narrow beside the rest, and adding in bfloat16 would lose what later
layers change.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fidkit.engine.cpu.products import Products
from fidkit.native import Kernels
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.families.bert import BertEncoderLayer
from fidkit.nn.families.t5 import T5EncoderLayer
from fidkit.nn.layers import RMSNorm


class Layerwise:
    """Runs all layers over vectors [X, D] of whole rows.

    Args:
        kernels: the compiled kernels.
        products: of the layers' matrices.
    """

    def __init__(self, kernels: Kernels, products: Products) -> None:
        self.kernels, self.products = kernels, products

    def __call__(
        self,
        layers: EncoderLayers,
        x_XD: Tensor,
        starts: Tensor,
        longest: int,
        norm: nn.Module | None,
        out_XD: Tensor,
    ) -> None:
        """Encode into `out_XD`; `starts` [R + 1] says where rows begin, the longest has `longest` vectors."""
        if layers.kernels == "bert":
            self._norms_behind(layers, x_XD, starts, longest, norm, out_XD)
            return
        assert norm is None or isinstance(norm, RMSNorm)
        bias = layers.bias_by_distance(longest - 1)
        self._norms_before(layers, x_XD, starts, bias, norm, out_XD)

    def _norms_before(
        self,
        layers: EncoderLayers,
        x_XD: Tensor,
        starts: Tensor,
        bias: Tensor,
        last: RMSNorm | None,
        out_XD: Tensor,
    ) -> None:
        states, change = x_XD.to(torch.float32, copy=True), None
        normed, mixed = torch.empty_like(x_XD), None
        for layer in layers.layers:
            assert isinstance(layer, T5EncoderLayer)
            norm = layer.attention_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            mixed = self._attend(layer, normed, starts, bias, mixed)
            change = self.products(mixed.flatten(1), layer.attention.out)
            norm = layer.feed_forward_norm
            self.kernels.add_norm(states, change, norm.weight.float(), norm.epsilon, normed)
            change = self._think(layer, normed)
        assert change is not None
        if last is None:
            out_XD.copy_(states.add_(change))
        else:
            self.kernels.add_norm(states, change, last.weight.float(), last.epsilon, out_XD)

    def _norms_behind(
        self,
        layers: EncoderLayers,
        x_XD: Tensor,
        starts: Tensor,
        longest: int,
        last: nn.Module | None,
        out_XD: Tensor,
    ) -> None:
        """Layers whose norms stand behind their sub-layers, and whose scores have no bias by distance."""
        states, mixed, none = x_XD.float(), None, None
        for layer in layers.layers:
            assert isinstance(layer, BertEncoderLayer)
            if none is None:
                none = states.new_zeros(layer.attention.heads, 2 * longest - 1)
            mixed = self._attend(layer, states.to(x_XD.dtype), starts, none, mixed)
            change = self.products(mixed.flatten(1), layer.attention.out)
            states = layer.attention_norm(states + change)
            inner = self.products(states.to(x_XD.dtype), layer.feed_forward.inner, gelu=True)
            change = self.products(inner, layer.feed_forward.out)
            states = layer.feed_forward_norm(states + change)
        out_XD.copy_(states if last is None else last(states))

    def _attend(
        self,
        layer: T5EncoderLayer | BertEncoderLayer,
        normed: Tensor,
        starts: Tensor,
        bias: Tensor,
        out: Tensor | None,
    ) -> Tensor:
        """What attention mixes, [X, H, h]; in the memory of an earlier layer's, where there is one."""
        attention = layer.attention
        made = self.products(normed, attention.query, attention.key, attention.value)
        q, k, v = made.view(len(normed), 3, attention.heads, attention.head_width).unbind(1)
        if attention.scale != 1:
            q.mul_(attention.scale)
        return self.kernels.row_attention(q, k, v, starts, bias, out)

    def _think(self, layer: T5EncoderLayer, normed: Tensor) -> Tensor:
        block = layer.feed_forward
        inner = self.products(normed, block.inner)
        if block.gate is None:
            inner.relu_()
        else:
            self.kernels.gated_gelu(self.products(normed, block.gate), inner)
        return self.products(inner, block.out)
