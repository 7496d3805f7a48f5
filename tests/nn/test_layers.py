import torch
import torch.nn.functional as F

from fidkit.nn.layers import FeedForward, GatedFeedForward, RMSNorm
from oracles import stack


def test_norm_is_computed_in_float32() -> None:
    norm = RMSNorm(64)
    x = 300 * torch.randn(5, 64)  # squares overflow float16
    normed = norm(x.to(torch.float16))
    assert normed.dtype == torch.float16
    torch.testing.assert_close(normed.float(), norm(x), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(norm(x).pow(2).mean(-1), torch.ones(5))


def test_norm_neither_centres_nor_divides_by_zero() -> None:
    norm = RMSNorm(4)
    assert norm(torch.full((1, 4), 3.0)).allclose(torch.ones(1, 4))
    assert norm(torch.zeros(1, 4)).abs().sum() == 0


def test_feed_forward() -> None:
    layer, x = FeedForward(stack(), 0.0), torch.randn(2, 16)
    assert torch.equal(layer(x), layer.out(F.relu(layer.inner(x))))


def test_gated_feed_forward_uses_the_tanh_form_of_gelu() -> None:
    layer, x = GatedFeedForward(stack(), 0.0), torch.randn(2, 16)
    gate = layer.gate(x)
    gelu = 0.5 * gate * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
    torch.testing.assert_close(layer(x), layer.out(gelu * layer.inner(x)))
