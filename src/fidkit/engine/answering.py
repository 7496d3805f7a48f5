"""From questions and their passages to answers with evidence, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context, collate, collate_memory
from fidkit.engine.asked import check_passages, check_question
from fidkit.engine.evidence import look_back
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import cut_off, generating
from fidkit.engine.generation.steps import Stepwise, whole, within
from fidkit.engine.judging import in_words_of, judged, quoted
from fidkit.engine.locating import by_share, in_their_words
from fidkit.engine.meaning import Embed
from fidkit.engine.ready import Ready
from fidkit.engine.recall import Recall
from fidkit.engine.tested import leave_out, tested
from fidkit.engine.windows import windows
from fidkit.errors import CheckpointError, UsageError
from fidkit.passages import TokenCache
from fidkit.passages.token_cache import Tokenize, passage_key
from fidkit.tokens import QuestionTokens, Tokenizer, is_well_formed
from fidkit.types import Answer, Passage, Without, distinct
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.memory import MemoryStore

Stream = Callable[[str], None]
"""Sees an answer's text so far. Beam search and several samples are seen when all is written."""

T = TypeVar("T")
Asked = Sequence[QuestionTokens]
Passages = Sequence[Sequence[Passage]]
EMPTY = Passage("", "", "")
"""What a question without passages reads."""

HALF_CHARACTERS = (
    "the question holds halves of characters (lone surrogates), which were read as \N{REPLACEMENT CHARACTER}"
)


def answer_batch(
    runner: Ready,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    decoding: Decoding | None = None,
    *,
    cache: TokenCache | None = None,
    memory: MemoryStore | None = None,
    streams: Sequence[Stream | None] = (),
    test_evidence: int = 0,
    embed: Embed | None = None,
) -> list[Answer]:
    """Answer questions together, each from its own passages (any number, also none).

    Evidence is that of the best answer; timings are of the whole batch. Not for several threads at once: a
    runner's caches are used again.

    Args:
        runner: of a reader with a tokenizer.
        questions: in plain words.
        passages: of each question.
        decoding: how answers are written.
        cache: keeps passages' tokens.
        memory: of passages, as the same reader's memory encoder left them; what it lacks is encoded now.
        streams: of each question, what sees its text grow, or None; or nothing at all.
        test_evidence: so many passages of each answer, those with the largest shares, are left out one at a
            time (`fidkit.engine.tested`).
        embed: makes vectors of texts, by which confidence compares a question with what its answer stands in
            (`fidkit.engine.meaning.embedding`); None does without.

    Raises:
        UsageError: no question, no passages, or lists of different lengths.
        CheckpointError: the reader has no tokenizer.
    """
    return whole(
        answering(
            runner, questions, passages, decoding, cache=cache, memory=memory, streams=streams,
            test_evidence=test_evidence, embed=embed,
        )
    )  # fmt: skip


def answering(
    runner: Ready,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    decoding: Decoding | None = None,
    *,
    cache: TokenCache | None = None,
    memory: MemoryStore | None = None,
    streams: Sequence[Stream | None] = (),
    test_evidence: int = 0,
    embed: Embed | None = None,
) -> Stepwise[list[Answer]]:
    """`answer_batch`, with a pause after each step of writing.

    In a pause other questions may be answered by the same runner where it `takes_turns`.
    """
    _check(questions, passages)
    if not questions:
        return []
    clock, tokenizer, how = _Clock(), tokenizer_of(runner), _how(runner, decoding)
    with clock.stage("tokenize"):
        asked = [tokenizer.question(question) for question in questions]
        tokenize = _remembering(tokenizer, cache)
        read = [_whole(of_one, tokenizer, tokenize, memory) for of_one in passages]
    filled = [of_one or [EMPTY] for of_one in read]
    with runner.at_work():
        context, encoded = _context(runner, asked, filled, tokenize, memory, clock)
        watch = _watching(tokenizer, streams, read, how)
        writing = generating(runner, context, how, watch, tokenizer)
        generated = yield from clock.timed("decode", writing)
        with clock.stage("evidence"):
            looked = look_back(runner, context, generated.best, max(map(len, read)))
            answers = quoted(tokenizer, generated, read, looked, how)
            answers = judged(answers, questions, looked, runner.calibration, embed)
            cut = cut_off(runner.config, context, generated, how, tokenizer)
        if test_evidence:
            orders = [by_share(s[: len(p)]) for s, p in zip(looked.shares, read, strict=True)]
            first = [order[:test_evidence] for order in orders]
            leaving = leave_out(runner, context, generated.best, first, how, tokenizer)
            without = yield from clock.timed("test", leaving)
            with clock.stage("test"):
                answers = _with_tests(answers, orders, read, without, how)
    notes, said = _not_stored(encoded, passages, read, memory), []
    for answer, question, ids, is_cut in zip(answers, questions, asked, cut, strict=True):
        own = (*answer.notes, *_read_otherwise(question, ids, runner.config))
        said.append(replace(answer, timings_ms=clock.timings(), notes=(*own, *notes), cut=is_cut))
    return said


