"""From a question to an answer with evidence: the one place that knows corpus, reader and engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context, collate, collate_memory
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated, generate
from fidkit.engine.recall import Recall
from fidkit.engine.runner import Precision, Runner
from fidkit.errors import CheckpointError, UsageError
from fidkit.memory import MemoryStore, has_memory
from fidkit.passages import Corpus, TokenCache
from fidkit.passages.token_cache import Tokenize, passage_key
from fidkit.reader import Reader
from fidkit.tokens import QuestionTokens, Tokenizer
from fidkit.types import Alternative, Answer, Evidence, Passage

Stream = Callable[[str], None]
"""Sees an answer's text so far. Beam search and several samples are seen when all is written."""

T = TypeVar("T")
Asked = Sequence[QuestionTokens]
Passages = Sequence[Sequence[Passage]]
EMPTY = Passage("", "", "")
"""What a question without passages reads."""

NOTHING_FOUND = "no passage shares a word with the question; the answer is a guess from the question alone"


class Answerer:
    """A corpus and a reader that belong together for a while.

    Args:
        corpus: where passages are found; their tokens are kept there.
        reader: reads them.
        precision: what it computes with; by default what suits the device (`fidkit.engine.runner`).
        name: of the reader, for messages.
        stored: use the memory that is stored with the corpus, where the reader has use for one. Without
            it, memory is encoded for each question.

    Raises:
        MemoryStoreError: the memory that is stored is of another reader.
    """

    def __init__(
        self,
        corpus: Corpus,
        reader: Reader,
        precision: Precision = "auto",
        *,
        name: str = "READER",
        stored: bool = True,
    ) -> None:
        self.corpus, self.runner = corpus, Runner(reader, precision)
        self.cache = corpus.token_cache(tokenizer_of(reader).fingerprint)
        self.memory = memory_of(corpus, reader, name) if stored else None

    def answer(
        self,
        question: str,
        passages: int = 40,
        max_new_tokens: int = 32,
        stream: Stream | None = None,
        decoding: Decoding | None = None,
    ) -> Answer:
        """Find passages and answer from them.

        Args:
            question: in plain words.
            passages: how many to read, at most.
            max_new_tokens: length of the answer, at most; short for `Decoding(max_tokens=…)`.
            stream: sees the text so far, each time it has grown.
            decoding: how the answer is written, its length included.

        Raises:
            UsageError: an empty question, or no passages asked for.
        """
        check_question(question)
        if passages < 1:
            raise UsageError(f"passages is {passages}; expected 1 or more passages to read")
        start = time.perf_counter()
        hits = self.corpus.search(question, passages)
        searched = 1000 * (time.perf_counter() - start)
        found = [hit.passage for hit in hits]
        [answer] = answer_batch(
            self.runner,
            [question],
            [found],
            max_new_tokens,
            decoding,
            cache=self.cache,
            memory=self.memory,
            stream=stream,
        )
        timings = {"search": searched, **answer.timings_ms}
        timings["total"] += searched
        notes = answer.notes if hits else (*answer.notes, NOTHING_FOUND)
        return replace(answer, timings_ms=timings, notes=notes)


def memory_of(corpus: Corpus, reader: Reader, name: str = "READER") -> MemoryStore | None:
    """The memory that is stored with a corpus; None where there is none, or the reader has no use for it.

    Args:
        corpus: whose passages are remembered.
        reader: that will read them.
        name: of the reader, for messages.

    Raises:
        MemoryStoreError: it is another reader's, of a newer format, or damaged.
    """
    if not reader.config.memory_layers or not has_memory(corpus.path):
        return None
    return MemoryStore.open(corpus.path, memory_fingerprint(reader), reader=name)


