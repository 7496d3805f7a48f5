"""Learning rates, worked out by hand."""

import pytest

from fidkit.train.loop.schedule import TAIL_WEIGHT, fade, rate
from fidkit.train.specs import OptimiserSpec


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


def test_inverse_square_root_is_t5s() -> None:
    spec = OptimiserSpec(schedule="inverse-sqrt", rate=0.01, warmup=10_000)
    for step in (0, 1, 9_998, 9_999, 10_000, 123_456, 999_999):
        assert rate(step, 1_000_000, spec) == pytest.approx(1 / max(step + 1, 10_000) ** 0.5)


def test_inverse_square_root_without_a_plateau() -> None:
    spec = OptimiserSpec(schedule="inverse-sqrt", rate=2.0, warmup=0)
    assert [rate(step, 9, spec) for step in (0, 3, 8)] == pytest.approx([2.0, 1.0, 2 / 3])


def test_constant_after_warm_up() -> None:
    spec = OptimiserSpec(schedule="constant", rate=1.0, warmup=2)
    assert [rate(step, 5, spec) for step in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_cosine_ends_at_the_final_rate() -> None:
    spec = OptimiserSpec(schedule="cosine", rate=1.0, warmup=4, final=0.2)
    rates = [rate(step, 12, spec) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[7] == pytest.approx(0.6)  # half way: half way between 1 and 0.2
    assert rates[11] == pytest.approx(0.2)
    assert rates[3:] == sorted(rates[3:], reverse=True)


@pytest.mark.parametrize("schedule", ["linear", "inverse-sqrt", "constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3, 100])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_rates_stay_between_nothing_and_the_highest(schedule: str, warmup: int, steps: int) -> None:
    spec = OptimiserSpec(schedule=schedule, rate=0.5, warmup=warmup)
    assert all(0 < rate(step, steps, spec) <= 0.5 for step in range(steps))


def test_auxiliary_losses_fade_over_the_last_tenth() -> None:
    assert [fade(step, 20) for step in (0, 17, 18, 19)] == [1.0, 1.0, TAIL_WEIGHT, TAIL_WEIGHT]
