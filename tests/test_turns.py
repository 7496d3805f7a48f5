"""Answers that take turns: between the steps of one, others are begun and go on."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fidkit import Passage
from fidkit.answerer import Answerer
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.steps import Stepwise, whole
from fidkit.errors import UsageError
from fidkit.types import Answer

TEA = Passage("tea", "Tea", "Tea comes from China. It was first a medicine, and is grown in Kenya now.")
NILE = Passage("nile", "Nile", "The Nile flows north. Its longest branch begins in Burundi.")
FRAM = Passage(
    "fram", "Fram", "Fram was the ship that carried Nansen and later Amundsen to the ice and back."
)
WORK = [
    ("where does tea come from?", [TEA, NILE, FRAM], Decoding(max_tokens=12, min_tokens=8)),
    ("which ship carried Nansen?", [FRAM, TEA], Decoding(max_tokens=10, beams=3)),
    ("where does the Nile begin?", [NILE], Decoding(max_tokens=4)),
    ("what was tea first?", [NILE, TEA], Decoding(max_tokens=9, temperature=1.0, seed=3, n_best=2)),
    ("who flew to the moon?", [], Decoding(max_tokens=3)),
]


@pytest.fixture(scope="module", params=["auto", "int8"])
def answerer(request: pytest.FixtureRequest) -> Answerer:
    return Answerer("pocket", precision=request.param)


def begun(answerer: Answerer, number: int) -> Stepwise[list[Answer]]:
    question, passages, how = WORK[number]
    tests = 2 if how.beams == 1 else 0
    return answerer.reading([question, question[:-1]], [passages, passages[:1]], how, [None, None], tests)


def timeless(answers: Sequence[Answer]) -> list[Answer]:
    return [replace(answer, timings_ms={}) for answer in answers]


@pytest.mark.parametrize("apart", [0, 1, 3])
def test_answers_are_those_of_each_alone(answerer: Answerer, apart: int) -> None:
    """A work is begun so many rounds after the one before."""
    alone = [timeless(whole(begun(answerer, number))) for number in range(len(WORK))]
    done: dict[int, list[Answer]] = {}
    running: deque[tuple[int, Stepwise[list[Answer]]]] = deque()
    longest = turn = 0
    while len(done) < len(WORK):
        for number in range(len(WORK)):
            if turn == apart * number:
                running.append((number, begun(answerer, number)))
        longest, turn = max(longest, len(running)), turn + 1
        for number, work in list(running):
            try:
                next(work)
            except StopIteration as end:
                done[number] = timeless(end.value)
                running.remove((number, work))
    assert [done[number] for number in range(len(WORK))] == alone
    assert longest > 1


def test_pauses_are_no_part_of_the_timings(answerer: Answerer) -> None:
    import time

    work = begun(answerer, 0)
    began, pauses = time.perf_counter(), 0.0
    while True:
        try:
            next(work)
        except StopIteration as end:
            [answer, _] = end.value
            break
        paused = time.perf_counter()
        time.sleep(0.02)
        pauses += time.perf_counter() - paused
    assert answer.timings_ms["total"] / 1000 <= time.perf_counter() - began - pauses


def test_work_that_is_given_up_leaves_nothing_behind(answerer: Answerer) -> None:
    expected = timeless(whole(begun(answerer, 1)))
    given_up = begun(answerer, 0)
    next(given_up)
    given_up.close()
    assert timeless(whole(begun(answerer, 1))) == expected


def test_a_runner_of_pytorch_takes_no_turns() -> None:
    """What it works within is the thread's."""
    from fidkit.reader import Reader

    answerer = Answerer(Reader.from_preset("tiny-fid"))
    assert not answerer.runner.takes_turns
    with pytest.raises(StopIteration):
        next(begun(answerer, 0))


def test_an_answerer_that_was_closed_begins_nothing() -> None:
    answerer = Answerer("pocket")
    answerer.close()
    with pytest.raises(UsageError, match="closed"):
        next(begun(answerer, 0))