def answer_batch(
    source: Runner | Reader,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    max_new_tokens: int = 32,
    decoding: Decoding | None = None,
    *,
    cache: TokenCache | None = None,
    memory: MemoryStore | None = None,
    stream: Stream | None = None,
) -> list[Answer]:
    """Answer questions together, each from its own passages (any number, also none).

    Evidence is that of the best answer. Timings are of the whole batch, the same in every answer.

    Args:
        source: a reader with a tokenizer, or a runner of one; a reader is run at the precision it has.
        questions: in plain words.
        passages: of each question.
        max_new_tokens: length of an answer, at most; short for `Decoding(max_tokens=…)`.
        decoding: how answers are written, their length included.
        cache: keeps passages' tokens.
        memory: of passages, as the same reader's memory encoder left them. What it lacks is encoded now.
        stream: sees the first question's text grow.

    Raises:
        UsageError: an empty question, or lists of different lengths.
        CheckpointError: the reader has no tokenizer.
    """
    if len(questions) != len(passages):
        raise UsageError(
            f"{len(questions)} questions but {len(passages)} lists of passages; give one list a question"
        )
    for question in questions:
        check_question(question)
    decoding = decoding or Decoding(max_tokens=max_new_tokens)
    if not questions:
        return []
    runner = source if isinstance(source, Runner) else Runner(source)
    reader, clock, encoded = runner.reader, _Clock(), 0
    tokenizer = tokenizer_of(reader)
    with clock.stage("tokenize"):
        asked = [tokenizer.question(question) for question in questions]
    filled = [list(of_one) or [EMPTY] for of_one in passages]

    def tokenize(some: list[Passage]) -> list[list[int]]:
        return cache.get(some, tokenizer.passages) if cache else tokenizer.passages(some)

    with torch.inference_mode():
        if reader.config.memory_layers:
            context, encoded = _recall(runner, asked, filled, tokenize, memory, clock)
        else:
            context = _read(runner, asked, filled, tokenize, clock)
        with clock.stage("decode"):
            watch = stream and _growing_text(tokenizer, stream)
            generated = generate(runner, context, decoding, watch, tokenizer)
        with clock.stage("evidence"):
            shares = evidence_shares(reader, context, generated.best, max(map(len, passages))).tolist()
    timings = {**clock.ms, "total": sum(clock.ms.values())}
    notes = _not_stored(encoded, sum(map(len, filled)), memory) if memory and encoded else ()
    return [
        Answer(
            best.text,
            best.score,
            _ranked(of_one, share),
            dict(timings),
            (*_cut(question, reader.config), *notes),
            others,
        )
        for (best, others), of_one, share, question in zip(
            _written(tokenizer, generated), passages, shares, asked, strict=True
        )
    ]


def evidence_shares(reader: Reader, context: Context, generated: Generated, passages: int) -> Tensor:
    """Share [B, passages] of each passage in the answer; a question's shares sum to 1.

    Where the reader reranks, the softmax of its scores, which counts the passages that it left behind. Else
    the attention mass that the answer's tokens put on the vectors of a passage (the question's in front
    of it included), averaged over heads, answer tokens and the layers that have cross-attention. Mass on
    a question block that belongs to no passage is left out.
    """
    if context.scores_BN is not None:
        return context.scores_BN.softmax(-1)
    ids = generated.ids_BT
    steps = (ids != IGNORED).float()
    masses: list[Tensor] = []

    def collect(_layer: int, scores_BHTM: Tensor) -> None:
        masses.append(torch.einsum("bhtm,bt->bm", scores_BHTM.softmax(-1), steps))

    reader.decode(ids, context, collect)
    mass_BM = torch.stack(masses).sum(0).masked_fill(context.passage_BM < 0, 0.0)
    shares = mass_BM.new_zeros(mass_BM.shape[0], max(1, passages))
    shares.scatter_add_(1, context.passage_BM.clamp(min=0), mass_BM)
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-30)


def check_question(question: str) -> None:
    """Refuse an empty question.

    Raises:
        UsageError: nothing but white space.
    """
    if not question.strip():
        raise UsageError('the question is empty; expected some words, such as "who wrote it?"')


