"""`transformers`' T5 as ONNX graphs: the encoder, keys and values of its states, and a step of the decoder.

Built by hand of few operators in the forms that ONNX Runtime and OpenVINO fuse: what exporters write changes
with every release, and has no cache of keys and values of its own.

Letters: R rows, S vectors of the longest, B questions, T tokens written before, M fused vectors, D width, H
heads, h head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 20
"""The first with the tanh form of GELU."""
IR_VERSION = 10
HIDDEN = -1e9
"""Added to scores of what isn't there."""


class Graph:
    """Nodes and weights of one graph, as they are added; values are names."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; the name of its value, or names if there are several."""
        names = [f"{operator}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def rename(self, value: str, name: str) -> None:
        """Give an output its name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def weight(self, name: str, values: Tensor) -> str:
        """A constant; equal names are one constant."""
        if name not in self._weights:
            array = values.detach().cpu().contiguous().numpy()
            self._weights[name] = numpy_helper.from_array(array, name)
        return name

    def whole(self, *numbers: int) -> str:
        """A list of whole numbers."""
        return self.weight("whole_" + "_".join(map(str, numbers)), torch.tensor(numbers))

    def number(self, value: float) -> str:
        """A number."""
        return self.weight(f"number_{value}", torch.tensor(value))

    def save(self, path: Path, inputs: dict[str, tuple[int, Sequence]], outputs: dict[str, Sequence]) -> None:
        """Write the graph, with its weights in a file beside it: models may be larger than a message can.

        Args:
            path: of the graph.
            inputs: type and shape of each, dimensions as letters or numbers.
            outputs: shape of each; `next` is a token, all others are float32.
        """
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(
                    name, TensorProto.INT64 if name == "next" else TensorProto.FLOAT, shape
                )
                for name, shape in outputs.items()
            ],
            list(self._weights.values()),
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.save_model(model, str(path), save_as_external_data=True, location=path.name + ".data")


class T5Graph(Graph):
    """What the three graphs of a T5 have in common.

    Args:
        model: a `T5ForConditionalGeneration` in float32.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.sizes = model.config
        self.state: dict[str, Tensor] = model.state_dict()
        self.heads, self.head_width = self.sizes.num_heads, self.sizes.d_kv

    def linear(self, x: str, *names: str) -> str:
        """A product with one matrix, or with several beside each other."""
        matrices = [self.state[f"{name}.weight"] for name in names]
        return str(self("MatMul", x, self.weight("+".join(names), torch.cat(matrices).T)))

    def norm(self, x: str, name: str) -> str:
        mean = self("ReduceMean", self("Pow", x, self.number(2.0)), self.whole(-1), keepdims=1)
        root = self("Sqrt", self("Add", mean, self.number(self.sizes.layer_norm_epsilon)))
        scale = self.weight(name, self.state[f"{name}.weight"])
        return str(self("Mul", self("Div", x, root), scale))

    def heads_of(self, x: str, *, turned: bool = False) -> str:
        """[R, S, H * h] as [R, H, S, h], or [R, H, h, S] for keys."""
        apart = self("Reshape", x, self.whole(0, 0, self.heads, self.head_width))
        return str(self("Transpose", apart, perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3]))

    def split(self, x: str, parts: int) -> list[str]:
        values: list[str] = self("Split", x, outputs=parts, axis=-1, num_outputs=parts)
        return values

    def attend(self, query: str, key: str, value: str, bias: str | None) -> str:
        """Of [R, H, S, h], keys [R, H, h, S]; T5 doesn't scale its scores."""
        scores = self("MatMul", query, key)
        if bias is not None:
            scores = self("Add", scores, bias)
        mixed = self("MatMul", self("Softmax", scores, axis=-1), value)
        together = self("Transpose", mixed, perm=[0, 2, 1, 3])
        return str(self("Reshape", together, self.whole(0, 0, self.heads * self.head_width)))

    def feed_forward(self, x: str, name: str) -> str:
        if not self.sizes.is_gated_act:
            return self.linear(self("Relu", self.linear(x, f"{name}.wi")), f"{name}.wo")
        gate = self("Gelu", self.linear(x, f"{name}.wi_0"), approximate="tanh")
        return self.linear(self("Mul", gate, self.linear(x, f"{name}.wi_1")), f"{name}.wo")

    def bias_table(self, stack: str, distances: Tensor) -> str:
        """Biases of relative positions by distance: rows of a table."""
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        return self.weight(name, self.state[f"{name}.weight"][distances])

    def range(self, length: str) -> str:
        """0 to a length, which is a list of one number."""
        zero, one = (self.weight(f"scalar_{n}", torch.tensor(n)) for n in (0, 1))
        return str(self("Range", zero, self("Squeeze", length), one))

    def length(self, x: str, dimension: int) -> str:
        return str(self("Shape", x, start=dimension, end=dimension + 1))


