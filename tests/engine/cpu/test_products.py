"""Products with weights laid out once equal plain ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fidkit.engine.cpu.products import Products
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


def test_half_precision_takes_the_plain_product() -> None:
    linear = nn.Linear(16, 16, bias=False, dtype=torch.float16)
    x = torch.randn(3, 16, dtype=torch.float16)
    assert torch.equal(Products()(x, linear), F.linear(x, linear.weight))