def _remembering(tokenizer: Tokenizer, cache: TokenCache | None) -> Tokenize:
    """Makes passages' tokens once, or takes them from the cache."""
    made: dict[Passage, list[int]] = {}

    def tokenize(passages: Sequence[Passage]) -> list[list[int]]:
        new = [passage for passage in dict.fromkeys(passages) if passage not in made]
        if cache is None:
            rows = tokenizer.passages(new)
        else:
            rows = cache.get(new, tokenizer.passages, tokenizer.config.passage_vocabulary_size)
        made.update(zip(new, rows, strict=True))
        return [made[passage] for passage in passages]

    return tokenize


def _whole(
    passages: Sequence[Passage], tokenizer: Tokenizer, tokenize: Tokenize, memory: MemoryStore | None
) -> list[Passage]:
    """Equal passages once, and behind them what the reader would cut off of the long ones."""
    once = distinct(passages)
    if memory is None:
        lengths = [len(ids) for ids in tokenize(once)]
    else:
        # What isn't stored has no length there, and is looked at.
        stored = memory.find([passage_key(passage) for passage in once]).lengths
        lengths = [length or tokenizer.config.passage_tokens for length in stored]
    full = [p for p, n in zip(once, lengths, strict=True) if n >= tokenizer.config.passage_tokens]
    return distinct([*once, *(window for passage in full for window in windows(passage, tokenizer))])


def _how(reader: Ready, decoding: Decoding | None) -> Decoding:
    """How answers are written, where that is left to the reader; never none where confidence judges them."""
    how = decoding or Decoding()
    if how.extractive is None:
        how = replace(how, extractive=reader.config.extractive)
    return how if reader.calibration is None else replace(how, min_tokens=max(1, how.min_tokens))


class HasTokenizer(Protocol):
    """A reader, or one made ready."""

    @property
    def tokenizer(self) -> Tokenizer | None: ...


def tokenizer_of(reader: HasTokenizer) -> Tokenizer:
    """The reader's tokenizer.

    Raises:
        CheckpointError: it has none.
    """
    if reader.tokenizer is None:
        raise CheckpointError(
            "the reader has no tokenizer.json; put the one it was trained with beside its weights"
        )
    return reader.tokenizer


def _check(questions: Sequence[str], passages: Passages) -> None:
    if len(questions) != len(passages):
        given = counted(len(passages), "list of passages", "lists of passages")
        raise UsageError(f"{counted(len(questions), 'question')} but {given}; give one list a question")
    for question, of_one in zip(questions, passages, strict=True):
        check_question(question)
        check_passages(of_one)


def _context(
    runner: Ready,
    asked: Asked,
    passages: Passages,
    tokenize: Tokenize,
    memory: MemoryStore | None,
    clock: _Clock,
) -> tuple[Context, int]:
    """The context of questions, and how many of their passages a memory should have had but hadn't."""
    if memory is not None and runner.config.memory_layers:
        return _recall(runner, asked, passages, tokenize, memory, clock)
    return _read(runner, asked, passages, tokenize, clock), 0


def _read(runner: Ready, asked: Asked, passages: Passages, tokenize: Tokenize, clock: _Clock) -> Context:
    """The context of questions, with all that it takes encoded now."""
    with clock.stage("tokenize"):
        flat = [passage for of_one in passages for passage in of_one]
        tokens = _grouped(tokenize(flat), passages)
        batch = collate([q.ids for q in asked], tokens, pad_token=runner.config.pad_token, tensors=False)
        if runner.device is not None:
            batch = batch.to(runner.device)
    if not runner.config.memory_layers:
        with clock.stage("encode"):
            return runner.read(batch)
    with clock.stage("memory"):
        memory_XD = runner.encode_passages(batch.passage_ids, batch.passage_lengths)
    with clock.stage("encode"):
        return runner.read_memory(batch, memory_XD)