def write_encoder(model: Any, path: Path) -> None:
    """Tokens and mask [R, S] to states [R, S, D]."""
    g = T5Graph(model)
    bias = g("Add", _encoder_bias(g, model), _hidden(g, "mask"))
    x = g("Gather", g.weight("words", g.state["shared.weight"]), "ids")
    for layer in range(g.sizes.num_layers):
        block = f"encoder.block.{layer}.layer"
        names = [f"{block}.0.SelfAttention.{part}" for part in "qkv"]
        query, key, value = g.split(g.linear(g.norm(x, f"{block}.0.layer_norm"), *names), 3)
        mixed = g.attend(g.heads_of(query), g.heads_of(key, turned=True), g.heads_of(value), bias)
        x = g("Add", x, g.linear(mixed, f"{block}.0.SelfAttention.o"))
        inner = g.feed_forward(g.norm(x, f"{block}.1.layer_norm"), f"{block}.1.DenseReluDense")
        x = g("Add", x, inner)
    g.rename(g.norm(x, "encoder.final_layer_norm"), "states")
    whole = (TensorProto.INT64, ["R", "S"])
    g.save(path, {"ids": whole, "mask": whole}, {"states": ["R", "S", g.sizes.d_model]})


def write_cross(model: Any, path: Path) -> None:
    """Fused states [B, M, D] to the keys [B, H, h, M] and values [B, H, M, h] of all layers."""
    g = T5Graph(model)
    for layer in range(g.sizes.num_decoder_layers):
        for part in "kv":
            flat = g.linear("states", f"decoder.block.{layer}.layer.1.EncDecAttention.{part}")
            g.rename(g.heads_of(flat, turned=part == "k"), f"cross_{part}_{layer}")
    g.save(path, {"states": (TensorProto.FLOAT, ["B", "M", g.sizes.d_model])}, dict(_cross(g)))


def write_step(model: Any, path: Path, *, masked: bool) -> None:
    """A token [B, 1], keys and values to the likeliest next token, and keys and values with this one's.

    Args:
        model: a `T5ForConditionalGeneration` in float32.
        path: of the graph.
        masked: whether some questions have fewer vectors than others; `mask` [B, M] then says which.
    """
    g = T5Graph(model)
    bias, hidden = _step_bias(g, model), _hidden(g, "mask") if masked else None
    x = g("Gather", g.weight("words", g.state["shared.weight"]), "ids")
    for layer in range(g.sizes.num_decoder_layers):
        block = f"decoder.block.{layer}.layer"
        x = g("Add", x, _step_self(g, g.norm(x, f"{block}.0.layer_norm"), layer, bias))
        query = g.heads_of(g.linear(g.norm(x, f"{block}.1.layer_norm"), f"{block}.1.EncDecAttention.q"))
        mixed = g.attend(query, f"cross_k_{layer}", f"cross_v_{layer}", hidden)
        x = g("Add", x, g.linear(mixed, f"{block}.1.EncDecAttention.o"))
        inner = g.feed_forward(g.norm(x, f"{block}.2.layer_norm"), f"{block}.2.DenseReluDense")
        x = g("Add", x, inner)
    # T5 v1.0 scales what its tied head reads, by a positive number: the likeliest token stays the same.
    logits = g.linear(g.norm(x, "decoder.final_layer_norm"), "lm_head")
    g.rename(g("ArgMax", logits, axis=-1, keepdims=0), "next")
    caches = {f"past_{part}_{layer}": shape for part, layer, shape in _caches(g, "T")}
    inputs: dict[str, tuple[int, Sequence]] = {"ids": (TensorProto.INT64, ["B", 1])}
    inputs |= {name: (TensorProto.FLOAT, shape) for name, shape in {**caches, **dict(_cross(g))}.items()}
    if masked:
        inputs["mask"] = (TensorProto.INT64, ["B", "M"])
    outputs: dict[str, Sequence] = {"next": ["B", 1]}
    outputs |= {f"now_{part}_{layer}": shape for part, layer, shape in _caches(g, "T1")}
    g.save(path, inputs, outputs)


