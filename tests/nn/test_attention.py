import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fidkit.nn.attention import CrossAttention, SelfAttention, attend
from fidkit.nn.positions import HIDDEN
from oracles import quick, stack


@quick
@given(
    batch=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    shared=st.integers(1, 4),
    queries=st.integers(1, 5),
    keys=st.integers(1, 6),
)
def test_grouped_is_multi_head_with_repeated_heads(batch, kv_heads, shared, queries, keys) -> None:
    heads = kv_heads * shared
    q = torch.randn(batch, heads, queries, 8)
    k, v = torch.randn(2, batch, kv_heads, keys, 8)
    bias = torch.randn(1, heads, queries, keys)
    expected = F.scaled_dot_product_attention(
        q, k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1), bias, scale=1.0
    )
    torch.testing.assert_close(attend(q, k, v, bias), expected, atol=1e-5, rtol=1e-5)


def test_a_row_that_sees_nothing_stays_finite() -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    assert attend(q, k, v, torch.full((1, 1, 1, 4), HIDDEN)).isfinite().all()


def test_the_probe_sees_scores_with_their_bias() -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    bias, seen = torch.randn(1, 2, 4, 4), []
    attend(q, k, v, bias, probe=seen.append)
    torch.testing.assert_close(seen[0], q @ k.transpose(2, 3) + bias)


def test_dropping_all_weights_leaves_nothing() -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    assert attend(q, k, v, torch.zeros(1), dropout=1.0).abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_softmax_is_float32_and_the_result_is_as_the_values(dtype: torch.dtype) -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8).to(dtype)
    seen: list[torch.Tensor] = []
    assert attend(q, k, v, torch.zeros(1), probe=seen.append).dtype == dtype
    assert seen[0].dtype == torch.float32


def test_sharing_heads_shrinks_keys_and_values_only() -> None:
    shapes = {n: tuple(p.shape) for n, p in SelfAttention(stack(), 1, 0.0).named_parameters()}
    assert shapes == {
        "query.weight": (24, 16),
        "key.weight": (6, 16),
        "value.weight": (6, 16),
        "out.weight": (16, 24),
    }


def test_cross_attention_takes_a_context_of_another_width() -> None:
    layer = CrossAttention(stack(), 2, 10, 0.0)
    keys, values = layer.keys_values(torch.randn(3, 7, 10))
    assert keys.shape == values.shape == (3, 2, 7, 6)
    assert layer(torch.randn(3, 5, 16), (keys, values), torch.zeros(1)).shape == (3, 5, 16)
