"""Batches: each question once, within the budget, with little padding."""

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.schedule.batcher import Limits, plan_batches
from fidkit.errors import UsageError

sizes_of_questions = st.lists(st.integers(0, 60), max_size=40)
limits_of_batches = st.builds(
    Limits,
    tokens=st.integers(1, 150),
    padded=st.booleans(),
    questions=st.none() | st.integers(1, 6),
    padding=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


def keeps(limits: Limits, sizes: list[int]) -> bool:
    if len(sizes) == 1:
        return True  # alone, whatever its size
    padded = max(sizes) * len(sizes)
    return (
        (padded if limits.padded else sum(sizes)) <= limits.tokens
        and (limits.questions is None or len(sizes) <= limits.questions)
        and padded - sum(sizes) <= limits.padding * padded
    )


@given(sizes=sizes_of_questions, limits=limits_of_batches)
def test_each_question_once_and_every_limit_kept(sizes: list[int], limits: Limits) -> None:
    batches = plan_batches(sizes, limits)
    assert sorted(n for batch in batches for n in batch) == list(range(len(sizes)))
    assert all(keeps(limits, [sizes[n] for n in batch]) for batch in batches)


@given(sizes=sizes_of_questions, tokens=st.integers(60, 200))
def test_batches_are_at_least_half_full_on_average(sizes: list[int], tokens: int) -> None:
    batches = plan_batches(sizes, Limits(tokens))
    assert len(batches) <= 2 * sum(sizes) / tokens + 1


@given(sizes=sizes_of_questions, limits=limits_of_batches)
def test_similar_sizes_go_together(sizes: list[int], limits: Limits) -> None:
    """No question of one batch lies between two sizes of another."""
    batches = [[sizes[n] for n in batch] for batch in plan_batches(sizes, limits)]
    assert all(min(one) >= max(next_one) for one, next_one in itertools.pairwise(batches))


def test_equal_questions_are_not_padded_and_unequal_ones_are_kept_apart() -> None:
    assert plan_batches([10, 90, 10, 90], Limits(1000, padding=0)) == [[1, 3], [0, 2]]
    assert plan_batches([10, 90, 10, 90], Limits(1000)) == [[1, 3, 0, 2]]
    # What is padded: 4 x 90 tokens, where the sum is 200.
    assert plan_batches([10, 90, 10, 90], Limits(200)) == [[1, 3, 0, 2]]
    assert plan_batches([10, 90, 10, 90], Limits(200, padded=True)) == [[1, 3], [0, 2]]


def test_a_question_above_the_budget() -> None:
    assert plan_batches([5, 120, 5], Limits(100)) == [[1], [0, 2]]
    said = r"question 2 has 120 passage tokens, 20 above the budget; the largest that fits has 100: give it"
    with pytest.raises(UsageError, match=said):
        plan_batches([5, 120, 5], Limits(100, strict=True))
    assert plan_batches([100], Limits(100, strict=True)) == [[0]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tokens": 0}, "budget is 0 tokens; expected 1 or more"),
        ({"tokens": 9, "questions": 0}, "limit is 0 questions"),
        ({"tokens": 9, "padding": 1.5}, "share of padding is 1.5; expected 0 to 1"),
    ],
)
def test_limits_that_nothing_keeps_are_refused(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Limits(**values)


def test_planning_needs_no_torch() -> None:
    modules = "fidkit.engine.schedule.batcher, fidkit.engine.generation.decoding"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
