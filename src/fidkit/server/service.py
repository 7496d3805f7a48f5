"""What a server answers with: its readers, its documents, and the stages that a question goes through.

A question is searched for by a few threads, then waits to be read (`fidkit.server.scheduler`). Readers and
documents are replaced as a whole: what has begun ends with what it began with.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fidkit.answerer import GUESS, Answerer
from fidkit.checkpoint.files import Stamp, stamp_of
from fidkit.engine.generation.decoding import GREEDY, Decoding
from fidkit.engine.locating import placed
from fidkit.errors import UsageError
from fidkit.passages.protocol import NOTHING_FOUND, Passages
from fidkit.server import remembered
from fidkit.server.held import Held
from fidkit.server.limits import Limits
from fidkit.server.scheduler import Asked, Scheduler, abandon
from fidkit.server.told import without_places
from fidkit.types import Answer, Hit, Passage
from fidkit.wording import cut_after

if TYPE_CHECKING:
    from fidkit.engine.answering import Stream
    from fidkit.engine.generation.steps import Stepwise
    from fidkit.engine.precision import Precision
    from fidkit.passages.filter import Filter

_log = logging.getLogger(__name__)

PASSAGES = 20
"""Read for a question where nobody says how many."""
_SEARCHING_THREADS = 4
_MEASURED, _MEASURED_QUESTIONS = "what is this about?", 3
_FIRST = "who wrote it?", [Passage("1", "Tea", "Tea is grown in Kenya.")]


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it is asked.

    Attributes:
        text: in plain words.
        reader: by name; empty for the first that is served.
        k: passages to read, at most.
        where: the documents that may be read; None for all.
        given: passages of the caller's own; None to search.
        test_evidence: passages that are left out in turn.
        decoding: how the answer is written.
        stream: sees it grow.
        found: sees the passages that are read, before they are.
    """

    text: str
    reader: str = ""
    k: int = PASSAGES
    where: Filter | None = None
    given: Sequence[Passage] | None = None
    test_evidence: int = 0
    decoding: Decoding = GREEDY
    stream: Stream | None = None
    found: Callable[[Sequence[Hit]], None] | None = None