def _step_self(g: T5Graph, x: str, layer: int, bias: str) -> str:
    """Self-attention of one token over itself and those before it."""
    name = f"decoder.block.{layer}.layer.0.SelfAttention"
    query, key, value = g.split(g.linear(x, *(f"{name}.{part}" for part in "qkv")), 3)
    keys = g("Concat", f"past_k_{layer}", g.heads_of(key, turned=True), axis=3)
    values = g("Concat", f"past_v_{layer}", g.heads_of(value), axis=2)
    g.rename(keys, f"now_k_{layer}")
    g.rename(values, f"now_v_{layer}")
    return g.linear(g.attend(g.heads_of(query), keys, values, bias), f"{name}.o")


def _caches(g: T5Graph, tokens: str) -> Iterator[tuple[str, int, list]]:
    for layer in range(g.sizes.num_decoder_layers):
        yield "k", layer, ["B", g.heads, g.head_width, tokens]
        yield "v", layer, ["B", g.heads, tokens, g.head_width]


def _cross(g: T5Graph) -> Iterator[tuple[str, list]]:
    for part, layer, shape in _caches(g, "M"):
        yield f"cross_{part}_{layer}", shape


def _hidden(g: T5Graph, mask: str) -> str:
    """A mask [R, S] as what is added to scores [R, 1, 1, S]."""
    absent = g("Sub", g.number(1.0), g("Cast", mask, to=TensorProto.FLOAT))
    return str(g("Unsqueeze", g("Mul", absent, g.number(HIDDEN)), g.whole(1, 2)))


def _encoder_bias(g: T5Graph, model: Any) -> str:
    """[1, H, S, S]; from the largest distance on, all have one bias."""
    farthest = g.sizes.relative_attention_max_distance
    table = g.bias_table("encoder", _buckets(model.encoder, torch.arange(-farthest, farthest + 1)))
    places = g.range(g.length("ids", 1))
    apart = g("Sub", g("Unsqueeze", places, g.whole(0)), g("Unsqueeze", places, g.whole(1)))
    ends = (g.weight(f"scalar_{n}", torch.tensor(n)) for n in (-farthest, farthest))
    lines = g("Add", g("Clip", apart, *ends), g.whole(farthest))
    by_head = g("Transpose", g("Gather", table, lines), perm=[2, 0, 1])
    return str(g("Unsqueeze", by_head, g.whole(0)))


def _step_bias(g: T5Graph, model: Any) -> str:
    """[1, H, 1, T + 1] of the newest token over all."""
    farthest = g.sizes.relative_attention_max_distance
    table = g.bias_table("decoder", _buckets(model.decoder, -torch.arange(farthest + 1)))
    before = g.length("past_k_0", 3)
    places = g.range(g("Add", before, g.whole(1)))
    lines = g("Min", g("Sub", before, places), g.whole(farthest))
    by_head = g("Transpose", g("Gather", table, lines), perm=[1, 0])
    return str(g("Unsqueeze", by_head, g.whole(0, 2)))


def _buckets(stack: Any, distances: Tensor) -> Tensor:
    """Of keys so far behind the query, as transformers has them."""
    sizes = stack.config
    attention = stack.block[0].layer[0].SelfAttention
    found: Tensor = attention._relative_position_bucket(
        distances,
        bidirectional=not stack.is_decoder,
        num_buckets=sizes.relative_attention_num_buckets,
        max_distance=sizes.relative_attention_max_distance,
    )
    return found
