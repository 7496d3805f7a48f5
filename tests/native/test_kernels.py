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
from fidkit.native import LANES, Bits, Encoder, Kernels, Step, address, kernels
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


@pytest.mark.parametrize("off", [-1600.0, -200.0, 88.5])
def test_the_largest_score_is_taken_off_wherever_scores_lie(built: Kernels, off: float) -> None:
    """All scores far below 0, or where exp is just a number still."""
    none = torch.zeros(3, 1, 16)
    distances = torch.tensor([2.0, 1.0, 0.0, 1.0, 2.0])
    found = built.row_attention(
        none, none.clone(), torch.eye(3, 16)[:, None], torch.tensor([0, 3]), (off - distances)[None]
    )
    positions = torch.arange(3.0)
    wanted = torch.softmax(-(positions[None] - positions[:, None]).abs(), 1)
    torch.testing.assert_close(found[:, 0, :3], wanted, rtol=1e-5, atol=1e-5)


def test_memory_that_lies_otherwise_is_refused(built: Kernels) -> None:
    """Kernels would read what isn't there; these are faults of the caller's code."""
    starts, bias = torch.tensor([0, 2]), torch.zeros(1, 3)
    q = torch.randn(2, 1, 16)
    odd = torch.randn(34).bfloat16().as_strided((2, 1, 16), (17, 16, 1))
    wider = torch.randn(2, 1, 32)[..., :16]
    matrix = LaidOut.of(Weight(np.zeros((32, 16), np.float32)), None, built.lanes, 32).packed()
    room = torch.zeros(1, LANES, 16)
    calls = [
        lambda: built.row_attention(odd, odd, odd, starts, bias),
        lambda: built.row_attention(q, wider, q, starts, bias),
        lambda: built.row_attention(q, q, wider, starts, bias),
        lambda: built.row_attention(q, q, q, starts, torch.zeros(3, 2).T[:1]),
        lambda: built.encode(Encoder(head=24), 32),
        lambda: built.decoder_step(Step(head=24), "float32"),
        lambda: built.pack_context(torch.zeros(LANES + 1, 1, 16), torch.zeros(LANES + 1, 1, 16), room, room),
        lambda: built.pack_context(q, q, room, room, 1),
        lambda: built.project_context(torch.zeros(LANES + 1, 16), [matrix], 32, [(room, room)]),
    ]
    for call in calls:
        with pytest.raises(AssertionError):
            call()


def test_layers_of_none_have_their_last_norm(built: Kernels) -> None:
    states, norm, starts = torch.randn(3, 20), torch.rand(20), np.array([0, 3])
    wanted = F.rms_norm(states, (20,), norm, 1e-6)
    built.encode(
        Encoder(
            states=address(states), starts=address(starts), rows=1, width=20, heads=1, head=16,
            feed_forward=1, reach=3, layers=0, final_norm=address(norm), epsilon=1e-6, scale=1.0,
        ),
        32,
    )  # fmt: skip
    torch.testing.assert_close(states, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "kept"), [(1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6), (1 + 2**-8 + 2**-23, 1 + 2**-7)]
)
def test_numbers_in_the_middle_become_the_even_one(built: Kernels, weight: float, kept: float) -> None:
    out = torch.empty(1, 1, dtype=torch.bfloat16)
    assert built.add_norm(torch.ones(1, 1), None, torch.tensor([weight]), 0.0, out).item() == kept


def test_what_is_no_number_stays_none_in_bfloat16(built: Kernels) -> None:
    """Also one whose bits would be -0 if they were rounded as a number's."""
    states = torch.tensor([[0x7FFF_FFFF, 0x3F80_0000, 0x3F80_0000]], dtype=torch.int32).view(torch.float32)
    out = torch.empty(1, 3, dtype=torch.bfloat16)
    assert built.add_norm(states, None, torch.ones(3), 1e-6, out).isnan().all()


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
    end = first + -(-keys // lanes) * lanes  # of the last block that is begun
    k, v = (torch.randn(keys, groups, h).to(dtype) for _ in range(2))
    to_k, to_v = (torch.full((groups, room, h), torch.nan, dtype=dtype) for _ in range(2))
    built.pack_context(k, v, to_k, to_v, first)
    deep = 4 // dtype.itemsize
    unpacked_k = (
        to_k.view(groups, room // lanes, h // deep, lanes, deep).transpose(2, 3).reshape(groups, room, h)
    )
    unpacked_v = to_v.view(groups, room // deep, h, deep).transpose(2, 3).reshape(groups, room, h)
    for found, wanted in ((unpacked_k, k), (unpacked_v, v)):
        assert torch.equal(found[:, first : first + keys], wanted.transpose(0, 1))
        assert not found[:, first + keys : end].any()
        assert found[:, :first].isnan().all()
        assert found[:, end:].isnan().all()


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
