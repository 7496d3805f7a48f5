"""Learning rates, worked out by hand."""

import pytest

from fidkit.train.recipe import OptimiserSpec
from fidkit.train.schedule import rate


def test_warm_up_then_constant_then_linear_decay() -> None:
    spec = OptimiserSpec(rate=1.0, warmup=4, decay_from=0.5, final=0.1)
    rates = [rate(step, 20, spec) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(rates[4:11]) == {1.0}
    # Half of the decay is done at three quarters of the run: halfway from 1.0 to 0.1.
    assert rates[15] == pytest.approx(0.55)
    assert rates[19] == pytest.approx(0.1 + 0.9 * 0.1)


def test_neither_warm_up_nor_decay_is_a_constant() -> None:
    spec = OptimiserSpec(rate=0.2, warmup=0, decay_from=1.0)
    assert {rate(step, 7, spec) for step in range(7)} == {0.2}


def test_warm_up_and_decay_may_overlap() -> None:
    spec = OptimiserSpec(rate=1.0, warmup=10, decay_from=0.0, final=0.0)
    assert rate(4, 10, spec) == pytest.approx(0.5 * 0.6)
