"""NumPy and PyTorch do the same under these names."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit import arrays
from oracles import quick

FUNCTIONS = {
    "concatenate": lambda x, n: arrays.concatenate([x, x[:1]], 0),
    "stack": lambda x, n: arrays.stack([x, x + 1], 2),
    "split": lambda x, n: arrays.concatenate(arrays.split(x, [1, len(x) - 1])[::-1]),
    "padded": lambda x, n: arrays.padded([x[0, :1], x[0], x[0, :2]], -7),
    "repeated": lambda x, n: arrays.repeated(x, 3),
    "repeated each": lambda x, n: arrays.repeated(x[0], n[0]),
    "masked": lambda x, n: arrays.masked(x, n > 1, -9.0),
    "where": lambda x, n: arrays.where(n > 1, x, -x),
    "expm1": lambda x, n: arrays.expm1(x),
    "log": lambda x, n: arrays.log(x * x + 1),
    "below": lambda x, n: arrays.below(x * x + 1),
    "log_softmax": lambda x, n: arrays.log_softmax(x),
    "softmax": lambda x, n: arrays.softmax(x),
    "largest": lambda x, n: arrays.largest(x, 2)[0],
    "places of the largest": lambda x, n: arrays.largest(x, 3)[1],
    "descending": lambda x, n: arrays.descending(x),
    "descending, with ties": lambda x, n: arrays.descending(n),
    "gather": lambda x, n: arrays.gather(x, n, 1),
    "gather with one axis for all": lambda x, n: arrays.gather(arrays.stack([x, x], 2), n[..., None], 1),
    "taken": lambda x, n: arrays.taken(x[0], n[0]),
    "firsts": lambda x, n: arrays.firsts(arrays.made([0, 0, 1, 4, 4, 4], n)),
    "counts": lambda x, n: arrays.counts(n[0], 6),
    "grouped": lambda x, n: arrays.grouped(n[0]),
    "placed": lambda x, n: arrays.placed(arrays.copied(x), n, 5.0),
    "added": lambda x, n: arrays.added(arrays.copied(x), n, x),
    "raised": lambda x, n: arrays.raised(arrays.copied(x), n, x),
    "full": lambda x, n: arrays.full((2, 3), 4, x, "int64"),
    "arange": lambda x, n: arrays.arange(5, x),
    "typed": lambda x, n: arrays.typed(n, "float64"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@quick
@given(seed=st.integers(0, 999), rows=st.integers(2, 4), columns=st.integers(3, 6))
def test_both_do_the_same(name: str, seed: int, rows: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.permutation(rows * columns).reshape(rows, columns).astype(np.float32) / 7 - 1
    n = generator.integers(0, 3, (rows, columns))
    before = x.copy()
    one = FUNCTIONS[name](x, n)
    other = FUNCTIONS[name](torch.from_numpy(x.copy()), torch.from_numpy(n))
    assert isinstance(one, np.ndarray)
    assert isinstance(other, torch.Tensor)
    assert str(other.dtype) == f"torch.{one.dtype}"
    np.testing.assert_allclose(one, other.numpy(), rtol=1e-6, atol=1e-6)
    assert np.array_equal(x, before)  # what is changed in place is what was asked for


def test_what_is_impossible_stays_the_least() -> None:
    x = np.array([[0.5, -np.inf, 2.0, -np.inf]], np.float32)
    values, places = arrays.largest(x, 3)
    assert values.tolist() == [[2.0, 0.5, -np.inf]]
    assert places[0, :2].tolist() == [2, 0]
    assert arrays.softmax(x)[0, 1] == 0


def test_only_tensors_may_have_to_be_waited_for() -> None:
    assert arrays.answers_at_once(np.zeros(1))
    assert arrays.answers_at_once(torch.zeros(1))
    assert not arrays.answers_at_once(torch.zeros(1, device="meta"))
    assert arrays.device_of(np.zeros(1)) is None
    with arrays.without_gradients(torch.zeros(1)):
        assert torch.is_inference_mode_enabled()
    with arrays.without_gradients(np.zeros(1)):
        assert not torch.is_inference_mode_enabled()
