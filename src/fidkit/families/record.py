"""What a family of blocks brings, as far as it can be said without torch.

Cost formulas and configurations ask a family; nobody asks for its name. A family whose numbers are no mere
values of these fields overrides a method in a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fidkit.config import ReaderConfig, StackConfig

Kernels = Literal["t5", "bert"]
"""Fast ways through layers that there are.

`t5`: an RMS norm before each sub-layer and after the last, a bias by distance that all layers of a stack
share, no biases of products, scores as they are, and a feed-forward layer of ReLU or, with a gate, of GELU in
its tanh form; encoders and decoders, on CPUs and CUDA. `bert`: a norm with a bias behind each sub-layer, no
bias by distance, products with biases, scores over the root of the head width, GELU in its exact form;
encoders on CPUs."""


@dataclass(frozen=True)
class Matrix:
    """A linear map, stored as [outputs, inputs], and a bias a place of its outputs where it has one."""

    inputs: int
    outputs: int
    biased: bool = False

    @property
    def products(self) -> int:
        """Weights that a vector is multiplied with."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        return self.products + (self.outputs if self.biased else 0)


@dataclass(frozen=True)
class Family:
    """How the layers of a stack are built: what costs, configurations and kernels have to know.

    Attributes:
        name: as `StackConfig.family` says it.
        modules: where its torch half is, imported when it is needed: a module with `BLOCKS`, from names of
            families to `fidkit.nn.blocks.Blocks`.
        feed_forward_inputs: matrices that the feed-forward layer's input goes through: 2 with a gate.
        feed_forward_keeps: inner values of the feed-forward layer that training keeps of a token, in units of
            `StackConfig.feed_forward`: without dropout, and with it.
        feed_forward_drops: inner values of the feed-forward layer drop out.
        biased: products of attention and feed-forward have a bias.
        scaled: scores are over the root of the head width.
        norm_vectors: parameters of a norm, in units of its width.
        norm_keeps: float32 numbers that training keeps of a value for its norm: as it is, and divided by the
            root mean square where the norm doesn't do without.
        final_norm: the stack ends with a norm of its own.
        relative_bias: scores have a bias by distance, from one table a stack.
        layer_bias: scores have a bias by distance, from a table of each layer.
        learned_positions: embeddings have a vector for each position, `ReaderConfig.positions` of them.
        embedding: stacks whose families say the same here can share an embedding; one of `tokens` alone
            shares the words of any.
        kernels: which of the fast kernels suit; None leaves the plain path.
    """

    name: str
    modules: str
    feed_forward_inputs: int = 1
    feed_forward_keeps: tuple[int, int] = (2, 2)
    feed_forward_drops: bool = True
    biased: bool = False
    scaled: bool = False
    norm_vectors: int = 1
    norm_keeps: int = 2
    final_norm: bool = True
    relative_bias: bool = True
    layer_bias: bool = False
    learned_positions: bool = False
    embedding: str = "tokens"
    kernels: Kernels | None = None

    # Matrices

    def self_matrices(self, stack: StackConfig, kv_heads: int) -> list[Matrix]:
        """Query, key, value and output of a layer's self-attention."""
        inner, shared = stack.heads * stack.head_width, kv_heads * stack.head_width
        return [
            Matrix(stack.width, inner, self.biased),
            Matrix(stack.width, shared, self.biased),
            Matrix(stack.width, shared, self.biased),
            Matrix(inner, stack.width, self.biased),
        ]

    def cross_matrices(self, stack: StackConfig) -> list[Matrix]:
        """Query and output of a layer's cross-attention, applied every step."""
        inner = stack.heads * stack.head_width
        return [Matrix(stack.width, inner, self.biased), Matrix(inner, stack.width, self.biased)]

    def context_matrices(self, stack: StackConfig, kv_heads: int, context_width: int) -> list[Matrix]:
        """Key and value of a layer's cross-attention, applied once a question."""
        shared = kv_heads * stack.head_width
        return [Matrix(context_width, shared, self.biased)] * 2

    def feed_forward_matrices(self, stack: StackConfig) -> list[Matrix]:
        """Into the inner layer (twice where one is a gate), and out of it."""
        inner = Matrix(stack.width, stack.feed_forward, self.biased)
        return [inner] * self.feed_forward_inputs + [Matrix(stack.feed_forward, stack.width, self.biased)]

    # Parameters that are no matrices

    def norms(self, stack: StackConfig, count: int) -> int:
        """Parameters of `count` norms."""
        return count * self.norm_vectors * stack.width

    def last_norm(self, stack: StackConfig) -> int:
        """Parameters of the norm after the last layer."""
        return self.norms(stack, 1) if self.final_norm else 0

    def positions(self, config: ReaderConfig, stack: StackConfig, layers: int) -> int:
        """Parameters of position biases in a run of `layers` layers."""
        return config.relative_buckets * stack.heads if self.relative_bias and layers else 0

    def embedding_parameters(self, config: ReaderConfig, stack: StackConfig, vocabulary: int) -> int:
        """Parameters of an embedding of its own."""
        return vocabulary * stack.width

    # Values a token that are alive at once, or go through memory

    def activation_values(self, stack: StackConfig) -> int:
        """Inner values of the feed-forward layer: what its matrices make, and what is made of that."""
        return (self.feed_forward_inputs + 1) * stack.feed_forward

    def kept_by_embedding(self, stack: StackConfig) -> int:
        """Values that training keeps of a token where its vector is computed, and not just looked up."""
        return 0

    def kept_by_feed_forward(self, stack: StackConfig, *, drops: bool) -> int:
        """Inner values that training keeps of a token."""
        return self.feed_forward_keeps[drops] * stack.feed_forward
