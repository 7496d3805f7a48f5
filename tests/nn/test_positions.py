import pytest
import torch

from fidkit.distances import relative_buckets
from fidkit.nn.positions import HIDDEN, RelativeBias, causal_bias, key_mask_bias
from naive_t5 import naive_bucket

SIZES = [(32, 128), (32, 256), (16, 64), (8, 32), (4, 16), (12, 20)]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "most"), SIZES)
def test_buckets_equal_those_of_transformers(buckets: int, most: int, bidirectional: bool) -> None:
    attention = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distance = torch.arange(-300, 301)
    ours = relative_buckets(distance, bidirectional=bidirectional, buckets=buckets, max_distance=most)
    theirs = attention._relative_position_bucket(distance, bidirectional, buckets, most)
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "most"), SIZES)
def test_buckets_equal_the_formula(buckets: int, most: int, bidirectional: bool) -> None:
    distances = list(range(-300, 301))
    ours = relative_buckets(
        torch.tensor(distances), bidirectional=bidirectional, buckets=buckets, max_distance=most
    )
    assert ours.tolist() == [naive_bucket(d, bidirectional, buckets, most) for d in distances]


def test_buckets_as_a_matrix() -> None:
    positions = torch.arange(5)
    distance = positions[None] - positions[:, None]
    both = relative_buckets(distance, bidirectional=True, buckets=8, max_distance=16)
    assert both.tolist() == [
        [0, 5, 6, 6, 6],
        [1, 0, 5, 6, 6],
        [2, 1, 0, 5, 6],
        [2, 2, 1, 0, 5],
        [2, 2, 2, 1, 0],
    ]
    past = relative_buckets(distance, bidirectional=False, buckets=8, max_distance=16)
    assert past.tolist() == [
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 1, 0, 0, 0],
        [3, 2, 1, 0, 0],
        [4, 3, 2, 1, 0],
    ]


def test_bias_follows_the_positions_given() -> None:
    bias = RelativeBias(2, bidirectional=True, buckets=8, max_distance=16)
    with torch.no_grad():
        bias.weight.copy_(torch.arange(16).view(8, 2))
    shifted = bias(torch.tensor([7]), torch.tensor([6, 7, 9]))
    assert shifted.tolist() == [[[[2, 0, 12]], [[3, 1, 13]]]]  # [1, heads, queries, keys]


def test_masks_as_matrices() -> None:
    x = HIDDEN
    assert key_mask_bias(torch.tensor([[True, True, False]])).tolist() == [[[[0, 0, x]]]]
    assert causal_bias(torch.arange(3), torch.arange(3)).tolist() == [[[[0, x, x], [0, 0, x], [0, 0, 0]]]]
    assert causal_bias(torch.tensor([1]), torch.arange(3)).tolist() == [[[[0, 0, x]]]]


def test_a_hidden_key_weighs_nothing() -> None:
    scores = torch.tensor([80.0, -80.0, 100.0]) + torch.tensor([HIDDEN, 0.0, HIDDEN])
    assert scores.softmax(0).tolist() == [0.0, 1.0, 0.0]
