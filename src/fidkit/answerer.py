"""From a question to an answer with evidence: the one place that knows corpus, memory, reader and engine."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

from fidkit.devices import choose_device, has_torch, on_cpu
from fidkit.engine.answering import Stream, answer_batch, answering, tokenizer_of
from fidkit.engine.asked import (
    asked_decoding,
    asked_passages,
    asked_questions,
    asked_streams,
    check_count,
    check_tests,
)
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.steps import Stepwise, whole, within
from fidkit.engine.locating import placed
from fidkit.engine.meaning import embedding_for, runnable
from fidkit.engine.opening import made_ready
from fidkit.engine.precision import Precision, check_precision
from fidkit.engine.schedule.batcher import READ_TOGETHER, plan_batches
from fidkit.errors import UsageError
from fidkit.passages import BuildProgress, Passages, TokenCache
from fidkit.passages.opening import Source, open_sources
from fidkit.passages.protocol import NOTHING_FOUND
from fidkit.types import Answer, Hit, Passage

if TYPE_CHECKING:
    import torch

    from fidkit.passages.filter import Filter
    from fidkit.reader import Reader

GUESS = "the answer is a guess from the question alone"


class Answerer:
    """Documents and a reader, kept warm for one question after the other.

        with Answerer.open("docs", reader="pocket") as qa:
            answer = qa.answer("who wrote it?")

    Any number of threads may ask. They search at the same time and read one after the other; answers are
    those that a thread alone would get.

    Args:
        reader: a reader, which is left as it is, or what `Reader.from_pretrained` takes.
        corpus: where passages are found, and where their tokens are kept; without one there is `read` only.
            It stays open when the answerer is closed.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`.
        precision: what is computed with; `auto` is what suits the device (`fidkit.engine.runner`).
        stored: use the memory that is stored with the corpus, where the reader has use for one. Without
            it, memory is encoded for each question.

    Attributes:
        corpus, runner: what finds and what reads.
        memory: of the passages, where the reader has use for one and it is stored.
        notes: what a person should know about the documents, such as files that were left out.

    Raises:
        UsageError: no such device or precision.
        CheckpointError: no such reader, or one without a tokenizer.
        MemoryStoreError: the memory that is stored is of another reader.
    """

    def __init__(
        self,
        reader: Reader | Source,
        corpus: Passages | None = None,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        *,
        stored: bool = True,
    ) -> None:
        if corpus is not None and not isinstance(corpus, Passages):
            raise UsageError(
                f"the corpus is {corpus!r}; expected an open Corpus, or Answerer.open({corpus!r}, reader=...)"
            )
        self.corpus = corpus
        self.notes: tuple[str, ...] = ()
        self._opened = ExitStack()
        self._state, self._reading = threading.Condition(), threading.Lock()
        self._under_way: list[int] = []
        self._closed = self._torn = False
        of_child = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: (method := of_child()) and method())
        self.runner, self.memory = made_ready(reader, corpus if stored else None, device, precision)
        self._embed = embedding_for(self.runner.calibration)
        self._cache = None
        if corpus is not None:
            self._cache = TokenCache(corpus.derived, tokenizer_of(self.runner).fingerprint)
            self._opened.callback(self._cache.close)
        if self.memory:
            self._opened.callback(self.memory.close)

    @classmethod
    def open(
        cls,
        documents: Source | Iterable[Source] | None = None,
        reader: Reader | Source = "pocket",
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        *,
        stored: bool = True,
        progress: Callable[[BuildProgress], None] | None = None,
    ) -> Self:
        """Open documents and a reader; closing the answerer closes what was opened here.

        Folders and files are indexed on first use and brought up to date later, in `$FIDKIT_HOME`. They are
        searched by words and, where there are vectors (`fidkit.passages.local.build`), by meaning.

        Args:
            documents: a folder, a file, a built corpus, or several folders and files; None takes fidkit's
                own documentation.
            reader: a reader, or what `Reader.from_pretrained` takes.
            device: see `Answerer`, as for the following.
            precision: what is computed with.
            stored: use a memory that is there.
            progress: called now and then while documents are indexed.

        Raises:
            UsageError: no such device or precision, or documents that can't be.
            CorpusError, DataError: documents are missing, or nothing in them can be read.
            CheckpointError, MemoryStoreError: as `Answerer` does.
        """
        # What is wrong here is said before anything is indexed.
        if not on_cpu(device) and has_torch():
            choose_device(device)
        check_precision(precision)
        corpus, notes = open_sources(documents, progress, runnable())
        try:
            made = cls(reader, corpus, device, precision, stored=stored)
        except BaseException:
            corpus.close()
            raise
        if documents is None:
            made._embed = None  # fidkit's own are searched by words, so the encoder needn't be opened at all
        made.notes = notes
        made._opened.callback(corpus.close)
        return made

    @overload
    def answer(
        self,
        question: str,
        k: int = 40,
        max_new_tokens: int | None = None,
        stream: Stream | None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
        where: Filter | None = None,
    ) -> Answer: ...
    @overload
    def answer(
        self,
        question: list[str] | tuple[str, ...],
        k: int = 40,
        max_new_tokens: int | None = None,
        stream: None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
        where: Filter | None = None,
    ) -> list[Answer]: ...
    def answer(
        self,
        question: str | list[str] | tuple[str, ...],
        k: int = 40,
        max_new_tokens: int | None = None,
        stream: Stream | None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
        where: Filter | None = None,
    ) -> Answer | list[Answer]:
        """Find passages and answer from them: one question, or a list of them.

        Args:
            question: in plain words.
            k: passages to read for each, at most.
            max_new_tokens: length of an answer, at most (32); short for `Decoding(max_tokens=...)`.
            stream: sees the text of the answer so far, each time it has grown; for one question.
            decoding: how answers are written, their length included.
            test_evidence: for so many passages, those with the largest shares: what the answer would be
                without each (`Evidence.without`). Nothing is encoded again for it.
            where: the documents that may be read; None for all.

        Raises:
            UsageError: an empty question, no passages asked for, no documents, or a closed answerer.
            CorpusError: no document is left by `where`.
        """
        questions = asked_questions(question, streamed=stream is not None)
        check_count("k", k)
        check_tests(test_evidence)
        if self.corpus is None:
            raise UsageError(
                "this answerer has no documents to search; make it with Answerer.open(documents), or give "
                "passages to read(question, passages)"
            )
        how = asked_decoding(max_new_tokens, decoding)
        with self._use():
            found = [self._search(asked, k, where) for asked in questions]
            passages = [[hit.passage for hit in hits] for hits, _, _ in found]
            answers = self._read(questions, passages, how, [stream] * len(questions), test_evidence)
            answers = [
                placed(_searched(a, ms, n), self.corpus) for a, (_, ms, n) in zip(answers, found, strict=True)
            ]
        return answers[0] if isinstance(question, str) else answers

    @overload
    def read(
        self,
        question: str,
        passages: Sequence[Passage],
        max_new_tokens: int | None = None,
        stream: Stream | None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
    ) -> Answer: ...
    @overload
    def read(
        self,
        question: list[str] | tuple[str, ...],
        passages: Sequence[Sequence[Passage]],
        max_new_tokens: int | None = None,
        stream: Sequence[Stream | None] | None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
    ) -> list[Answer]: ...
    def read(
        self,
        question: str | list[str] | tuple[str, ...],
        passages: Sequence[Passage] | Sequence[Sequence[Passage]],
        max_new_tokens: int | None = None,
        stream: Stream | Sequence[Stream | None] | None = None,
        decoding: Decoding | None = None,
        test_evidence: int = 0,
    ) -> Answer | list[Answer]:
        """Answer one question from the passages given, or a list of questions from a list of passages each.

        Args:
            question: one or many.
            passages: of the question, or of each; none at all is allowed.
            max_new_tokens: see `answer`, as for the following.
            stream: sees the text grow; for a list of questions, a list with one of each, or None in it.
            decoding: how answers are written.
            test_evidence: see `answer`.

        Raises:
            UsageError: an empty question, no passages, lists of different lengths, or a closed answerer.
        """
        questions = asked_questions(question, streamed=callable(stream))
        watched = asked_streams(stream, len(questions))
        given = asked_passages([passages] if isinstance(question, str) else passages, len(questions))
        check_tests(test_evidence)
        how = asked_decoding(max_new_tokens, decoding)
        with self._use():
            answers = self._read(questions, given, how, watched, test_evidence)
        return answers[0] if isinstance(question, str) else answers

    def reading(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        decoding: Decoding,
        streams: Sequence[Stream | None],
        test_evidence: int = 0,
    ) -> Stepwise[list[Answer]]:
        """`read`, with pauses between its steps, in which others may ask; for who serves many.

        A reader whose runner doesn't take turns reads without a pause. The answerer isn't closed before the
        work has ended, or was closed itself.

        Args:
            questions: all are read together.
            passages: of each.
            decoding: how answers are written.
            streams: what sees each answer grow, or None.
            test_evidence: see `answer`.

        Raises:
            UsageError: as `read` does, when the work begins.
        """
        with self._use(nested=True):
            work = answering(
                self.runner, questions, passages, decoding, cache=self._cache, memory=self.memory,
                streams=streams, test_evidence=test_evidence, embed=self._embed,
            )  # fmt: skip
            if self.runner.takes_turns:
                return (yield from within(work, lambda: self._reading))
            with self._reading:
                return whole(work)

    def close(self) -> None:
        """Wait for answers under way, and let go of all that was opened here. Once is enough."""
        with self._state:
            self._refuse_nested()
            self._state.wait_for(lambda: not self._under_way)
            self._closed = True
            self._opened.close()

    def __enter__(self) -> Self:
        if self._closed:
            raise UsageError("this answerer is closed; open another one")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _search(
        self, question: str, k: int, where: Filter | None
    ) -> tuple[list[Hit], float, tuple[str, ...]]:
        """Hits, milliseconds, and notes."""
        assert self.corpus is not None
        start = time.perf_counter()
        hits = self.corpus.search(question, k, where=where)
        milliseconds = 1000 * (time.perf_counter() - start)
        return hits, milliseconds, () if hits else (f"{NOTHING_FOUND}; {GUESS}",)

    def _read(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[Passage]],
        decoding: Decoding,
        streams: Sequence[Stream | None],
        test_evidence: int,
    ) -> list[Answer]:
        """Answers in the order of the questions, which are read in batches of similar length."""
        answers: dict[int, Answer] = {}
        sizes = [sum(len(passage.text) for passage in of_one) for of_one in passages]
        for batch in plan_batches(sizes, READ_TOGETHER):
            with self._reading:
                made = answer_batch(
                    self.runner,
                    [questions[number] for number in batch],
                    [passages[number] for number in batch],
                    decoding,
                    cache=self._cache,
                    memory=self.memory,
                    streams=[streams[number] for number in batch],
                    test_evidence=test_evidence,
                    embed=self._embed,
                )
            answers |= zip(batch, made, strict=True)
        return [answers[number] for number in range(len(questions))]

    @contextmanager
    def _use(self, *, nested: bool = False) -> Iterator[None]:
        """While an answer is under way, nothing is closed."""
        with self._state:
            if not nested:
                self._refuse_nested()
            if self._closed:
                raise UsageError("this answerer is closed; open another one, or ask inside its `with` block")
            if self._torn:
                raise UsageError(
                    "this process was forked while the answerer was answering another question; open another "
                    "one here, or fork while nothing is asked"
                )
            thread = threading.get_ident()
            self._under_way.append(thread)
        try:
            yield
        finally:
            with self._state:
                self._under_way.remove(thread)
                self._state.notify_all()

    def _forked(self) -> None:
        """In a child, no thread goes on with what was under way in its parent: nothing waits for that."""
        self._torn = bool(self._under_way)
        self._state, self._reading = threading.Condition(), threading.Lock()
        self._under_way = []

    def _refuse_nested(self) -> None:
        if threading.get_ident() in self._under_way:
            raise UsageError(
                "asked or closed from within a stream of the same answerer, which would wait for itself; do "
                "it when the answer is there"
            )


def _searched(answer: Answer, milliseconds: float, notes: tuple[str, ...]) -> Answer:
    """An answer whose passages were found, with what the search took and said."""
    timings = {"search": milliseconds, **answer.timings_ms}
    timings["total"] += milliseconds
    return replace(answer, timings_ms=timings, notes=(*answer.notes, *notes))
