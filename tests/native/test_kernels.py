"""Each kernel against torch, in both types, with vectors of every width that this CPU has."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fidkit.checkpoint.stored import Weight
from fidkit.engine.cpu.weights import LaidOut, rounded
from fidkit.native import LANES, Bits, Kernels, kernels
from fidkit.nn.attention import attend_rows
from fidkit.nn.rows import Rows
from oracles import quick
from vectors import EVERY_KIND, kernels_with

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
# Beside float32 torch on the same inputs: rounding of one result and of the attention weights.
NEAR = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 1e-2, "atol": 1e-2}}


@pytest.fixture(scope="module", params=EVERY_KIND)
def built(request) -> Kernels:
    return kernels() if request.param == "native" else kernels_with(request.param)


@TYPES
@quick
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    heads=st.integers(1, 3),
    width=st.sampled_from([16, 32, 64, 80]),
    spare=st.integers(0, 5),
)
def test_row_attention(built: Kernels, dtype, lengths, heads: int, width: int, spare: int) -> None:
    rows, S = Rows(torch.tensor(lengths)), max(lengths) + spare + 1
    q, k, v = ((torch.randn(sum(lengths), heads, width) * width**-0.25).to(dtype) for _ in range(3))
    by_distance = torch.randn(heads, 2 * S - 1)
    positions = torch.arange(S)
    bias = by_distance[:, positions[None] - positions[:, None] + S - 1][None]
    found = built.row_attention(q, k, v, rows.starts, by_distance)
    wanted = attend_rows(q.float(), k.float(), v.float(), rows, bias)
    torch.testing.assert_close(found.float(), wanted, **NEAR[dtype])


def test_scores_of_any_size_stay_finite(built: Kernels) -> None:
    """Weights of exp(0) and exp(-1000): the largest score is taken off first."""
    q, k = torch.full((2, 1, 16), 10.0), torch.tensor([10.0, -10.0])[:, None, None].expand(2, 1, 16)
    v = torch.arange(32.0).view(2, 1, 16)
    found = built.row_attention(q, k.contiguous(), v, torch.tensor([0, 2]), torch.zeros(1, 3))
    torch.testing.assert_close(found, v[:1].expand(2, 1, 16))


@TYPES
@quick
@given(rows=st.integers(1, 9), width=st.integers(1, 70), change=st.booleans())
def test_add_norm(built: Kernels, dtype, rows: int, width: int, change: bool) -> None:
    states, weight = torch.randn(rows, width), torch.rand(width)
    more = torch.randn(rows, width).to(dtype) if change else None
    wanted = states + more.float() if more is not None else states.clone()
    normed = built.add_norm(states, more, weight, 1e-6, torch.empty(rows, width, dtype=dtype))
    assert torch.equal(states, wanted)
    torch.testing.assert_close(normed.float(), F.rms_norm(wanted, (width,), weight, 1e-6), **NEAR[dtype])


@TYPES
@quick
@given(size=st.integers(1, 100))
def test_gated_gelu(built: Kernels, dtype, size: int) -> None:
    gate, inner = ((torch.randn(size) * 5).to(dtype) for _ in range(2))
    wanted = F.gelu(gate.float(), approximate="tanh") * inner.float()
    torch.testing.assert_close(built.gated_gelu(gate, inner).float(), wanted, **NEAR[dtype])


@TYPES
@quick
@given(keys=st.integers(1, 40), groups=st.integers(1, 3), first=st.sampled_from([0, LANES, 3 * LANES]))
def test_packed_context(built: Kernels, dtype, keys: int, groups: int, first: int) -> None:
    """Keys by blocks of one vector, values by slots of one float or two neighbouring bfloat16."""
    h, lanes, room = 16, built.lanes, first + -(-keys // LANES) * LANES
    k, v = (torch.randn(keys, groups, h).to(dtype) for _ in range(2))
    to_k, to_v = (torch.zeros(groups, room, h, dtype=dtype) for _ in range(2))
    built.pack_context(k, v, to_k, to_v, first)
    deep = 4 // dtype.itemsize
    unpacked_k = (
        to_k.view(groups, room // lanes, h // deep, lanes, deep).transpose(2, 3).reshape(groups, room, h)
    )
    unpacked_v = to_v.view(groups, room // deep, h, deep).transpose(2, 3).reshape(groups, room, h)
    for found, wanted in ((unpacked_k, k), (unpacked_v, v)):
        assert torch.equal(found[:, first : first + keys], wanted.transpose(0, 1))
        assert not found[:, :first].any()
        assert not found[:, first + keys :].any()


@pytest.mark.parametrize(
    ("dtype", "activations"),
    [(torch.float32, 8), (torch.float32, 16), (torch.float32, 32), (torch.bfloat16, 8), (torch.bfloat16, 16)],
)
@quick
@given(keys=st.integers(0, 120), groups=st.integers(1, 3), layers=st.integers(1, 3))
def test_projected_context(
    built: Kernels, dtype, activations: Bits, keys: int, groups: int, layers: int
) -> None:
    """What products and `pack_context` make one after the other, of all layers in one call."""
    h, width, room = 16, 300, -(-keys // LANES) * LANES + LANES
    states = torch.randn(keys, width)
    weights, made, wanted = [], [], []
    for _ in range(layers):
        matrix = Weight(np.random.randn(2 * groups * h, width).astype(np.float32))
        laid_out = LaidOut.of(
            rounded(matrix, "never" if activations == 32 else "always"), None, built.lanes, activations
        )
        weights.append(laid_out)
        product = laid_out(built, states.numpy())
        both = torch.from_numpy(product).to(dtype).reshape(keys, 2, groups, h)
        for of in (made, wanted):
            of.append(tuple(torch.zeros(groups, room, h, dtype=dtype) for _ in range(2)))
        built.pack_context(both[:, 0], both[:, 1], *wanted[-1])
    built.project_context(states, [weight.packed() for weight in weights], activations, made)
    for found, expected in zip(made, wanted, strict=True):
        assert all(map(torch.equal, found, expected))


def test_new_memory_has_its_shape(built: Kernels) -> None:
    memory = built.empty((3, 1, 700), np.uint16)
    assert (memory.shape, memory.dtype) == ((3, 1, 700), np.uint16)
    memory[:] = 1
    assert memory.sum() == 2100
    assert built.empty((0, 5), np.float32).size == 0