class Service:
    """Readers and documents, kept warm for many callers.

    Args:
        corpus: the documents; it is closed with the service.
        readers: what is opened, by name; the first is the default.
        limits: what is taken.
        device, precision: as `Answerer` takes them.
        notes: what a person should know of the documents.
        name: what the documents are called.

    Attributes:
        answered: sees each answer.
        limits: what is taken.
        capacity: questions a second, as it was measured; 0 before.
    """

    def __init__(
        self,
        corpus: Passages,
        readers: Mapping[str, str],
        limits: Limits | None = None,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        notes: Sequence[str] = (),
        name: str = "documents",
    ) -> None:
        if not readers:
            raise UsageError("no reader to serve; expected one or more")
        self.limits = limits or Limits()
        self._notes, self.capacity, self.corpus_name = tuple(notes), 0.0, name
        self._faults: dict[str, str] = {}
        self.answered: Callable[[Answer], None] = lambda answer: None
        self._device, self._precision = device, precision
        self._replacing, self._swapping = threading.Lock(), threading.Lock()
        self._places = _stamped(readers)
        self._stored = dict.fromkeys(readers, remembered.stored(corpus))
        self._corpus = Held(corpus)
        self._answerers = self._opened(corpus)
        self.scheduler = Scheduler(_read, waiting=self.limits.waiting)
        self._searching = ThreadPoolExecutor(_SEARCHING_THREADS, "fidkit-search")

    @property
    def corpus(self) -> Passages:
        """The documents that are served now."""
        return self._corpus.what

    @property
    def readers(self) -> tuple[str, ...]:
        """Names, the default first."""
        return tuple(self._places)

    def reader(self, name: str = "") -> str:
        """The name of a reader that is served; of none, the default's.

        Raises:
            UsageError: no such reader is served.
        """
        if name and name not in self._places:
            served = ", ".join(self.readers)
            raise UsageError(f"no reader {name!r} is served here; expected one of {served}")
        return name or self.readers[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the documents that are served now."""
        lacking = (remembered.told(name, held.what) for name, held in self._answerers.items())
        return (*self._notes, *tuple(self._faults.values()), *filter(None, lacking))

    def tell_of(self, work: str, fault: str = "") -> None:
        """Have `notes` say why the documents can't be brought up to date, until that work goes well again.

        Args:
            work: that failed, or went well.
            fault: for callers; empty where there is none any more.
        """
        if fault:
            self._faults[work] = fault
        else:
            self._faults.pop(work, None)

    def memory_is_another(self, name: str) -> bool:
        """Whether a memory is stored now that wasn't when this reader was opened, and it has use for one."""
        if not self._answerers[name].what.runner.config.memory_layers:
            return False
        found, before = remembered.stored(self.corpus), self._stored[name]
        return found is not None and not (before is not None and found.same_rows(before))

    def lacks_memory(self, name: str) -> bool:
        """Whether a reader has use for a memory of its own, and none is stored."""
        return remembered.lacks(self._answerers[name].what)

    def is_calibrated(self, name: str) -> bool:
        """Whether a reader's confidence is a probability."""
        return self._answerers[name].what.runner.calibration is not None

    @contextmanager
    def opened_corpus(self) -> Iterator[Passages]:
        """The documents, which stay open meanwhile."""
        with ExitStack() as held:
            with self._swapping:
                corpus = held.enter_context(self._corpus)
            yield corpus

    async def search(self, question: str, k: int, where: Filter | None = None) -> list[Hit]:
        """The k passages that match best."""
        with self.opened_corpus() as corpus:
            return await self._search(corpus, question, k, where)

    async def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers to the questions of one caller, in their order.

        When the task is cancelled, since its client has left, nothing that has not begun is read.

        Raises:
            OverloadedError, LateError: too much waits.
            UsageError, CorpusError: no such reader; a filter that leaves no document.
        """
        deadline = time.monotonic() + self.limits.seconds
        names = [self.reader(question.reader) for question in questions]
        with ExitStack() as held:
            with self._swapping:
                corpus = held.enter_context(self._corpus)
                answerers = {name: held.enter_context(self._answerers[name]) for name in set(names)}
            found = await asyncio.gather(*(self._found(corpus, question) for question in questions))
            caller = object()
            asked = [
                Asked(
                    answerers[name], question.text, passages, question.decoding, question.test_evidence,
                    question.stream, caller, deadline,
                )
                for name, question, (passages, _) in zip(names, questions, found, strict=True)
            ]  # fmt: skip
            self.scheduler.submit(asked)
            try:
                made = await asyncio.gather(*(asyncio.wrap_future(one.answer) for one in asked))
            except BaseException:
                for one in asked:
                    abandon(one)
                raise
            finished = [
                _finished(answer, question, waited, corpus, passages, search_ms)
                for (answer, waited), question, (passages, search_ms) in zip(
                    made, questions, found, strict=True
                )
            ]
        for answer in finished:
            self.answered(answer)
        return finished

    def measure(self, question: str = _MEASURED, k: int = PASSAGES) -> float:
        """Ask a question a few times; questions a second, which `capacity` is from now on."""
        with self._answerers[self.readers[0]] as answerer:
            answerer.answer(question, k)  # what is laid out at first use
            begun = time.perf_counter()
            for _ in range(_MEASURED_QUESTIONS):
                answerer.answer(question, k)
        self.capacity = _MEASURED_QUESTIONS / (time.perf_counter() - begun)
        return self.capacity

    def replace_corpus(self, corpus: Passages, notes: Sequence[str] = ()) -> None:
        """Serve other documents from now on; what has begun ends with those before, which are closed then.

        Raises:
            CorpusError: they can't be searched; those before stay, and these are closed.
        """
        with self._replacing:
            try:
                corpus.search(_FIRST[0], 1)  # an index that is missing is found out now
                remembered.take_along([held.what for held in self._answerers.values()], corpus)
                stored = remembered.stored(corpus)
                made = self._opened(corpus)
            except BaseException:
                corpus.close()  # type: ignore[attr-defined]
                raise
            before: list[Held[Any]] = [self._corpus, *self._answerers.values()]
            with self._swapping:
                self._corpus, self._answerers, self._notes = Held(corpus), made, tuple(notes)
                self._stored = dict.fromkeys(made, stored)
        for held in before:
            held.let_go()

    def places(self) -> Mapping[str, tuple[str, Stamp]]:
        """Where each reader was opened, and what its directory was then."""
        return self._places

    def replace_reader(self, name: str, place: str) -> None:
        """Serve another reader under a name from now on, or one under a new name.

        It has answered a question before it is served. What has begun ends with the one before.

        Raises:
            CheckpointError: no such reader; the one before stays, as after any other error.
        """
        with self._replacing:
            stamped, stored = _stamped({name: place}), remembered.stored(self.corpus)
            answerer = self._open(name, place, self.corpus)
            try:
                answerer.read(*_FIRST)
            except BaseException:
                answerer.close()
                raise
            before = self._answerers.get(name)
            with self._swapping:
                self._answerers = {**self._answerers, name: Held(answerer)}
                self._places = {**self._places, **stamped}
                self._stored = {**self._stored, name: stored}
        if before is not None:
            before.let_go()

    def close(self) -> None:
        """End after the batch that is being read."""
        self.scheduler.close()
        self._searching.shutdown(cancel_futures=True)
        all_held: list[Held[Any]] = [*self._answerers.values(), self._corpus]
        for held in all_held:
            held.let_go()

    def _opened(self, corpus: Passages) -> dict[str, Held[Answerer]]:
        return {name: Held(self._open(name, place, corpus)) for name, (place, _) in self._places.items()}

    def _open(self, name: str, place: str, corpus: Passages) -> Answerer:
        answerer = remembered.opened(place, corpus, self._device, self._precision)
        if note := remembered.told(name, answerer, place):
            _log.warning("%s", note)
        return answerer

    async def _search(self, corpus: Passages, question: str, k: int, where: Filter | None) -> list[Hit]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._searching, lambda: corpus.search(question, k, where=where))

    async def _found(self, corpus: Passages, question: Question) -> tuple[list[Passage], float | None]:
        """What is to be read, and the milliseconds that the search took; None where there was none."""
        if question.given is not None:
            hits, milliseconds = [Hit(passage, 0.0) for passage in question.given], None
        else:
            begun = time.perf_counter()
            hits = await self._search(corpus, question.text, question.k, question.where)
            milliseconds = 1000 * (time.perf_counter() - begun)
        if question.found is not None:
            question.found(hits)
        return [hit.passage for hit in hits], milliseconds


def _read(asked: Sequence[Asked], streams: Sequence[Stream | None]) -> Stepwise[list[Answer]]:
    first = asked[0]
    return first.reader.reading(
        [one.question for one in asked],
        [one.passages for one in asked],
        first.decoding,
        streams,
        first.test_evidence,
    )


def _stamped(readers: Mapping[str, str]) -> dict[str, tuple[str, Stamp]]:
    """Readers with what is in their places, before they are opened: what comes later is another."""
    return {name: (place, stamp_of(place)) for name, place in readers.items()}


def _finished(
    answer: Answer,
    question: Question,
    waited: float,
    corpus: Passages,
    passages: Sequence[Passage],
    search_ms: float | None,
) -> Answer:
    """An answer with its places in the documents, and what the stages before it took."""
    timings = {} if search_ms is None else {"search": search_ms}
    timings["queue"] = 1000 * waited
    total = sum(timings.values()) + answer.timings_ms["total"]
    answer = replace(
        answer,
        timings_ms={**timings, **answer.timings_ms, "total": total},
        notes=tuple(without_places(answer.notes)),
    )
    if answer.cut:
        answer = replace(answer, notes=(*answer.notes, cut_after(question.decoding.max_tokens)))
    if search_ms is None:
        return answer
    if not passages:
        answer = replace(answer, notes=(*answer.notes, f"{NOTHING_FOUND}; {GUESS}"))
    return placed(answer, corpus)
