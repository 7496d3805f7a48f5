"""Batches: each question once, within the budget, with little padding, and nobody waits for ever."""

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.schedule.batcher import Limits, Queue, in_order, largest_batch, plan_batches
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


# All questions at hand


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


@given(sizes=sizes_of_questions, limits=limits_of_batches)
def test_results_come_back_in_order(sizes: list[int], limits: Limits) -> None:
    batches = plan_batches(sizes, limits)
    results = [[(n, sizes[n]) for n in batch] for batch in batches]
    assert in_order(batches, results) == list(enumerate(sizes))


def test_a_question_above_the_budget() -> None:
    assert plan_batches([5, 120, 5], Limits(100)) == [[1], [0, 2]]
    said = r"question 2 has 120 passage tokens, 20 above the budget; the largest that fits has 100: give it"
    with pytest.raises(UsageError, match=said):
        plan_batches([5, 120, 5], Limits(100, strict=True))
    assert plan_batches([100], Limits(100, strict=True)) == [[0]]
    with pytest.raises(UsageError, match="the question has 101 passage tokens, 1 above"):
        Queue[str](Limits(100, strict=True), 1).put("who?", 101, 0)


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
    with pytest.raises(UsageError, match="max_wait is -1"):
        Queue[str](Limits(9), -1)


# Questions that come one at a time


@given(
    limits=limits_of_batches,
    max_wait=st.integers(0, 6),
    arrivals=st.lists(st.lists(st.integers(0, 60), max_size=4), max_size=12),
)
def test_a_queue_keeps_every_limit_and_starves_nobody(
    limits: Limits, max_wait: int, arrivals: list[list[int]]
) -> None:
    """One batch a step. Once its wait is over, only those that came before it are read before it."""
    queue: Queue[tuple[int, int]] = Queue(limits, max_wait)
    came: dict[int, int] = {}
    ahead: dict[int, int] = {}
    read: list[int] = []
    now = 0
    while now < len(arrivals) or len(queue):
        for size in arrivals[now] if now < len(arrivals) else []:
            number = len(came)
            came[number], ahead[number] = now, len(queue)
            queue.put((number, size), size, now)
        batch = queue.take(now)
        assert not batch or keeps(limits, [size for _, size in batch])
        assert [number for number, _ in batch] == sorted(number for number, _ in batch)
        for number, _ in batch:
            assert now <= came[number] + max_wait + ahead[number]
        read += [number for number, _ in batch]
        now += 1
    assert sorted(read) == list(came)


def test_a_batch_waits_for_company_but_not_for_ever() -> None:
    queue: Queue[str] = Queue(Limits(100), max_wait=3)
    assert queue.take(0) == []
    queue.put("a", 40, now=0)
    assert queue.take(2.9) == []
    queue.put("b", 40, now=2.9)
    assert queue.take(2.9) == []
    assert queue.take(3) == ["a", "b"]
    assert len(queue) == 0


def test_a_full_batch_does_not_wait() -> None:
    queue: Queue[str] = Queue(Limits(100), max_wait=99)
    for item, size in (("a", 40), ("b", 10), ("c", 41), ("d", 50)):
        queue.put(item, size, now=0)
    assert queue.take(0) == ["a", "b", "c"]  # d finds no room beside c
    assert queue.take(0) == []
    exact: Queue[str] = Queue(Limits(100, questions=1), max_wait=99)
    exact.put("a", 40, now=0)
    assert exact.take(0) == ["a"]


def test_a_question_that_fits_with_nobody_hurries_nobody() -> None:
    queue: Queue[str] = Queue(Limits(100), max_wait=2)
    queue.put("small", 10, now=0)
    queue.put("huge", 500, now=0)
    assert queue.take(0) == []
    assert queue.take(2) == ["small"]
    assert queue.take(2) == ["huge"]


def test_the_oldest_chooses_its_company_by_size() -> None:
    queue: Queue[str] = Queue(Limits(100, questions=3, padding=0.2), max_wait=0)
    for item, size in (("a", 30), ("far", 5), ("b", 28), ("c", 33), ("d", 31)):
        queue.put(item, size, now=0)
    assert queue.take(0) == ["a", "b", "d"]
    assert queue.take(0) == ["far"]
    assert queue.take(0) == ["c"]


# The largest batch


@given(most=st.integers(0, 300), upper=st.integers(0, 300))
def test_the_largest_batch_is_that_of_a_linear_scan(most: int, upper: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= most

    found = largest_batch(fits, upper)
    assert found == max((size for size in range(1, upper + 1) if size <= most), default=0)
    assert len(tried) == len(set(tried)) <= 2 * max(1, found).bit_length() + 1
    assert all(1 <= size <= min(upper, max(1, 2 * found)) for size in tried)


def test_planning_needs_no_torch() -> None:
    modules = "fidkit.engine.schedule.batcher, fidkit.engine.generation.decoding"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
