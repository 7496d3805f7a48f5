"""`fidkit calibrate`: learn from judged answers how likely a reader's answers are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from fidkit.cli.decoding import DeviceName, PrecisionName
from fidkit.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from fidkit.engine.runner import Precision
    from fidkit.evaluate.contexts import ContextKind
    from fidkit.evaluate.evaluate import Result
    from fidkit.passages import Corpus
    from fidkit.questions.files import Question
    from fidkit.reader import Reader
    from fidkit.types import Passage

_IN_TURN = ("retrieved", "gold", "foreign")


def calibrate(
    reader: Annotated[Path, typer.Argument(help="Directory of the reader; it gets the calibration.")],
    data: Annotated[
        list[Path], typer.Option(help="Questions with known answers, or without any; repeatable.")
    ],
    corpus: Annotated[Path | None, typer.Option(help="Corpus with their passages.")] = None,
    passages: Annotated[int, typer.Option(help="Passages to read for each question.")] = 5,
    context: Annotated[
        list[str] | None,
        typer.Option(help="What questions read, in turn; repeatable. retrieved, gold and foreign if absent."),
    ] = None,
    keep: Annotated[float, typer.Option(help="Percent of right answers that must not be withheld.")] = 94.0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions of each file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
) -> None:
    """Judge a reader's answers and keep what tells right ones from wrong ones beside its weights."""
    from fidkit.evaluate.contexts import ContextKind

    kinds = context or list(_IN_TURN)
    if unknown := [kind for kind in kinds if kind not in get_args(ContextKind)]:
        raise UsageError(f"--context is {unknown[0]!r}; expected one of {', '.join(get_args(ContextKind))}")
    if passages < 1 or (limit is not None and limit < 1):
        raise UsageError("--passages and --limit are numbers of things to read; expected 1 or more")
    if not 0 < keep <= 100:
        raise UsageError(f"--keep is {keep:g}; expected a percentage above 0 and at most 100, such as 94")
    from fidkit.calibration import FILE
    from fidkit.devices import choose_device
    from fidkit.engine.runner import check_precision, loading_type
    from fidkit.evaluate.calibration import across, fit, reliability
    from fidkit.evaluate.metrics import exact_match
    from fidkit.reader import Reader

    if not reader.is_dir():
        raise CheckpointError(
            f"{reader}: no such directory; expected a reader's, which gets the "
            "calibration (`fidkit convert` saves one there)"
        )
    on = choose_device(device)
    check_precision(precision)
    loaded = Reader.from_pretrained(reader, loading_type(cast("Precision", precision), on)).to(on)
    loaded.calibration = None
    results = _answered(
        loaded, data, corpus, passages, cast("list[ContextKind]", kinds), limit, cast("Precision", precision)
    )
    signals = [result.answer.signals for result in results]
    right = [exact_match(result.answer.guess, result.question.answers) for result in results]
    what = f"{', '.join(path.name for path in data)}; {', '.join(kinds)}; {passages} passages"
    found = fit(signals, right, keep=keep / 100, fitted_on=what)
    unseen = across(signals, right, [f"{r.question.id} {r.question.question}" for r in results])
    judged = reliability(unseen, right)
    from fidkit.checkpoint import replace_file

    replace_file(reader / FILE, found.save)
    silent = sum(found.confidence(s) < found.threshold for s in signals)
    record = {
        "n": len(right),
        "right": 100 * sum(right) / len(right),
        "silent": 100 * silent / len(right),
        "threshold": found.threshold,
        "calibration": {"expected_error": judged.expected_error, "coverage": judged.coverage},
        "reader": str(reader),
    }
    if as_json:
        print(json.dumps(record))
        return
    print(
        f"{reader / FILE}: {len(right)} answers, {record['right']:.1f} % right; below {found.threshold:.2f} "
        f"an answer is withheld ({record['silent']:.1f} %). On answers not fitted on: expected calibration "
        f"error {judged.expected_error:.1f} points, {judged.coverage[50]:.1f} % right among the surest half."
    )


def _answered(
    reader: Reader,
    files: Sequence[Path],
    corpus: Path | None,
    n: int,
    kinds: Sequence[ContextKind],
    limit: int | None,
    precision: Precision,
) -> list[Result]:
    """Forced answers to all questions: none may end at once."""
    from fidkit.cli.evaluate import answered
    from fidkit.cli.progress import progress
    from fidkit.engine.generation.decoding import Decoding
    from fidkit.engine.runner import Runner
    from fidkit.passages import Corpus

    with ExitStack() as stack:
        opened = stack.enter_context(Corpus.open(corpus)) if corpus else None
        given = _read(files, opened, n, kinds, limit)
        bar = stack.enter_context(progress("calibrating", len(given)))
        runner = Runner(reader, precision, own=True)
        return list(answered(runner, iter(given), Decoding(min_tokens=1), None, bar))


def _read(
    files: Sequence[Path],
    corpus: Corpus | None,
    n: int,
    kinds: Sequence[ContextKind],
    limit: int | None,
) -> list[tuple[Question, list[Passage]]]:
    """Every question once, with one kind of passages; those without an answer with the near ones."""
    import itertools

    from fidkit.evaluate.contexts import no_corpus, passages_for
    from fidkit.questions.files import read_questions

    search, get = no_corpus, no_corpus
    if corpus is not None:
        get = corpus.get

        def search(question: str, k: int) -> list[Passage]:
            return [hit.passage for hit in corpus.search(question, k)]

    given: list[tuple[Question, list[Passage]]] = []
    for path in files:
        questions = list(itertools.islice(read_questions(path), limit))
        parts: dict[ContextKind, list[Question]] = {}
        for number, question in enumerate(questions):
            kind: ContextKind = kinds[number % len(kinds)] if question.answers else "near"
            parts.setdefault(kind, []).append(question)
        for kind, some in parts.items():
            given += passages_for(some, kind, n, search=search, get=get)
    return given
