"""Encoder layers laid out for the kernels."""

import numpy as np

from fidkit import native
from fidkit.checkpoint.stored import Weight
from fidkit.config import StackConfig
from fidkit.engine.cpu.stack import EncoderStack
from fidkit.engine.cpu.weights import to_int8

SIZES = StackConfig(layers=2, width=48, heads=3, head_width=16, feed_forward=40, family="t5-v1.1")


def layer(rng: np.random.Generator) -> dict[str, Weight]:
    def matrix(rows: int, columns: int) -> Weight:
        return Weight(rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5))

    D, F = SIZES.width, SIZES.feed_forward
    made = {f"attention.{name}.weight": matrix(D, D) for name in ("query", "key", "value", "out")}
    made |= {f"feed_forward.{name}.weight": matrix(F, D) for name in ("gate", "inner")}
    made["feed_forward.out.weight"] = matrix(D, F)
    norms = ("attention_norm.weight", "feed_forward_norm.weight")
    return made | {name: Weight(np.ones(D, np.float32)) for name in norms}


def test_a_stack_that_is_stored_in_8_bits_in_parts_is_multiplied_in_floats() -> None:
    """One matrix in 8 bits among others: it is read by its scales, and nothing else is rounded."""
    kernels, rng = native.kernels(), np.random.default_rng(0)
    assert kernels is not None
    layers = [layer(rng) for _ in range(SIZES.layers)]
    layers[1]["attention.out.weight"] = to_int8(layers[1]["attention.out.weight"].values)
    bias = Weight(rng.standard_normal((32, SIZES.heads), dtype=np.float32))
    x_XD = rng.standard_normal((9, SIZES.width), dtype=np.float32)
    starts = np.array([0, 5, 9])
    found = EncoderStack(kernels, SIZES, layers, bias, 128, "lossless")(x_XD.copy(), starts)
    floats = [{name: Weight(weight.floats()) for name, weight in of.items()} for of in layers]
    wanted = EncoderStack(kernels, SIZES, floats, bias, 128)(x_XD.copy(), starts)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
