"""Matrices in 8 bits, and several as one."""

import warnings

import numpy as np

from fidkit.checkpoint.stored import Weight
from fidkit.engine.cpu.weights import joined, to_int8


def test_a_row_of_zeros_is_stored_without_a_division_by_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight = to_int8(np.array([[0, 0, 0], [1, -2, 0.5]], np.float32))
    assert weight.values.tolist() == [[0, 0, 0], [64, -127, 32]]
    assert weight.scale is not None
    assert (weight.scale > 0).all()
    assert np.isfinite(weight.floats()).all()


def test_several_matrices_are_one_in_8_bits_only_if_all_are() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((rows, 5), dtype=np.float32) for rows in (2, 3))
    both = joined([to_int8(one), to_int8(other)])
    assert both.scale is not None
    assert np.array_equal(both.floats(), np.concatenate([to_int8(one).floats(), to_int8(other).floats()]))
    mixed = joined([to_int8(one), Weight(other)])
    assert mixed.scale is None
    assert np.array_equal(mixed.floats(), np.concatenate([to_int8(one).floats(), other]))
