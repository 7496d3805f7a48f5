"""Which of the questions that wait are read next, and together: one thread reads, and the callers wait.

A question uses all cores while it is read, so there is one thread. Callers take turns: one that asks sixty
questions at once is behind nobody, and nobody is behind its sixty. What is read together has the same reader
and the same way to write answers, within a budget of characters (`fidkit.engine.schedule.batcher`).

Answers are written step by step, and between steps others are taken in: a long answer, or one of which much
evidence is tested, lets short ones pass. Taking one in costs many steps, since its passages are encoded. So
those that are being written have the processor for as long as the last to be taken in had it, and none of
them starves.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fidkit.engine.answering import Stream
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.steps import Stepwise
from fidkit.engine.schedule.batcher import READ_TOGETHER, Batch, Limits
from fidkit.types import Answer, Passage

if TYPE_CHECKING:
    from fidkit.answerer import Answerer

_WEIGHT_OF_NEW = 0.2  # of the last batch, in how long a character takes
_ALONE = 500
"""What a question takes by itself, as so many characters of passages do. Without it, how long a character
takes would be learned of questions with hardly any, and those with many would seem to take minutes."""
_SIDE_BY_SIDE = 4  # batches that are being written at once, each of which holds its context
_log = logging.getLogger(__name__)


class OverloadedError(Exception):
    """Too much waits already.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _stopping() -> OverloadedError:
    return OverloadedError("the server is stopping; ask again in a moment", 5.0)


class LateError(Exception):
    """The question waited longer than it may take."""


@dataclass(eq=False)
class Asked:
    """A question with its passages, waiting to be read.

    Attributes:
        reader: what reads it.
        question, passages, decoding, test_evidence, stream: see `Answerer.read`.
        caller: whose turn it is; the questions of one request have one.
        deadline: by `time.monotonic`; a question isn't begun after it.
        answer: of this question, and seconds that it waited.
        size: characters to read.
        work: what reading them takes, in characters; all that waits is summed up whenever a question comes.
    """

    reader: Answerer
    question: str
    passages: Sequence[Passage]
    decoding: Decoding
    test_evidence: int = 0
    stream: Stream | None = None
    caller: Hashable = None
    deadline: float = math.inf
    came: float = field(default_factory=time.monotonic)
    answer: Future[tuple[Answer, float]] = field(default_factory=Future)
    size: int = field(init=False)
    work: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(len(p.text) + len(p.title) for p in self.passages) + len(self.question)
        self.work = self.size + _ALONE

    def goes_with(self, other: Asked) -> bool:
        """Whether one call can read both."""
        same = self.reader is other.reader and self.decoding == other.decoding
        return same and self.test_evidence == other.test_evidence


class _Gone(Exception):
    """Nobody waits for any answer of a batch any more."""


ReadAll = Callable[[Sequence[Asked], Sequence[Stream | None]], Stepwise[list[Answer]]]
"""Reads questions that go together, step by step; each stream sees its answer grow."""


@dataclass(eq=False)
class _Batch:
    """Questions that are being read together.

    Attributes:
        questions: that somebody waited for when it began.
        steps: what is left of the work.
        begun: by `time.monotonic`.
        seconds: that its steps took so far.
    """

    questions: list[Asked]
    steps: Stepwise[list[Answer]]
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def work(self) -> int:
        return sum(one.work for one in self.questions)


