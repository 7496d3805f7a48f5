"""From a question to an answer with evidence: the one place that knows corpus, reader and engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from fidkit.batch import IGNORED, Batch, Context, collate
from fidkit.corpus import Corpus, TokenCache
from fidkit.engine.decoding import Decoding
from fidkit.engine.generate import Generated, generate
from fidkit.engine.runner import Precision, Runner
from fidkit.errors import CheckpointError, UsageError
from fidkit.reader import Reader
from fidkit.tokens import QuestionTokens, Tokenizer
from fidkit.types import Alternative, Answer, Evidence, Passage

Stream = Callable[[str], None]
"""Sees an answer's text so far. Beam search and several samples are seen when all is written."""

NOTHING_FOUND = "no passage shares a word with the question; the answer is a guess from the question alone"


class Answerer:
    """A corpus and a reader that belong together for a while.

    Args:
        corpus: where passages are found; their tokens are kept there.
        reader: reads them.
        precision: what it computes with; by default what suits the device (`fidkit.engine.runner`).
    """

    def __init__(self, corpus: Corpus, reader: Reader, precision: Precision = "auto") -> None:
        self.corpus, self.runner = corpus, Runner(reader, precision)
        self.cache = corpus.token_cache(tokenizer_of(reader).fingerprint)

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
            self.runner, [question], [found], max_new_tokens, decoding, cache=self.cache, stream=stream
        )
        timings = {"search": searched, **answer.timings_ms}
        timings["total"] += searched
        notes = answer.notes if hits else (*answer.notes, NOTHING_FOUND)
        return replace(answer, timings_ms=timings, notes=notes)


def answer_batch(
    source: Runner | Reader,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    max_new_tokens: int = 32,
    decoding: Decoding | None = None,
    *,
    cache: TokenCache | None = None,
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
    reader, clock = runner.reader, _Clock()
    tokenizer = tokenizer_of(reader)
    with clock.stage("tokenize"):
        batch, notes = _prepare(tokenizer, questions, passages, cache)
        batch = batch.to(reader.embedding.weight.device)
    with torch.inference_mode():
        with clock.stage("encode"):
            context = runner.read(batch)
        with clock.stage("decode"):
            watch = stream and _growing_text(tokenizer, stream)
            generated = generate(runner, context, decoding, watch, tokenizer)
        with clock.stage("evidence"):
            shares = evidence_shares(reader, context, generated.best, max(map(len, passages))).tolist()
    timings = {**clock.ms, "total": sum(clock.ms.values())}
    return [
        Answer(best.text, best.score, _ranked(read, share), dict(timings), note, others)
        for (best, others), read, share, note in zip(
            _written(tokenizer, generated), passages, shares, notes, strict=True
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


def _prepare(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    cache: TokenCache | None,
) -> tuple[Batch, list[tuple[str, ...]]]:
    asked = [tokenizer.question(question) for question in questions]
    flat = [passage for of_one in passages for passage in of_one]
    rows = iter(cache.get(flat, tokenizer.passages) if cache else tokenizer.passages(flat))
    tokens = [[next(rows) for _ in of_one] for of_one in passages]
    empty = tokenizer.passages([Passage("", "", "")])[0]
    config = tokenizer.config
    batch = collate([q.ids for q in asked], tokens, pad_token=config.pad_token, empty_passage=empty)
    return batch, [_notes(q, config.question_tokens) for q in asked]


def _notes(question: QuestionTokens, limit: int) -> tuple[str, ...]:
    if not question.dropped:
        return ()
    cut = question.dropped
    return (f"the question is {limit + cut} tokens long, the reader takes {limit}: the last {cut} were cut",)


def _ranked(passages: Sequence[Passage], shares: Sequence[float]) -> tuple[Evidence, ...]:
    evidence = [Evidence(p, share) for p, share in zip(passages, shares, strict=False)]
    return tuple(sorted(evidence, key=lambda e: -e.score))


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.ms[name] = 1000 * (time.perf_counter() - start)
