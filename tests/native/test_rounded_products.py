"""Products of integers against the same in NumPy's, with vectors of every width that this CPU has."""

import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fidkit import checkpoint
from fidkit.checkpoint.stored import Weight
from fidkit.config import ReaderConfig, StackConfig
from fidkit.engine.cpu.encoder import NativeEncoder
from fidkit.engine.cpu.weights import LaidOut
from fidkit.native import Bits, Kernels, kernels
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Rows
from oracles import quick
from vectors import EVERY_KIND, kernels_with

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
ACTIVATIONS = pytest.mark.parametrize("activations", [16, 8])
GROUP = 256
"""Columns of an activation that share a unit, as in `native/products.h`."""


@pytest.fixture(scope="module", params=EVERY_KIND)
def built(request) -> Kernels:
    return kernels() if request.param == "native" else kernels_with(request.param)


def most(built: Kernels, activations: Bits) -> int:
    """What the largest activation of a group becomes."""
    return built.most_of_8_bits if activations == 8 else 32767


def groups_of(columns: int) -> np.ndarray:
    """Where groups of columns that share a unit begin."""
    return np.arange(0, columns, GROUP)


def weights(rng: np.random.Generator, rows: int, columns: int) -> Weight:
    """Integers of all sizes up to 127, and scales."""
    values = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    return Weight(values, rng.uniform(0.01, 1, rows).astype(np.float32))


def wanted(weight: Weight, bias: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    made: np.ndarray = x @ weight.values.T.astype(np.float64) * weight.scale
    return made if bias is None else made + bias


@ACTIVATIONS
@quick
@given(
    count=st.integers(1, 20),
    columns=st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 255, 256, 257, 700, 768])),
    rows=st.integers(1, 150),
    spare=st.integers(0, 3),
    biased=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_are_those_of_integers(
    built: Kernels, activations: Bits, count, columns: int, rows: int, spare: int, biased: bool, seed: int
) -> None:
    """Activations that are integers times a power of two a group: nothing is left to rounding."""
    rng = np.random.default_rng(seed)
    weight, bias = weights(rng, rows, columns), rng.normal(size=rows).astype(np.float32) if biased else None
    largest = most(built, activations)
    integers = rng.integers(-largest, largest + 1, (count, columns))
    for first in groups_of(columns):
        group = integers[:, first : first + GROUP]
        group[np.arange(count), rng.integers(0, group.shape[1], count)] = largest * rng.choice([-1, 1], count)
        group[rng.random(count) < 0.2] = 0
    units = 2.0 ** rng.integers(-20, 20, (count, len(groups_of(columns))))
    x = np.full((count, columns + spare), 1e9, np.float32)  # vectors that lie apart
    x[:, :columns] = integers * units.repeat(GROUP, 1)[:, :columns]
    found = LaidOut.of(weight, bias, built.lanes, activations)(built, x[:, :columns])
    expected = wanted(weight, bias, x[:, :columns].astype(np.float64))
    near = 1e-5 * np.abs(expected).max(1, keepdims=True)
    assert (np.abs(found - expected) <= np.maximum(near, 1e-30)).all()


