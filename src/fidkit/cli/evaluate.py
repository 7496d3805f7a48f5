"""`fidkit evaluate`: exact match, F1 and answer recall of a reader on a file of questions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from fidkit.cli.decoding import DeviceName, PrecisionName, takes_decoding
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.schedule.batcher import READ_TOGETHER, plan_batches
from fidkit.errors import UsageError
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.engine.meaning import Embed
    from fidkit.engine.precision import Precision
    from fidkit.engine.ready import Ready
    from fidkit.evaluate.contexts import ContextKind
    from fidkit.evaluate.evaluate import Report, Result
    from fidkit.memory import MemoryStore
    from fidkit.passages import Corpus
    from fidkit.questions.files import Question
    from fidkit.types import Passage, Progress

_POOL_QUESTIONS = 256

SearchedBy = Literal["words", "both"] | None

Data = Annotated[
    Path,
    typer.Option(help="Questions: JSON or JSONL of FiD, KILT, NQ-open and others.", show_default=False),
]
ReaderOption = Annotated[str, typer.Option(help="Directory, bundled name, or hub name.")]
CorpusOption = Annotated[
    str | None, typer.Option(help="Corpus to search, if the questions bring no passages.")
]
By = Annotated[
    SearchedBy,
    typer.Option(
        help="What passages of the corpus are found by; by default both where there are vectors.",
        show_default=False,
    ),
]
PassagesOption = Annotated[int, typer.Option(help="Passages to read for each question.")]
Context = Annotated[
    str,
    typer.Option(
        help="retrieved; gold (one passage with the answer); controls: foreign, foreign-gold, none."
    ),
]
Stored = Annotated[
    bool,
    typer.Option("--memory/--no-memory", help="Use the memory that is stored with the corpus, if any."),
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many questions.")]
Predictions = Annotated[Path | None, typer.Option(help="Write every prediction to this JSONL file.")]
Scores = Annotated[
    Path | None,
    typer.Option(help="Write what the reader made of each passage to this JSONL file, for a retriever."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@takes_decoding
def evaluate(
    data: Data,
    reader: ReaderOption = "pocket",
    corpus: CorpusOption = None,
    by: By = None,
    passages: PassagesOption = 20,
    context: Context = "retrieved",
    stored: Stored = True,
    limit: Limit = None,
    predictions: Predictions = None,
    scores: Scores = None,
    as_json: AsJson = False,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    *,
    decoding: Decoding,
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
    kind = cast("ContextKind", context)
    report, computed = _run(
        reader,
        device,
        cast("Precision", precision),
        data,
        corpus,
        by,
        passages,
        kind,
        stored,
        limit,
        predictions,
        scores,
        decoding,
    )
    if as_json:
        how = {"reader": reader, "precision": computed, "context": context, "passages": passages}
        print(json.dumps({**report.to_json(), **how}))
        return
    recall = "".join(f", recall@{k} {value:.1f}" for k, value in report.recall.items())
    marks = f"EM {report.em:.1f}, F1 {report.f1:.1f}{recall}"
    if report.silent:
        marks += (
            f", silent {report.silent:.1f} % (forced: EM {report.forced_em:.1f}, F1 {report.forced_f1:.1f})"
        )
    marks += f", verbatim {report.verbatim:.1f} %" + (
        f", {counted(report.loops, 'loop')}" if report.loops else ""
    )
    print(f"{data}: {counted(report.n, 'question')}, {marks}, {report.seconds:.0f} s")


def _run(
    name: str,
    device: str,
    precision: Precision,
    data: Path,
    corpus: str | None,
    by: SearchedBy,
    n: int,
    kind: ContextKind,
    stored: bool,
    limit: int | None,
    out: Path | None,
    scores: Path | None,
    decoding: Decoding,
) -> tuple[Report, str]:
    """The report, and the precision that `auto` or another name came to."""
    from fidkit.cli.progress import progress
    from fidkit.engine.meaning import embedding_for
    from fidkit.engine.opening import made_ready
    from fidkit.engine.precision import check_precision
    from fidkit.evaluate import evaluate as judge
    from fidkit.evaluate.contexts import passages_for
    from fidkit.questions.files import read_questions

    check_precision(precision)
    questions = list(itertools.islice(read_questions(data), limit))
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(corpus, by)) if corpus else None
        if opened and by == "both":
            opened.search("vectors", 1, by)  # what is missing is said before a reader is opened
        runner, memory = made_ready(name, opened if stored else None, device, precision)
        bar = stack.enter_context(progress(f"evaluating on {data.name}", len(questions)))
        read = passages_for(questions, kind, n, opened)
        embed = embedding_for(runner.calibration)
        return judge(
            answered(runner, read, decoding, memory, bar, embed), predictions=out, scores=scores
        ), runner.computes


def _opened(directory: str, by: SearchedBy) -> Corpus:
    """The corpus, which searches as `fidkit ask` does unless something else is asked for."""
    from fidkit.engine.meaning import minilm, runnable
    from fidkit.passages import Corpus

    encoders = {"words": None, "both": minilm}
    return Corpus.open(directory, encoders[by] if by else runnable())


def answered(
    runner: Ready,
    read: Iterator[tuple[Question, list[Passage]]],
    decoding: Decoding,
    memory: MemoryStore | None,
    bar: Progress,
    embed: Embed | None,
) -> Iterator[Result]:
    """Answers in batches of similar length, drawn from a pool of questions at a time."""
    from fidkit.engine.answering import answer_batch
    from fidkit.evaluate.evaluate import Result

    while pool := list(itertools.islice(read, _POOL_QUESTIONS)):
        sizes = [sum(len(passage.text) for passage in passages) for _, passages in pool]
        for batch in plan_batches(sizes, READ_TOGETHER):
            questions, passages = zip(*(pool[number] for number in batch), strict=True)
            asked = [question.question for question in questions]
            answers = answer_batch(runner, asked, passages, decoding=decoding, memory=memory, embed=embed)
            yield from map(Result, questions, passages, answers)
            bar.advance(len(batch))
