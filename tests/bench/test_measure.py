"""Rounds are interleaved, times are what the clock said, ratios are taken within a round."""

import itertools

import pytest

from bench.toy import CPU, FakeClock, Quiet, Toy
from fidkit.bench.measure import (
    FEW,
    STAGES,
    Clock,
    Times,
    rotated,
    run_round,
    summary,
    times_faster,
    warm_up,
)

TOKENS = 6


def three(log: list) -> list[Toy]:
    return [Toy(name, log) for name in "abc"]


def test_a_round_runs_every_subject_once_in_turn() -> None:
    log: list = []
    progress = Quiet()
    assert list(run_round(three(log), TOKENS, Clock(CPU), progress)) == ["a", "b", "c"]
    assert log == [(name, what) for name in "abc" for what in ("encode", FEW, TOKENS)]
    assert progress.done == 3


def test_times_are_the_clocks() -> None:
    clock = FakeClock([10, 4, 12, 20, 5, 25])
    times = run_round([Toy("a"), Toy("b")], TOKENS, clock, Quiet())
    assert times["a"] == Times(encoder_ms=10, few_ms=4, decoder_ms=12, tokens=TOKENS)
    assert (times["a"].step_ms, times["a"].total_ms) == (2.0, 22.0)
    assert [times["b"].of(stage) for stage in STAGES] == [20, 25, 5.0, 45]


@pytest.mark.parametrize("tokens", [1, FEW])
def test_short_answers_tell_no_step(tokens: int) -> None:
    times = Times(encoder_ms=10, few_ms=4, decoder_ms=3, tokens=tokens)
    assert times.step_ms is None
    assert times.total_ms == 13
    assert times_faster([{"own": times, "other": times}], "own", "other", "step_ms") is None


def test_the_clock_counts_milliseconds() -> None:
    assert 0 <= Clock(CPU)(lambda: None) < 1000


def test_warming_up_does_what_rounds_do() -> None:
    log: list = []
    assert warm_up(Toy("a", log), TOKENS, Clock(CPU)) >= 0
    assert log == [("a", "encode"), ("a", TOKENS), ("a", FEW)]


def test_rotation_begins_elsewhere() -> None:
    subjects = three([])
    assert ["".join(s.name for s in rotated(subjects, by)) for by in range(4)] == ["abc", "bca", "cab", "abc"]


def test_summary() -> None:
    assert summary([3.0, 1.0, 9.0]) == {"min": 1.0, "median": 3.0, "max": 9.0, "n": 3}


def rounds_of(own: list[float], other: list[float]) -> list[dict[str, Times]]:
    return [
        {"own": Times(1, 0, a, TOKENS), "other": Times(1, 0, b, TOKENS)}
        for a, b in zip(own, other, strict=True)
    ]


def test_ratios_are_medians_of_rounds_not_ratios_of_medians() -> None:
    # The machine is five times slower in the second round: the ratio of medians would be 20 / 10.
    rounds = rounds_of([10, 50, 4], [30, 150, 20])
    assert times_faster(rounds, "own", "other", "decoder_ms") == 3
    assert times_faster(rounds, "other", "own", "decoder_ms") == pytest.approx(1 / 3)
    for permuted in itertools.permutations(rounds):
        assert times_faster(permuted, "own", "other", "decoder_ms") == 3


def test_steps_lost_in_noise_have_no_ratio() -> None:
    rounds = rounds_of([10, 10], [30, 30])
    lost = {**rounds[0], "own": Times(1, 11, 10, TOKENS)}
    assert times_faster([lost, rounds[1]], "own", "other", "step_ms") == 3
    assert times_faster([lost], "own", "other", "step_ms") is None