class Scheduler:
    """Questions in, answers out, a batch at a time.

    Args:
        read: what reads a batch. It is called, and its steps are gone, by one thread.
        together: the most that is read in one call.
        waiting: questions that may wait.
    """

    def __init__(self, read: ReadAll, together: Limits = READ_TOGETHER, waiting: int = 256) -> None:
        self._read, self._together, self._most = read, together, waiting
        self._state = threading.Condition()
        self._turns: OrderedDict[Hashable, deque[Asked]] = OrderedDict()
        self._reading: list[_Batch] = []
        self._step_begun = math.inf
        self._taking_in = self._since = 0.0  # seconds that the last batch took, and that all steps took since
        self._seconds_a_character = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="fidkit-read", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions that wait."""
        with self._state:
            return sum(map(len, self._turns.values()))

    @property
    def running(self) -> int:
        """Questions that are being read."""
        with self._state:
            return sum(len(batch.questions) for batch in self._reading)

    @property
    def busy_seconds(self) -> float:
        """How long the step that is under way has taken so far."""
        return max(0.0, time.monotonic() - self._step_begun)

    @property
    def seconds_ahead(self) -> float:
        """How long what waits, and what is being read, will take, as it went so far."""
        with self._state:
            return self._seconds_ahead()

    def submit(self, asked: Sequence[Asked]) -> None:
        """Take questions of one caller, all or none.

        Raises:
            OverloadedError: too many wait, or so many that these would be late.
        """
        with self._state:
            if self._closed:
                raise _stopping()
            waiting = sum(map(len, self._turns.values()))
            ahead = self._seconds_ahead()
            if waiting + len(asked) > self._most:
                raise OverloadedError(
                    f"{waiting} questions wait already, {self._most} may; ask again later", max(1.0, ahead)
                )
            self._refuse_late(asked, ahead)
            for one in asked:
                self._turns.setdefault(one.caller, deque()).append(one)
            self._state.notify()

    def drain(self) -> None:
        """Take nothing in any more: what waits is told so, and what is being read is read to its end."""
        with self._state:
            self._closed = True
            waiting = [one for of_caller in self._turns.values() for one in of_caller]
            self._turns.clear()
            self._state.notify()
        for one in waiting:
            if one.answer.set_running_or_notify_cancel():
                one.answer.set_exception(_stopping())

    def close(self) -> None:
        """`drain`, and wait for what is being read."""
        self.drain()
        self._thread.join()

    def _refuse_late(self, asked: Sequence[Asked], ahead: float) -> None:
        """Refuse what would be late, as it went so far.

        Where nothing is being read, that may be long ago, and nothing that is read says so: a single question
        is taken then, and more of them seem to take less from one time to the next.
        """
        own = self._seconds_a_character * sum(one.work for one in asked)
        left = min(one.deadline for one in asked) - time.monotonic()
        idle = not (self._turns or self._reading)
        if ahead + own <= left or (idle and len(asked) == 1 and left > 0):
            return
        if idle:
            self._seconds_a_character /= 2
        why = f"what waits already takes {ahead:.0f} seconds, too long for these; ask again later"
        if own > left:
            why = f"these take {own:.0f} seconds, and {max(0.0, left):.0f} are left; ask for less at once"
        raise OverloadedError(why, max(1.0, ahead + own - left))

    def _seconds_ahead(self) -> float:
        work = sum(one.work for waiting in self._turns.values() for one in waiting)
        rate = self._seconds_a_character
        return rate * work + sum(max(0.0, rate * batch.work - batch.seconds) for batch in self._reading)

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._turns or self._reading or self._closed)
                if not self._turns and not self._reading:
                    return
                batch = self._next() if self._turns and self._takes_in() else []
            if batch:
                self._begin(batch)
            for under_way in list(self._reading):
                self._go_on(under_way)

    def _takes_in(self) -> bool:
        """Whether it is the turn of those that wait, and not of those whose answers are being written."""
        if not self._reading:
            return True
        return len(self._reading) < _SIDE_BY_SIDE and self._since >= self._taking_in

    def _next(self) -> list[Asked]:
        """The question whose turn it is, and what goes with it, one of each caller in turn."""
        batch: list[Asked] = []
        size: Batch | None = None
        grows = True
        while grows:
            grows = False
            for caller in list(self._turns):
                one = self._first_of(caller)
                if one is None:
                    continue
                if size is None:
                    size = Batch(self._together, one.size)
                elif one.goes_with(batch[0]) and size.has_room(one.size):
                    size.add(one.size)
                else:  # it keeps its place, so that it is the first of a batch soon
                    continue
                batch.append(self._turns[caller].popleft())
                self._turns.move_to_end(caller)
                grows = True
        return batch

    def _first_of(self, caller: Hashable) -> Asked | None:
        """What the caller asked first and still wants; one who wants nothing has no turn any more."""
        waiting = self._turns[caller]
        while waiting and not self._still_wanted(waiting[0]):
            waiting.popleft()
        if waiting:
            return waiting[0]
        del self._turns[caller]
        return None

    def _still_wanted(self, one: Asked) -> bool:
        if one.answer.cancelled():
            return False
        if time.monotonic() > one.deadline:
            one.answer.set_exception(LateError("the question waited for longer than it may take"))
            return False
        return True

    def _begin(self, questions: Sequence[Asked]) -> None:
        """Take questions in: their first step, in which passages are encoded."""
        wanted = [one for one in questions if one.answer.set_running_or_notify_cancel()]
        if not wanted:
            return
        batch = _Batch(wanted, self._read(wanted, [_while_wanted(one, wanted) for one in wanted]))
        with self._state:
            self._reading.append(batch)
        self._go_on(batch)
        self._taking_in, self._since = batch.seconds, 0.0

    def _go_on(self, batch: _Batch) -> None:
        """Go one step, and give the answers after the last."""
        self._step_begun = begun = time.monotonic()
        answers: list[Answer] | None = None
        fault: Exception | None = None
        try:
            if all(one.stream is _gone for one in batch.questions):
                raise _Gone
            next(batch.steps)
        except StopIteration as end:
            answers = end.value
        except Exception as error:
            fault = error
        seconds = time.monotonic() - begun
        self._step_begun = math.inf
        with self._state:
            batch.seconds += seconds
            self._since += seconds
            if answers is None and fault is None:
                return
            self._reading.remove(batch)
        batch.steps.close()
        if answers is not None:
            self._give(batch, answers)
        else:
            assert fault is not None
            self._fail(batch, fault)

    def _give(self, batch: _Batch, answers: list[Answer]) -> None:
        self._learn(batch.seconds / batch.work)
        paused = time.monotonic() - batch.begun - batch.seconds
        for one, answer in zip(batch.questions, answers, strict=True):
            one.answer.set_result((answer, batch.begun - one.came + paused))

    def _fail(self, batch: _Batch, fault: Exception) -> None:
        if isinstance(fault, _Gone):
            return
        if len(batch.questions) == 1:
            batch.questions[0].answer.set_exception(fault)
            return
        # One of them is at fault, and the others shall not bear it.
        _log.debug("a batch of %d failed, each is read alone: %s", len(batch.questions), fault)
        alone = [_Batch([one], self._read([one], [_while_wanted(one, [one])])) for one in batch.questions]
        with self._state:
            self._reading += alone

    def _learn(self, seconds_a_character: float) -> None:
        with self._state:
            before = self._seconds_a_character or seconds_a_character
            self._seconds_a_character = before + _WEIGHT_OF_NEW * (seconds_a_character - before)


def abandon(one: Asked) -> None:
    """Say that nobody waits for an answer any more: it isn't begun, or ended where it is being written."""
    one.answer.cancel()
    one.stream = _gone


def _gone(_text: str) -> None:
    """The stream of a question that nobody waits for."""


def _while_wanted(one: Asked, batch: Sequence[Asked]) -> Stream | None:
    """The stream of a question; it ends the batch when nobody waits for any answer of it."""
    if one.stream is None:
        return None

    def grown(text: str) -> None:
        if all(other.stream is _gone for other in batch):
            raise _Gone
        if one.stream is not None:
            one.stream(text)

    return grown


__all__ = ["Asked", "LateError", "OverloadedError", "Scheduler", "abandon"]
