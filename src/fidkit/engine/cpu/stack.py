"""A run of encoder layers on the CPU's native kernels, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fidkit.checkpoint.stored import Weight
from fidkit.config import StackConfig
from fidkit.engine.cpu.positions import bias_by_distance
from fidkit.engine.cpu.weights import LaidOut, Rounding, Weights, activation_bits, joined, rounded
from fidkit.native import Bits, Encoder, EncoderLayer, Kernels, address

# Vectors that go through all layers together: memory for their activations is that of a chunk, not of 40
# passages.
CHUNK = 2048
RMS_EPSILON = 1e-6
"""Of T5's norms."""
LAYER_EPSILON = 1e-12
"""Of BERT's norms."""

_MATRICES = {
    "query_key_value": ("attention.query", "attention.key", "attention.value"),
    "out": ("attention.out",),
    "inner": ("feed_forward.inner",),
    "gate": ("feed_forward.gate",),
    "feed_forward_out": ("feed_forward.out",),
}
_VECTORS = {
    "attention_norm": "attention_norm.weight",
    "attention_shift": "attention_norm.bias",
    "feed_forward_norm": "feed_forward_norm.weight",
    "feed_forward_shift": "feed_forward_norm.bias",
}


Norm = tuple[np.ndarray, np.ndarray | None]
"""Weight, and bias where the family has one (BERT)."""


class EncoderStack:
    """Encoder layers, laid out for the kernels once; a later change of their weights is not seen.

    Matrices are multiplied in 8 bits where all of these layers' are.

    Args:
        kernels: the compiled kernels.
        stack: sizes of the layers, of a family that the kernels suit (`Family.kernels`).
        layers: parameters of each, by their names in the layer.
        relative_bias: [buckets, heads], where the family has biases by distance.
        max_distance: from which on the bias stays the same.
        rounding: of matrices.
    """

    def __init__(
        self,
        kernels: Kernels,
        stack: StackConfig,
        layers: Sequence[Weights],
        relative_bias: Weight | None,
        max_distance: int,
        rounding: Rounding = "never",
    ) -> None:
        self.kernels, self.stack, self.max_distance = kernels, stack, max_distance
        self.relative_bias = None if relative_bias is None else relative_bias.floats()
        as_read = [
            {name: rounded(w, rounding) for name, w in of.items() if len(w.shape) == 2} for of in layers
        ]
        self.activations: Bits = activation_bits(rounding, kernels)
        if any(w.scale is None for of in as_read for w in of.values()):
            self.activations = 32
            as_read = [{name: Weight(w.floats()) for name, w in of.items()} for of in as_read]
        self._alive: list[object] = []
        made = [self._layer(matrices, of) for matrices, of in zip(as_read, layers, strict=True)]
        self._layers = (EncoderLayer * len(made))(*made)

    def __call__(
        self,
        states_XD: np.ndarray,
        starts: np.ndarray,
        norm: tuple[np.ndarray, np.ndarray | None] | None = None,
    ) -> np.ndarray:
        """Encode float32 vectors in place.

        Args:
            states_XD: of all rows, contiguous.
            starts: [R + 1] int64, where rows begin.
            norm: weight and bias of a norm over what comes out; a bias is BERT's.
        """
        longest = int(np.diff(starts).max(initial=0))
        if not longest:
            return states_XD
        stack, family = self.stack, self.stack.blocks
        bias = None
        if self.relative_bias is not None:
            bias = bias_by_distance(self.relative_bias, longest - 1, self.max_distance)
        behind = family.kernels == "bert"
        for first, end, begins in chunks(starts):
            self.kernels.encode(
                Encoder(
                    states=address(states_XD[first:end]),
                    starts=address(begins),
                    rows=len(begins) - 1,
                    width=stack.width,
                    heads=stack.heads,
                    head=stack.head_width,
                    feed_forward=stack.feed_forward,
                    reach=longest,
                    layers=len(self._layers),
                    layer=self._layers,
                    bias=address(bias),
                    final_norm=None if norm is None else address(norm[0]),
                    final_shift=None if norm is None else address(norm[1]),
                    epsilon=LAYER_EPSILON if behind else RMS_EPSILON,
                    scale=stack.head_width**-0.5 if family.scaled else 1.0,
                    norms_behind=behind,
                ),
                self.activations,
            )
        return states_XD

    def _layer(self, matrices: Weights, layer: Weights) -> EncoderLayer:
        made = EncoderLayer()
        for name, parts in _MATRICES.items():
            if f"{parts[0]}.weight" not in layer:
                continue
            biases = [layer[f"{part}.bias"] for part in parts if f"{part}.bias" in layer]
            bias = joined(biases).floats() if biases else None
            weight = joined([matrices[f"{part}.weight"] for part in parts])
            laid_out = LaidOut.of(weight, bias, self.kernels.lanes, self.activations)
            self._alive.append(laid_out)
            setattr(made, name, laid_out.packed())
        for name, parameter in _VECTORS.items():
            if parameter in layer:
                vector = np.ascontiguousarray(layer[parameter].floats())
                self._alive.append(vector)
                setattr(made, name, address(vector))
        return made


def layers_of(weights: Weights, layers: int) -> list[Weights]:
    """The parameters of each of some layers, by their names in it."""
    by_layer: list[dict[str, Weight]] = [{} for _ in range(layers)]
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        if part == "layers" and int(number) < layers:
            by_layer[int(number)][leaf] = weight
    return list(by_layer)


def chunks(starts: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Whole rows of about `CHUNK` vectors together: first vector, end, and where rows begin in between."""
    begin = 0
    for row in range(1, len(starts)):
        if row + 1 == len(starts) or starts[row + 1] - starts[begin] > CHUNK:
            first = int(starts[begin])
            yield first, int(starts[row]), starts[begin : row + 1] - first
            begin = row