@ACTIVATIONS
@quick
@given(columns=st.integers(1, 600), size=st.floats(-6, 6), seed=st.integers(0, 2**32 - 1))
def test_activations_are_at_most_half_a_unit_off(
    built: Kernels, activations: Bits, columns: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = weights(rng, 5, columns)
    x = (10**size * rng.normal(size=(7, columns))).astype(np.float32)
    found = LaidOut.of(weight, None, built.lanes, activations)(built, x)
    off = np.abs(found - x.astype(np.float64) @ weight.floats().T.astype(np.float64))
    peaks = np.maximum.reduceat(np.abs(x), groups_of(columns), 1)
    sums = np.add.reduceat(np.abs(weight.floats()), groups_of(columns), 1)
    # Half a unit, and what rounding of sums in float32 adds, which shows beside 16 bits.
    allowed = 0.501 / most(built, activations) * peaks @ sums.T + 1e-6 * np.abs(x).max() * sums.sum(1)
    assert (off <= allowed + 1e-30).all()


@ACTIVATIONS
@pytest.mark.parametrize("columns", [1, 2, 3, 4096, 20000])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_extremes_never_overflow(built: Kernels, activations: Bits, columns: int, signs) -> None:
    """All weights and all activations at their largest, of one sign and of alternating ones."""
    scale = np.ones(3, np.float32)
    same = np.full((3, columns), 127 * signs[0], np.int8)
    in_turn = same * np.where(np.arange(columns) % 2, -1, 1).astype(np.int8)
    x = np.full((7, columns), signs[1], np.float32)
    x[1] *= np.where(np.arange(columns) % 2, -1, 1)
    for values in (same, in_turn):
        found = LaidOut.of(Weight(values, scale), None, built.lanes, activations)(built, x)
        expected = x.astype(np.float64) @ values.T.astype(np.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@ACTIVATIONS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@quick
@given(columns=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_what_is_no_number_stays_none_in_its_row(
    built: Kernels, activations: Bits, value: float, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    laid_out = LaidOut.of(weights(rng, 9, columns), None, built.lanes, activations)
    x = rng.normal(size=(8, columns)).astype(np.float32)
    before = laid_out(built, x)
    bad = rng.choice(8, 2, replace=False)
    x[bad, rng.integers(0, columns, 2)] = value
    after = laid_out(built, x)
    assert np.isnan(after[bad]).all()
    assert np.array_equal(np.delete(after, bad, 0), np.delete(before, bad, 0))


def layers_of(family: str, feed_forward: int = 101) -> EncoderLayers:
    """Two, of sizes that fill neither vectors nor slots."""
    stack = StackConfig(layers=2, width=75, heads=3, head_width=16, feed_forward=feed_forward, family=family)
    layers = EncoderLayers(ReaderConfig(encoder=stack, decoder=stack.replace(family="t5")), 2).eval()
    for name, parameter in layers.named_parameters():
        if parameter.ndim == 2 or name.endswith("bias"):
            nn.init.normal_(parameter, 0.0, 0.1)
    return layers


@pytest.mark.parametrize("family", ["t5", "t5-v1.1", "bert"])
@torch.no_grad()
def test_encoders_lose_as_little_as_their_activations_keep(built: Kernels, family: str) -> None:
    layers, lengths = layers_of(family), [40, 1, 7, 70, 13]
    rows, x = Rows(torch.tensor(lengths)), torch.randn(sum(lengths), 75)
    exact = layers(x, rows)
    stored = deepcopy(layers)
    for parameter in stored.layers.parameters():
        if parameter.ndim == 2:
            values, scale = checkpoint.to_int8(parameter)
            parameter.copy_(values * scale[:, None])
    off = {}
    for rounding, of in (("always", layers), ("lossless", stored)):
        found = NativeEncoder(built, rounding=rounding)(of, x, rows)
        off[rounding] = float((found - exact).norm() / exact.norm())
    assert off["always"] < 0.03 * 127 / built.most_of_8_bits
    if built.most_of_8_bits == 127:  # the same numbers, only that weights were rounded before
        assert off["lossless"] == pytest.approx(off["always"], rel=0.05)
    else:
        assert off["lossless"] < off["always"]


@pytest.mark.parametrize("family", ["t5-v1.1", "bert"])
@torch.no_grad()
def test_rows_of_8_bits_are_the_same_in_any_company(built: Kernels, family: str) -> None:
    """To the last bit, and what is no number in one of them shows in no other."""
    layers, lengths = layers_of(family), [5, 90, 1, 33]
    run = NativeEncoder(built, rounding="always")
    x = torch.randn(sum(lengths), 75)
    together = run(layers, x, Rows(torch.tensor(lengths))).split(lengths)
    for row, own in enumerate(x.split(lengths)):
        assert torch.equal(run(layers, own, Rows(torch.tensor(lengths[row : row + 1]))), together[row])
    x[5 + 20, 3] = torch.nan
    after = run(layers, x, Rows(torch.tensor(lengths))).split(lengths)
    assert after[1].isnan().all()
    assert all(torch.equal(after[row], together[row]) for row in (0, 2, 3))


@torch.no_grad()
def test_feed_forwards_with_outliers_keep_them(built: Kernels) -> None:
    """One activation that is thirty times the others costs bits of those alone that are near it."""
    layers = layers_of("t5", 1001)
    for layer in layers.layers:
        layer.feed_forward.inner.weight[7] *= 30.0
        layer.feed_forward.out.weight[:, 7] /= 30.0
    rows, x = Rows(torch.tensor([50])), torch.randn(50, 75)
    exact, found = layers(x, rows), NativeEncoder(built, rounding="always")(layers, x, rows)
    assert (found - exact).norm() < 0.03 * 127 / built.most_of_8_bits * exact.norm()
