"""Which questions are read next: turns, batches, deadlines, and what one question does to others."""

import threading
import time
from types import SimpleNamespace

import pytest

from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.schedule.batcher import Limits
from fidkit.server import scheduler as scheduling
from fidkit.server.metrics import Metrics
from fidkit.server.scheduler import Asked, LateError, OverloadedError, Scheduler, abandon
from fidkit.types import Answer, Passage

READER, OTHER = object(), object()


class Reading:
    """Reads when it is let, and keeps what it read together, and what ended when."""

    def __init__(self):
        self.batches, self.ended, self.go, self.begun = [], [], threading.Event(), threading.Event()
        self.taking_in = self.step = 0.0
        self.sleep = time.sleep

    def __call__(self, asked, streams):
        """Questions that begin with a number have so many steps more."""
        self.batches.append([one.question for one in asked])
        self.sleep(self.taking_in)
        self.begun.set()
        assert self.go.wait(10)
        for stream in streams:
            if stream:
                stream("so far")
        if any(one.question == "bad" for one in asked):
            raise ValueError("bad")
        for _ in range(
            max(int(one.question.split()[0]) if one.question[0].isdigit() else 0 for one in asked)
        ):
            yield
            self.sleep(self.step)
        self.ended += [one.question for one in asked]
        return [Answer(f"of {one.question}", 0.0) for one in asked]


@pytest.fixture
def reading():
    return Reading()