def _recall(
    runner: Ready,
    asked: Asked,
    passages: Passages,
    tokenize: Tokenize,
    memory: MemoryStore,
    clock: _Clock,
) -> tuple[Context, int]:
    """The context of questions, from memory, which is fetched while the questions are encoded.

    Returns also how many passages are not stored.
    """
    with clock.stage("tokenize"):
        flat = [passage for of_one in passages for passage in of_one]
        keys = [passage_key(passage) for passage in flat]
        recall = Recall(runner, memory, keys, lambda chosen: tokenize([flat[at] for at in chosen]))
        lengths = _grouped(recall.lengths, passages)
        ids = tokenize(flat) if runner.config.token_skip else None
        batch = collate_memory([q.ids for q in asked], lengths, ids, pad_token=runner.config.pad_token)
        if runner.device is not None:
            batch = batch.to(runner.device)
    with clock.stage("encode"):
        question_XD = runner.encode_questions(batch)
    with clock.stage("memory"):
        memory_XD = recall.result()
    with clock.stage("encode"):
        return runner.read_memory(batch, memory_XD, question_XD), recall.encoded


def _with_tests(
    answers: Sequence[Answer],
    orders: Sequence[Sequence[int]],
    passages: Passages,
    found: Sequence[dict[int, Without]],
    how: Decoding,
) -> list[Answer]:
    """Answers with what would be without some of their passages; `orders` are the numbers of evidence."""
    made = []
    for answer, order, of_one, without in zip(answers, orders, passages, found, strict=True):
        others = {n: [p for m, p in enumerate(of_one) if m != n] for n in without}
        in_words = {n: in_words_of(others[n], w, how) for n, w in without.items()}
        read = (
            "a single passage was read, and nothing is left without it" if of_one else "no passage was read"
        )
        alone = () if in_words else (f"evidence was not tested: {read}",)
        made.append(replace(tested(answer, order, in_words), notes=(*answer.notes, *alone)))
    return made


def _watching(
    tokenizer: Tokenizer, streams: Sequence[Stream | None], passages: Passages, how: Decoding
) -> Callable[[Array], None] | None:
    """Tells each question's stream what is written so far."""
    growing = {
        number: _growing_text(tokenizer, stream, passages[number] if how.extractive else ())
        for number, stream in enumerate(streams)
        if stream is not None
    }

    def watch(step_B: Array) -> None:
        for number, grow in growing.items():
            grow(int(step_B[number]))

    return watch if growing else None


def _growing_text(tokenizer: Tokenizer, stream: Stream, passages: Sequence[Passage]) -> Callable[[int], None]:
    """Tells a stream what is written so far, a token more each time; a piece of `passages` in their words."""
    ids: list[int] = []
    said = ""

    def grow(token: int) -> None:
        nonlocal said
        if token == IGNORED:
            return
        ids.append(token)
        text = tokenizer.decode(ids)
        text = in_their_words(text, passages, pieces=True) or text
        # A character of several byte tokens is unreadable until its last one is there.
        if text != said and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            said = text
            stream(text)

    return grow


def _grouped(flat: Sequence[T], like: Passages) -> list[list[T]]:
    """One value a passage, by question."""
    values = iter(flat)
    return [[next(values) for _ in of_one] for of_one in like]


def _read_otherwise(text: str, question: QuestionTokens, config: ReaderConfig) -> tuple[str, ...]:
    """Notes on a question that the reader didn't see as it was asked."""
    notes = () if is_well_formed(text) else (HALF_CHARACTERS,)
    if not question.dropped:
        return notes
    cut, limit = question.dropped, len(question.ids)
    return (
        *notes,
        f"the question is {limit + cut} tokens long, the reader takes {limit}: the last {cut} were cut",
    )


def _not_stored(encoded: int, given: Passages, read: Passages, memory: MemoryStore | None) -> tuple[str, ...]:
    """What to say of passages that a memory should have had; nothing else that was read is ever stored."""
    others = sum(max(1, len(r)) - len(distinct(g)) for g, r in zip(given, read, strict=True))
    missing = encoded - others
    if memory is None or missing <= 0:
        return ()
    return (
        f"{missing} of {sum(map(len, read)) - others} passages have no stored memory and were encoded now; "
        f"`fidkit memory build {memory.directory} --reader {memory.reader}` stores it",
    )


class _Clock:
    """Milliseconds by stage; a stage may come again."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def timings(self) -> dict[str, float]:
        """Each stage and `total`, anew for each answer that gets them."""
        return {**self.ms, "total": sum(self.ms.values())}

    def timed(self, name: str, work: Stepwise[T]) -> Stepwise[T]:
        """The same work, its pauses not counted."""
        return within(work, lambda: self.stage(name))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * (time.perf_counter() - start)