def tokenizer_of(reader: Reader) -> Tokenizer:
    """The reader's tokenizer.

    Raises:
        CheckpointError: it has none.
    """
    if reader.tokenizer is None:
        raise CheckpointError(
            "the reader has no tokenizer.json; put the one it was trained with beside its weights"
        )
    return reader.tokenizer


def _written(tokenizer: Tokenizer, generated: Generated) -> list[tuple[Alternative, tuple[Alternative, ...]]]:
    """The best answer to each question, and the others."""
    texts = [tokenizer.decode([i for i in ids if i != IGNORED]) for ids in generated.ids_BT.tolist()]
    answers = [Alternative(text, score) for text, score in zip(texts, generated.scores.tolist(), strict=True)]
    n = generated.n_best
    of_questions = [answers[first : first + n] for first in range(0, len(answers), n)]
    # Beams that found no hypothesis score -inf.
    return [(best, tuple(o for o in others if math.isfinite(o.score))) for best, *others in of_questions]


def _growing_text(tokenizer: Tokenizer, stream: Stream) -> Callable[[Tensor], None]:
    ids: list[int] = []
    said = ""

    def watch(step_B: Tensor) -> None:
        nonlocal said
        ids.append(int(step_B[0]))
        text = tokenizer.decode([i for i in ids if i != IGNORED])
        # A character of several byte tokens is unreadable until its last one is there.
        if text != said and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            said = text
            stream(text)

    return watch


def _read(runner: Runner, asked: Asked, passages: Passages, tokenize: Tokenize, clock: _Clock) -> Context:
    """The context of questions, with all encoder layers live."""
    with clock.stage("tokenize"):
        flat = [passage for of_one in passages for passage in of_one]
        tokens = _grouped(tokenize(flat), passages)
        batch = collate([q.ids for q in asked], tokens, pad_token=runner.config.pad_token)
    with clock.stage("encode"):
        return runner.read(batch.to(runner.device))


def _recall(
    runner: Runner,
    asked: Asked,
    passages: Passages,
    tokenize: Tokenize,
    memory: MemoryStore | None,
    clock: _Clock,
) -> tuple[Context, int]:
    """The context of questions, from memory, which is fetched while the questions are encoded.

    Returns also how many passages are not stored.
    """
    with clock.stage("tokenize"):
        flat = [passage for of_one in passages for passage in of_one]
        keys = [passage_key(passage) for passage in flat] if memory else [b""] * len(flat)
        recall = Recall(runner, memory, keys, lambda chosen: tokenize([flat[at] for at in chosen]))
        lengths = _grouped(recall.lengths, passages)
        batch = collate_memory([q.ids for q in asked], lengths, pad_token=runner.config.pad_token)
        batch = batch.to(runner.device)
    with clock.stage("encode"):
        question_XD = runner.encode_questions(batch)
    with clock.stage("memory"):
        memory_XD = recall.result()
    with clock.stage("encode"):
        return runner.read_memory(batch, memory_XD, question_XD), recall.encoded


def _grouped(flat: Sequence[T], like: Passages) -> list[list[T]]:
    """One value a passage, by question."""
    values = iter(flat)
    return [[next(values) for _ in of_one] for of_one in like]


def _cut(question: QuestionTokens, config: ReaderConfig) -> tuple[str, ...]:
    if not question.dropped:
        return ()
    cut, limit = question.dropped, config.question_tokens
    return (f"the question is {limit + cut} tokens long, the reader takes {limit}: the last {cut} were cut",)


def _not_stored(encoded: int, passages: int, memory: MemoryStore) -> tuple[str, ...]:
    return (
        f"{encoded} of {passages} passages have no stored memory and were encoded now; "
        f"`fidkit memory build {memory.directory} --reader {memory.reader}` stores it",
    )


def _ranked(passages: Sequence[Passage], shares: Sequence[float]) -> tuple[Evidence, ...]:
    evidence = [Evidence(p, share) for p, share in zip(passages, shares, strict=False)]
    return tuple(sorted(evidence, key=lambda e: -e.score))


class _Clock:
    """Milliseconds by stage; a stage may come again."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * (time.perf_counter() - start)
