"""`fidkit evaluate`: exact match, F1 and answer recall of a reader on a file of questions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from fidkit.errors import UsageError

if TYPE_CHECKING:
    from fidkit.cli.progress import Progress
    from fidkit.evaluate.contexts import ContextKind
    from fidkit.evaluate.data import Question
    from fidkit.evaluate.evaluate import Report, Result
    from fidkit.reader import Reader
    from fidkit.types import Passage

_BATCH_PASSAGES = 20  # scores of so many stay in the cache; larger batches are slower on a CPU
_POOL_BATCHES = 64


def evaluate(
    data: Annotated[Path, typer.Option(help="Questions: FiD JSON or JSONL.", show_default=False)],
    reader: Annotated[str, typer.Option(help="Directory, bundled name, or hub name.")] = "pocket",
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus to search, if the questions bring no passages.")
    ] = None,
    passages: Annotated[int, typer.Option(help="Passages to read for each question.")] = 20,
    context: Annotated[
        str,
        typer.Option(
            help="retrieved; gold (one passage with the answer); controls: foreign, foreign-gold, none."
        ),
    ] = "retrieved",
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write every prediction to this JSONL file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Judge a reader on questions with known answers."""
    from fidkit.evaluate.contexts import ContextKind

    if passages < 1:
        raise UsageError(
            f"--passages is {passages}; expected 1 or more (for no passages at all: --context none)"
        )
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; expected 1 or more questions")
    if context not in get_args(ContextKind):
        raise UsageError(f"--context is {context!r}; expected one of {', '.join(get_args(ContextKind))}")
    report, path = _run(reader, data, corpus, passages, cast("ContextKind", context), limit, predictions)
    if as_json:
        print(json.dumps({**report.to_json(), "reader": reader, "context": context, "passages": passages}))
        return
    recall = "".join(f", recall@{k} {value:.1f}" for k, value in report.recall.items())
    scores = f"EM {report.em:.1f}, F1 {report.f1:.1f}{recall}"
    print(f"{path}: {report.n} questions, {scores}, {report.seconds:.0f} s")


def _run(
    name: str, data: Path, corpus: Path | None, n: int, kind: ContextKind, limit: int | None, out: Path | None
) -> tuple[Report, Path]:
    from fidkit.cli.progress import progress
    from fidkit.corpus import Corpus
    from fidkit.evaluate import evaluate as judge
    from fidkit.evaluate.contexts import no_corpus, passages_for
    from fidkit.evaluate.data import read_questions
    from fidkit.reader import Reader

    questions = list(itertools.islice(read_questions(data), limit))
    with ExitStack() as stack:
        search, get = no_corpus, no_corpus
        if corpus:
            opened = stack.enter_context(Corpus.open(corpus))
            get = opened.get

            def search(question: str, k: int) -> list[Passage]:
                return [hit.passage for hit in opened.search(question, k)]

        reader = Reader.from_pretrained(name)
        bar = stack.enter_context(progress(f"evaluating on {data.name}", len(questions)))
        read = passages_for(questions, kind, n, search=search, get=get)
        return judge(_answered(reader, read, bar), predictions=out), data


def _answered(
    reader: Reader, read: Iterator[tuple[Question, list[Passage]]], bar: Progress
) -> Iterator[Result]:
    """Answers in batches of similar length, drawn from a pool of questions at a time."""
    from fidkit.evaluate.evaluate import Result

    while pool := list(_take_passages(read, _BATCH_PASSAGES * _POOL_BATCHES)):
        pool.sort(key=lambda item: max((len(p.text) for p in item[1]), default=0))
        rest = iter(pool)
        while batch := list(_take_passages(rest, _BATCH_PASSAGES)):
            answers = reader.answer([q.question for q, _ in batch], [passages for _, passages in batch])
            for (question, passages), answer in zip(batch, answers, strict=True):
                yield Result(question, passages, answer)
            bar.advance(len(batch))


def _take_passages(
    read: Iterator[tuple[Question, list[Passage]]], most: int
) -> Iterator[tuple[Question, list[Passage]]]:
    taken = 0
    for question, passages in read:
        yield question, passages
        taken += max(1, len(passages))
        if taken >= most:
            return
