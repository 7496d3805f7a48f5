"""Products with weights laid out once equal plain ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fidkit.engine.cpu.products import Products, has_bfloat16_products, packs
from oracles import quick


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@quick
@given(
    counts=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
)
def test_equal_plain_products(dtype, near: float, counts, inputs: int, outputs: int) -> None:
    linear = nn.Linear(inputs, outputs, bias=False, dtype=dtype)
    products = Products()
    with torch.no_grad():
        for count in counts:
            x = torch.randn(count, inputs).to(dtype)
            wanted = F.linear(x.float(), linear.weight.float())
            torch.testing.assert_close(products(x, linear).float(), wanted, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@quick
@given(inputs=st.integers(1, 70), outputs=st.lists(st.integers(1, 70), min_size=1, max_size=3))
def test_matrices_of_ones_own_are_given_back_as_they_were(dtype, inputs: int, outputs: list[int]) -> None:
    linears = nn.ModuleList(nn.Linear(inputs, count, bias=False, dtype=dtype) for count in outputs)
    before = [linear.weight.detach().clone() for linear in linears]
    x, shared, own = torch.randn(5, inputs).to(dtype), Products(), Products(own=True)
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


def test_half_precision_takes_the_plain_product() -> None:
    linear = nn.Linear(16, 16, bias=False, dtype=torch.float16)
    x = torch.randn(3, 16, dtype=torch.float16)
    assert torch.equal(Products()(x, linear), F.linear(x, linear.weight))
