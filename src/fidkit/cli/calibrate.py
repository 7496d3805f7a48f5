"""`fidkit calibrate`: learn from judged answers how likely a reader's answers are right."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fidkit.cli.decoding import DeviceName, PrecisionName
from fidkit.errors import CheckpointError, UsageError
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.engine.precision import Precision
    from fidkit.evaluate.contexts import ContextKind
    from fidkit.evaluate.evaluate import Result
    from fidkit.passages import Corpus
    from fidkit.questions.files import Question
    from fidkit.types import Passage

_PASSAGES = 5
_FEW = 100
"""Answers, below which the share of right ones among those with one confidence says little."""
_IN_TURN = ("retrieved", "gold", "foreign")
_WITHOUT_ANSWER: Sequence[ContextKind] = ("near", "retrieved")
"""What questions read that no passage answers, in turn."""


def calibrate(
    reader: Annotated[Path, typer.Argument(help="Directory of the reader; it gets the calibration.")],
    data: Annotated[
        list[Path], typer.Option(help="Questions with known answers, or without any; repeatable.")
    ],
    corpus: Annotated[str | None, typer.Option(help="Corpus with their passages.")] = None,
    passages: Annotated[
        list[int] | None,
        typer.Option(help="Passages to read for a question, in turn; repeatable. 5 if absent."),
    ] = None,
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
    counts = passages or [_PASSAGES]
    kinds = _kinds(context, counts, limit, keep)
    results = _answered(reader, device, cast("Precision", precision), data, corpus, counts, kinds, limit)
    read = f"{', '.join(map(str, counts))} {'passage' if counts == [1] else 'passages'}"
    what = f"{', '.join(path.name for path in data)}; {', '.join(kinds)}; {read}"
    record = _fit(reader, results, keep / 100, what)
    if record["n"] < _FEW:
        few = counted(record["n"], "answer")
        print(f"note: fitted on {few} alone, and hardly to be relied on; give some hundreds", file=sys.stderr)
    if as_json:
        print(json.dumps(record))
        return
    judged = record["calibration"]
    print(
        f"{record['reader']}: {counted(record['n'], 'answer')}, {record['right']:.1f} % right; below "
        f"{record['threshold']:.2f} an answer is withheld ({record['silent']:.1f} %). On answers not fitted "
        f"on: expected calibration error {judged['expected_error']:.1f} points, "
        f"{judged['coverage'][50]:.1f} % right among the surest half."
    )


def _kinds(
    context: list[str] | None, counts: Sequence[int], limit: int | None, keep: float
) -> list[ContextKind]:
    """What questions read, where everything that was asked for can be."""
    from fidkit.evaluate.contexts import ContextKind

    kinds = context or list(_IN_TURN)
    if unknown := [kind for kind in kinds if kind not in get_args(ContextKind)]:
        raise UsageError(f"--context is {unknown[0]!r}; expected one of {', '.join(get_args(ContextKind))}")
    numbers = [*(("--passages", count) for count in counts), ("--limit", limit)]
    for name, number in numbers:
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}; expected 1 or more")
    if not 0 < keep <= 100:
        raise UsageError(f"--keep is {keep:g}; expected a percentage above 0 and at most 100, such as 94")
    return cast("list[ContextKind]", kinds)


def _fit(directory: Path, results: Sequence[Result], keep: float, what: str) -> dict[str, Any]:
    """Fit, keep beside the weights, and say how good it is."""
    from fidkit.calibration import FILE
    from fidkit.checkpoint import replace_file
    from fidkit.evaluate.calibration import across, fit, reliability
    from fidkit.evaluate.metrics import exact_match

    signals = [result.answer.signals for result in results]
    right = [exact_match(result.answer.guess, result.question.answers) for result in results]
    found = fit(signals, right, keep=keep, fitted_on=what)
    unseen = across(signals, right, [f"{r.question.id} {r.question.question}" for r in results])
    replace_file(directory / FILE, found.save)
    withheld = sum(found.confidence(of_answer) < found.threshold for of_answer in signals)
    return {
        "n": len(right),
        "right": 100 * sum(right) / len(right),
        "silent": 100 * withheld / len(right),
        "threshold": found.threshold,
        "calibration": asdict(reliability(unseen, right)),
        "reader": str(directory),
    }


def _answered(
    directory: Path,
    device: str,
    precision: Precision,
    files: Sequence[Path],
    corpus: str | None,
    counts: Sequence[int],
    kinds: Sequence[ContextKind],
    limit: int | None,
) -> list[Result]:
    """Answers to all questions, none of them withheld."""
    from fidkit.cli.evaluate import answered
    from fidkit.cli.progress import progress
    from fidkit.devices import choose_device
    from fidkit.engine.generation.decoding import Decoding
    from fidkit.engine.meaning import embedding
    from fidkit.engine.precision import check_precision
    from fidkit.engine.runner import Runner, loading_type
    from fidkit.passages import Corpus
    from fidkit.reader import Reader

    if not directory.is_dir():
        raise CheckpointError(
            f"{directory}: no such directory; expected a reader's, which gets the calibration (`fidkit "
            "convert` saves one there)"
        )
    on = choose_device(device)
    check_precision(precision)
    with ExitStack() as stack:
        reader = Reader.from_pretrained(directory, loading_type(precision, on)).to(on)
        reader.calibration = None
        opened = stack.enter_context(Corpus.open(corpus)) if corpus else None
        given = _read(files, opened, counts, kinds, limit)
        bar = stack.enter_context(progress("calibrating", len(given)))
        runner = Runner(reader, precision, own=True)
        return list(answered(runner, iter(given), Decoding(min_tokens=1), None, bar, embedding()))


def _read(
    files: Sequence[Path],
    corpus: Corpus | None,
    counts: Sequence[int],
    kinds: Sequence[ContextKind],
    limit: int | None,
) -> list[tuple[Question, list[Passage]]]:
    """Every question once, with one kind of passages, and in turn as many as `counts` says."""
    from fidkit.evaluate.contexts import passages_for
    from fidkit.questions.files import read_questions

    given: list[tuple[Question, list[Passage]]] = []
    for path in files:
        questions = list(itertools.islice(read_questions(path), limit))
        parts: dict[ContextKind, list[Question]] = {}
        for number, question in enumerate(questions):
            turn = kinds if question.answers else _WITHOUT_ANSWER
            parts.setdefault(turn[number % len(turn)], []).append(question)
        for kind, some in parts.items():
            found = passages_for(some, kind, max(counts), corpus)
            given += [
                (asked, read[:n]) for (asked, read), n in zip(found, itertools.cycle(counts), strict=False)
            ]
    return given