@pytest.fixture
def clock(reading, monkeypatch):
    """Time that goes by only while something is read."""
    now = SimpleNamespace(seconds=0.0)

    def sleep(seconds):
        now.seconds += seconds

    monkeypatch.setattr(scheduling, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    reading.sleep = sleep
    return now


@pytest.fixture
def scheduler(reading):
    made = Scheduler(reading, Limits(tokens=100), waiting=8)
    yield made
    reading.go.set()
    made.close()


def asked(question, caller=None, size=10, reader=READER, **more):
    passages = [Passage("1", "", "x" * (size - len(question)))]
    return Asked(reader, question, passages, Decoding(), caller=caller or object(), **more)


def held(scheduler, reading):
    """One question is being read, so that all that comes waits."""
    first = asked("first")
    scheduler.submit([first])
    assert reading.begun.wait(10)
    return first


def texts(questions):
    return [one.answer.result(10)[0].text for one in questions]


def test_each_gets_its_own_answer(scheduler, reading):
    reading.go.set()
    questions = [asked(f"q{n}") for n in range(8)]
    scheduler.submit(questions[:4])
    assert texts(questions[:4]) == [f"of q{n}" for n in range(4)]
    scheduler.submit(questions[4:])
    assert texts(questions[4:]) == [f"of q{n}" for n in range(4, 8)]


def test_callers_take_turns_and_large_requests_starve_nobody(scheduler, reading):
    held(scheduler, reading)
    many, small = [asked(f"m{n}", caller="many", size=60) for n in range(4)], asked("small", size=60)
    scheduler.submit(many)
    scheduler.submit([small])
    reading.go.set()
    texts([*many, small])
    assert reading.batches == [["first"], ["m0"], ["small"], ["m1"], ["m2"], ["m3"]]


def test_what_fits_is_read_together(scheduler, reading):
    held(scheduler, reading)
    questions = [asked(f"q{n}", size=40) for n in range(3)]
    scheduler.submit(questions)
    reading.go.set()
    texts(questions)
    assert reading.batches == [["first"], ["q0", "q1"], ["q2"]]


def test_one_caller_fills_a_batch_alone(scheduler, reading):
    held(scheduler, reading)
    questions = [asked(f"q{n}", caller="one", size=25) for n in range(5)]
    scheduler.submit(questions)
    reading.go.set()
    texts(questions)
    assert reading.batches == [["first"], ["q0", "q1", "q2", "q3"], ["q4"]]


def test_a_large_question_keeps_its_place(scheduler, reading):
    held(scheduler, reading)
    questions = [asked("a", size=40), asked("large", size=90), asked("b", size=40), asked("c", size=40)]
    scheduler.submit(questions)
    reading.go.set()
    texts(questions)
    assert reading.batches == [["first"], ["a", "b"], ["large"], ["c"]]


@pytest.mark.parametrize("other", [{"reader": OTHER}, {"test_evidence": 2}])
def test_only_what_goes_together_is_read_together(scheduler, reading, other):
    held(scheduler, reading)
    questions = [asked("a"), asked("b", **other), asked("c")]
    scheduler.submit(questions)
    reading.go.set()
    texts(questions)
    assert reading.batches == [["first"], ["a", "c"], ["b"]]


def test_a_bad_question_harms_no_other(scheduler, reading):
    held(scheduler, reading)
    questions = [asked("good"), asked("bad"), asked("fine")]
    scheduler.submit(questions)
    reading.go.set()
    assert texts([questions[0], questions[2]]) == ["of good", "of fine"]
    with pytest.raises(ValueError, match="bad"):
        questions[1].answer.result(10)
    assert reading.batches[1:] == [["good", "bad", "fine"], ["good"], ["bad"], ["fine"]]


def test_who_left_is_not_read_for(scheduler, reading):
    held(scheduler, reading)
    gone, there = asked("gone", size=60), asked("there", size=60)
    scheduler.submit([gone])
    scheduler.submit([there])
    abandon(gone)
    reading.go.set()
    texts([there])
    assert reading.batches == [["first"], ["there"]]


def test_a_batch_that_nobody_waits_for_ends(scheduler, reading):
    seen = []
    one = asked("one", stream=seen.append)
    scheduler.submit([one])
    assert reading.begun.wait(10)
    abandon(one)
    reading.go.set()
    after = asked("after")
    scheduler.submit([after])
    assert texts([after]) == ["of after"]
    assert seen == []
    assert not one.answer.done()


def test_who_left_takes_no_answer_from_others(scheduler, reading):
    gone, there = asked("gone", stream=print), asked("there", stream=lambda text: None)
    scheduler.submit([gone, there])
    assert reading.begun.wait(10)  # both are being read
    abandon(gone)
    reading.go.set()
    assert texts([there]) == ["of there"]
    assert reading.batches == [["gone", "there"]]


def test_nothing_is_left_of_those_who_asked(scheduler, reading):
    reading.go.set()
    read, gone, last = asked("read"), asked("gone"), asked("last")
    abandon(gone)
    for one in (read, gone, last):
        scheduler.submit([one])
    texts([read, last])
    deadline = time.monotonic() + 5
    while scheduler._turns and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not scheduler._turns


def test_a_stream_sees_its_answer(scheduler, reading):
    seen = []
    one = asked("one", stream=seen.append)
    reading.go.set()
    scheduler.submit([one])
    texts([one])
    assert seen == ["so far"]


def test_what_is_late_is_not_begun(scheduler, reading):
    held(scheduler, reading)
    late = asked("late", deadline=time.monotonic() + 0.05)
    scheduler.submit([late])
    time.sleep(0.1)
    reading.go.set()
    with pytest.raises(LateError):
        late.answer.result(10)
    assert reading.batches == [["first"]]


def test_a_full_queue_takes_all_of_a_request_or_nothing(scheduler, reading):
    held(scheduler, reading)
    scheduler.submit([asked("w") for _ in range(6)])
    with pytest.raises(OverloadedError, match="6 questions wait already, 8 may") as refused:
        scheduler.submit([asked("x") for _ in range(3)])
    assert refused.value.retry_after >= 1
    assert scheduler.waiting == 6
    scheduler.submit([asked("y") for _ in range(2)])
    assert scheduler.waiting == 8
    assert scheduler.running == 1


def test_what_would_be_late_is_refused_at_once(reading):
    reading.go.set()
    reading.taking_in = 0.2
    slow = Scheduler(reading, Limits(tokens=10), waiting=100)
    one = asked("one", size=10)
    slow.submit([one])
    texts([one])  # from now on it is known how long a character takes
    slow.submit([asked(f"q{n}", size=10) for n in range(10)])
    with pytest.raises(OverloadedError, match=r"takes .* seconds, too long") as refused:
        slow.submit([asked("late", deadline=time.monotonic() + 0.5)])
    assert 1 <= refused.value.retry_after < 5
    slow.close()


def test_a_long_answer_lets_short_ones_pass(scheduler, reading):
    reading.step = 0.01
    reading.go.set()
    long = asked("200 steps", size=100)
    scheduler.submit([long])
    assert reading.begun.wait(10)
    short = [asked(f"short{n}", size=60) for n in range(3)]
    scheduler.submit(short)
    texts(short)
    assert not long.answer.done()
    assert texts([long]) == ["of 200 steps"]
    assert reading.ended == ["short0", "short1", "short2", "200 steps"]


def test_a_long_answer_goes_on_while_others_come(clock, reading, scheduler):
    """Taking in one more takes as long as six of its steps, so there are six between two of them."""
    reading.taking_in, reading.step = 6.0, 1.0
    scheduler.submit([asked("30 steps", size=100)])
    assert reading.begun.wait(10)
    short = [asked(f"short{n}", size=100) for n in range(8)]
    scheduler.submit(short)
    reading.go.set()
    texts(short)
    assert reading.ended.index("30 steps") == 4


def test_so_many_are_written_side_by_side(scheduler, reading):
    reading.step = 0.005
    reading.go.set()
    many = [asked(f"{60 + n} steps", size=100) for n in range(8)]
    scheduler.submit(many)
    most = 0
    while not many[-1].answer.done():
        most = max(most, scheduler.running)
        time.sleep(0.001)
    assert most == 4
    assert sorted(reading.ended) == [one.question for one in many]


def test_pauses_count_as_waiting(clock, reading, scheduler):
    reading.taking_in, reading.step = 6.0, 1.0
    long, short = asked("20 steps", size=100, came=0.0), asked("short", size=100, came=0.0)
    scheduler.submit([long])
    assert reading.begun.wait(10)
    scheduler.submit([short])
    reading.go.set()
    assert long.answer.result(10)[1] == 6
    assert short.answer.result(10)[1] == 12


def test_what_nobody_waits_for_ends_between_steps(scheduler, reading):
    reading.step = 0.01
    reading.go.set()
    gone = asked("2000 steps")
    scheduler.submit([gone])
    assert reading.begun.wait(10)
    abandon(gone)
    after = time.monotonic()
    while scheduler.running and time.monotonic() < after + 5:
        time.sleep(0.01)
    assert scheduler.running == 0
    assert reading.ended == []


def test_a_step_that_is_stuck_is_told(scheduler, reading):
    scheduler.submit([asked("first")])
    assert reading.begun.wait(10)
    time.sleep(0.1)
    assert 0.1 <= scheduler.busy_seconds < 5
    reading.go.set()
    after = asked("after")
    scheduler.submit([after])
    texts([after])
    time.sleep(0.05)
    assert scheduler.busy_seconds == 0


def test_what_is_being_read_counts_in_how_long_others_wait(clock, reading, scheduler):
    reading.taking_in = 10.0
    reading.go.set()
    one = asked("one", size=10)
    scheduler.submit([one])
    texts([one])  # a character takes a second
    reading.go.clear()
    reading.begun.clear()
    scheduler.submit([asked("two", size=10)])
    assert reading.begun.wait(10)
    with pytest.raises(OverloadedError, match="what waits already takes 10 seconds"):
        scheduler.submit([asked("late", size=10, deadline=clock.seconds + 15)])
    scheduler.submit([asked("in time", size=10, deadline=clock.seconds + 25)])


def test_what_was_read_of_an_answer_is_not_ahead_any_more(clock):
    begun, go = threading.Event(), threading.Event()

    def read(asked, _streams):
        clock.seconds += 4.0
        yield
        begun.set()
        assert go.wait(10)
        clock.seconds += 6.0
        return [Answer("", 0.0) for _ in asked]

    scheduler = Scheduler(read, Limits(tokens=100))
    go.set()
    scheduler.submit([one := asked("one", size=10)])
    texts([one])  # a character takes a second
    go.clear()
    begun.clear()
    scheduler.submit([asked("two", size=10)])
    assert begun.wait(10)
    assert scheduler.seconds_ahead == pytest.approx(6.0)
    go.set()
    scheduler.close()


def test_one_of_several_that_would_be_late_is_refused_too(clock, reading, scheduler):
    reading.taking_in = 10.0
    reading.go.set()
    scheduler.submit([one := asked("one", size=10)])
    texts([one])  # a character takes a second
    several = [asked("late", deadline=clock.seconds + 15), asked("in time")]
    with pytest.raises(OverloadedError, match="these take 20 seconds, and 15 are left; ask for less at once"):
        scheduler.submit(several)
    assert scheduler.waiting == 0
    scheduler.submit(several)  # where nothing is read, what is known of its pace may be wrong
    assert texts(several[:1]) == ["of late"]


def test_a_server_with_nothing_to_do_takes_a_question(clock, reading, scheduler):
    """However long the last one took, such as one that a sleeping machine came upon."""
    reading.taking_in = 1000.0
    reading.go.set()
    for n in range(3):
        scheduler.submit([one := asked(f"q{n}", deadline=clock.seconds + 60)])
        assert texts([one]) == [f"of q{n}"]


def test_questions_with_few_characters_make_none_with_many_seem_late(clock, reading, scheduler):
    reading.taking_in = 0.02
    reading.go.set()
    for n in range(40):
        scheduler.submit([one := asked(f"q{n}", size=3)])
        texts([one])
    reading.go.clear()
    reading.begun.clear()
    held(scheduler, reading)
    scheduler.submit([long := asked("long", size=12_000, deadline=clock.seconds + 2)])
    reading.go.set()
    assert texts([long]) == ["of long"]


def test_one_slow_answer_is_forgotten(clock, reading, scheduler):
    reading.taking_in = 30.0
    reading.go.set()
    for n in range(30):
        scheduler.submit([one := asked(f"q{n}", size=10)])
        texts([one])
        reading.taking_in = 0.0
    scheduler.submit([last := asked("soon", size=10, deadline=clock.seconds + 1)])
    assert texts([last]) == ["of soon"]


def test_closing_ends_answers_that_are_being_written(reading):
    scheduler = Scheduler(reading, Limits(tokens=10))
    reading.step = 0.005
    reading.go.set()
    long = asked("40 steps")
    scheduler.submit([long])
    assert reading.begun.wait(10)
    scheduler.close()
    assert long.answer.result(0)[0].text == "of 40 steps"


def test_closing_refuses_what_waits(reading):
    scheduler = Scheduler(reading, Limits(tokens=10))
    first = held(scheduler, reading)
    waits = asked("waits")
    scheduler.submit([waits])
    threading.Timer(0.1, reading.go.set).start()
    scheduler.close()
    assert texts([first]) == ["of first"]
    with pytest.raises(OverloadedError, match="stopping"):
        waits.answer.result(0)
    with pytest.raises(OverloadedError, match="stopping"):
        scheduler.submit([asked("more")])


def test_how_long_what_waits_takes(scheduler, reading, clock):
    reading.taking_in = 2.0
    reading.go.set()
    first = asked("first", size=500)  # as long as what it takes by itself
    scheduler.submit([first])
    first.answer.result(5)
    assert scheduler.seconds_ahead == 0
    reading.go.clear()
    reading.begun.clear()
    scheduler.submit([asked("second", size=500)])
    assert reading.begun.wait(5)
    scheduler.submit([asked("third", size=1500)])
    assert scheduler.seconds_ahead == pytest.approx(6.0)
    said = Metrics(SimpleNamespace(scheduler=scheduler)).response().body.decode()
    assert "\nfidkit_seconds_ahead 6.0" in said
