"""Products with weights laid out once equal plain ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fidkit import native
from fidkit.checkpoint import to_int8
from fidkit.engine.cpu.products import Products, has_bfloat16_products, packs
from fidkit.engine.cpu.tensors import matrix_of
from fidkit.engine.cpu.weights import Rounding, activation_bits
from fidkit.native import Kernels
from oracles import quick


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = native.kernels()
    if found is None:
        pytest.skip("no native kernels here")
    return found


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("bias", [False, True])
@quick
@given(
    counts=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
)
def test_equal_plain_products(kernels, dtype, near: float, bias: bool, counts, inputs, outputs) -> None:
    linear = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    products = Products(kernels)
    with torch.no_grad():
        for count in counts:
            x = torch.randn(count, inputs).to(dtype)
            wanted = F.linear(x.float(), linear.weight.float(), linear.bias.float() if bias else None)
            torch.testing.assert_close(products(x, linear).float(), wanted, rtol=near, atol=near)


@pytest.mark.parametrize("rounding", ["lossless", "always"])
@quick
@given(count=st.integers(1, 30), inputs=st.integers(1, 70), outputs=st.integers(1, 40), size=st.floats(-6, 6))
def test_rounded_weights_multiply_as_they_are_rounded(
    kernels, rounding: Rounding, count, inputs, outputs, size: float
) -> None:
    """What differs from float32 is the weight's rounding, and that of activations to so many bits."""
    linear = nn.Linear(inputs, outputs)
    x = 10**size * torch.randn(count, inputs)
    with torch.no_grad():
        rounded, scale = to_int8(linear.weight)
        linear.weight.copy_(rounded * scale[:, None])
        wanted, found = linear(x), Products(kernels, rounding=rounding)(x, linear)
        large = x.abs().amax(1, keepdim=True) * linear.weight.abs().sum(1)
    bits = {8: 6, 16: 12}[activation_bits(rounding, kernels)]
    assert ((found - wanted).abs() <= large / 2**bits + 1e-6).all()


def test_lossless_rounds_what_was_stored_in_8_bits_alone(kernels) -> None:
    fresh, stored = nn.Linear(40, 20), nn.Linear(40, 20)
    rounded, scale = to_int8(fresh.weight)
    stored.weight = nn.Parameter((rounded * scale[:, None]).detach())
    trained = stored.weight.detach() * (1 + 1e-4 * torch.rand(20, 40))
    assert matrix_of(stored.weight, "lossless").scale is not None
    assert matrix_of(stored.weight, "never").scale is None
    assert matrix_of(fresh.weight, "lossless").scale is None
    assert matrix_of(trained, "lossless").scale is None
    assert matrix_of(stored.weight.bfloat16(), "lossless").scale is None  # which has rounded it once more
    products = Products(kernels, rounding="lossless")
    assert [products.laid_out((linear,)).activations for linear in (fresh, stored)] == [
        32,
        activation_bits("lossless", kernels),
    ]


@pytest.mark.parametrize(("most", "bits"), [(127, 8), (64, 16)])
def test_activations_have_8_bits_where_8_are_all_there_and_fast(monkeypatch, most: int, bits: int) -> None:
    monkeypatch.setattr(Kernels, "most_of_8_bits", most)
    found = native.kernels()
    assert [activation_bits(rounding, found) for rounding in ("never", "lossless", "always")] == [32, bits, 8]


@quick
@given(inputs=st.integers(1, 70), outputs=st.lists(st.integers(1, 70), min_size=1, max_size=3))
def test_matrices_of_ones_own_are_given_back(kernels, inputs: int, outputs) -> None:
    dtype = torch.bfloat16
    linears = nn.ModuleList(nn.Linear(inputs, count, bias=False, dtype=dtype) for count in outputs)
    before = [linear.weight.detach().clone() for linear in linears]
    x = torch.randn(5, inputs).to(dtype)
    shared, own = (Products(kernels, own=owned) for owned in (False, True))
    with torch.no_grad():
        wanted = shared(x, *linears)
        for _ in range(2):
            assert torch.equal(own(x, *linears), wanted)
            assert all(linear.weight.is_meta == packs(x.device, dtype) for linear in linears)
        own.give_back(nn.Linear(1, 1))  # of another module: nothing
        assert all(linear.weight.is_meta == packs(x.device, dtype) for linear in linears)
        own.give_back(linears)
        assert all(torch.equal(linear.weight, weight) for linear, weight in zip(linears, before, strict=True))
        assert torch.equal(own(x, *linears), wanted)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    has_bfloat16_products.cache_clear()
    yield
    has_bfloat16_products.cache_clear()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("there", [True, False])
def test_the_library_says_whether_it_has_bfloat16(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: there)
    assert has_bfloat16_products() is there
    assert packs(torch.device("cpu"), torch.bfloat16) is (there and packs(torch.device("cpu"), torch.float32))


def test_without_wide_vectors_there_is_no_bfloat16() -> None:
    """The library's products in bfloat16 begin with AVX-512, and with AVX2 where it has AVX-NE-CONVERT."""
    cpu = Path("/proc/cpuinfo")
    words = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    if "avx2" not in words:
        pytest.skip("no x86 CPU, or none that says what it has")
    assert has_bfloat16_products() == bool({"avx512vl", "avx_ne_convert"} & words)


def test_half_precision_takes_the_plain_product(kernels) -> None:
    linear = nn.Linear(16, 16, bias=False, dtype=torch.float16)
    x = torch.randn(3, 16, dtype=torch.float16)
    assert torch.equal(Products(kernels)(x, linear), F.linear(x, linear.weight))
