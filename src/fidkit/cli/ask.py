"""`fidkit ask`: a question, documents, an answer with its evidence."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fidkit import assets
from fidkit.cli.building import reported_progress
from fidkit.cli.decoding import DeviceName, PrecisionName, takes_decoding
from fidkit.cli.options import Where
from fidkit.engine.asked import is_blank
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import FidkitError, UsageError
from fidkit.wording import (
    MARKS,
    NO_GUESS,
    counted,
    cut_after,
    in_one_line,
    is_told,
    shortened,
    unwrapped,
    withheld,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fidkit.answerer import Answerer
    from fidkit.engine.precision import Precision
    from fidkit.passages import Filter
    from fidkit.types import Answer, Evidence, Without

_SHOWN = 3
_SLIGHT = 0.1
"""A passage with less of the attention, and without the answer, tells a person nothing."""
_EXCERPT_CHARACTERS = 220
_RATHER_NOT = 0.5
"""An answer of less confidence is more likely wrong than right, which is said."""
Streamed = Annotated[
    bool,
    typer.Option(
        "--stream", help="Show the answer while it is written; once it is whole if it may be withheld."
    ),
]
RAW = "confidence is raw and no answer withheld: the reader has no calibration (`fidkit calibrate`)"


@takes_decoding
def ask(
    question: Annotated[
        str | None,
        typer.Argument(
            help="In plain words; without one, questions are read one a line.", show_default=False
        ),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="Folder, file or built corpus; repeatable. fidkit's own docs if absent.",
        ),
    ] = None,
    reader: Annotated[str, typer.Option(help="Directory, bundled name, or hub name.")] = "pocket",
    passages: Annotated[int, typer.Option(help="How many passages to read, at most.")] = 20,
    where: Where = None,
    stored: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Use the memory that is stored with the corpus, if any."),
    ] = True,
    test_evidence: Annotated[
        bool, typer.Option("--test-evidence", help="Say what the answer would be without each passage shown.")
    ] = False,
    stream: Streamed = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    *,
    decoding: Decoding,
) -> None:
    """Answer a question from documents; the first use indexes them, later uses reuse that.

    Without a question, questions are read one a line, and reader and documents stay open between them.
    """
    _check(question, passages, stream=stream, as_json=as_json)
    _start_light()
    from fidkit.answerer import Answerer

    tests = _SHOWN if test_evidence else 0
    shown = _Shown(passages, _filter(where), reader, decoding, tests, stream, as_json)
    with reported_progress() as tell:
        opened = Answerer.open(
            sources or None, reader, device, cast("Precision", precision), stored=stored, progress=tell
        )
    with opened as qa:
        if question is not None:
            # Where the locale is no UTF-8, an argument in UTF-8 arrives as halves of characters.
            shown.answer(qa, os.fsencode(question).decode("utf-8", "replace"))
            return
        from fidkit.cli.prompt import answer_each

        answer_each(lambda line: shown.try_to_answer(qa, line))
        if shown.failed and not sys.stdin.isatty():
            raise typer.Exit(1)


def _check(question: str | None, passages: int, *, stream: bool, as_json: bool) -> None:
    """What is wrong with the call is said before anything is opened."""
    if question is not None and is_blank(question):
        raise UsageError('the question is empty; expected some words, such as fidkit ask "who wrote it?"')
    if passages < 1:
        raise UsageError(f"--passages is {passages}; expected 1 or more")
    if stream and as_json:
        raise UsageError("--stream and --json exclude each other; give one of them")


@dataclass
class _Shown:
    """Answers questions and prints the answers; what is to be said of the documents, once."""

    passages: int
    where: Filter | None
    reader: str
    decoding: Decoding
    tests: int
    stream: bool
    as_json: bool
    noted: bool = False
    failed: int = 0

    def answer(self, qa: Answerer, question: str) -> None:
        """Ask, and print."""
        calibrated = qa.runner.calibration is not None
        # Only a whole answer has a confidence, and what is withheld must not have been shown before.
        printed = _Printed() if self.stream and not calibrated else None
        answer = qa.answer(
            question, self.passages, stream=printed, decoding=self.decoding, test_evidence=self.tests,
            where=self.where,
        )  # fmt: skip
        said = (*qa.notes, *answer.notes, *(() if calibrated else (RAW,)))
        first, self.noted = not self.noted, True
        answer = replace(answer, notes=said if first else answer.notes)
        cut = (cut_after(self.decoding.max_tokens),) if answer.cut else ()
        for note in (*answer.notes, *cut):
            print(f"note: {in_one_line(note)}", file=sys.stderr)
        if self.as_json:
            from fidkit.tokens import well_formed

            print(json.dumps(answer.to_json(well_formed(question), self.reader)), flush=True)
            return
        _show_answer(answer, printed or _Printed(), calibrated=calibrated)
        for other in answer.alternatives:
            print(f"\nor: {unwrapped(other.text) or '(no answer)'}  (score {other.score:.2f})", end="")
        _show_evidence(answer)
        if first and self.reader in assets.READERS:
            print("The bundled reader is small: check the evidence, or pass --reader.", file=sys.stderr)

    def try_to_answer(self, qa: Answerer, question: str) -> None:
        """Ask, and print the answer or why there is none: the next question may do better.

        Where nobody types, the question goes before its answer, which would be one of many otherwise.
        """
        if not (self.as_json or sys.stdin.isatty()):
            between = "\n" if self.noted else ""
            print(f"{between}{in_one_line(question)}", flush=True)
        try:
            self.answer(qa, question)
        except FidkitError as error:
            self.failed += 1
            print(f"error: {error}", file=sys.stderr)
            if self.as_json:
                from fidkit.tokens import well_formed

                print(json.dumps({"question": well_formed(question), "error": str(error)}), flush=True)


def _filter(where: list[str] | None) -> Filter | None:
    if not where:
        return None
    from fidkit.passages import Filter

    return Filter.parse(where)


def _start_light() -> None:
    """Leave out what libraries do when they are imported and that no question needs: some 50 ms.

    NumPy's linear algebra starts threads of its own, and pydantic looks through all installed packages for
    plugins.
    """
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def _show_answer(answer: Answer, show: _Printed, *, calibrated: bool) -> None:
    """All of it, or what came too late to be streamed."""
    if answer.text or not answer.guess:
        show(answer.text or "(no answer)")
    else:
        show(withheld(answer.guess, answer.confidence, _least(answer)))
    if answer.guess and not answer.verbatim:
        print("\nnote: no passage has these words", file=sys.stderr)
    elif answer.text and calibrated:
        doubt = "only " if answer.confidence < _RATHER_NOT else ""
        print(f"  ({doubt}{answer.confidence:.0%} sure)", end="", flush=True)


def _least(answer: Answer) -> float:
    """Confidence from which on a guess is told: any, where somebody asked what it hangs on."""
    return 0.0 if any(one.without is not None for one in answer.evidence) else NO_GUESS


class _Printed:
    """Prints a text as it grows, in one line: where its document wraps it is no end of an answer."""

    text = ""

    def __call__(self, text: str) -> None:
        text = unwrapped(text)
        # What was streamed is as the reader wrote it; in a passage it may be written otherwise.
        again = "" if text.startswith(self.text) else "\n"
        print(again + text.removeprefix(self.text), end="", flush=True)
        self.text = text


def _place(evidence: Evidence) -> str:
    """Where a passage stands: `contract.pdf, page 3, 1200-1300`, or its source where there are no pages."""
    from fidkit.passages.places import split, spoken

    passage, said = evidence.passage, spoken(evidence.where)
    name, span = split(passage.source)
    if not said or span is None:
        return passage.source or passage.id
    return ", ".join((name, *said, f"{span[0]}-{span[1]}"))


def _excerpt(evidence: Evidence) -> str:
    """The sentence with the answer, marked, or how the passage begins; cut to a few lines."""
    text, place = evidence.passage.text, evidence.place
    if place is None:
        return shortened(unwrapped(text), _EXCERPT_CHARACTERS)
    marked = text[: place[0]] + MARKS[0] + text[slice(*place)] + MARKS[1] + text[place[1] :]
    # The same words may stand in the passage before, as in rows of a table.
    at = max(0, text.find(evidence.sentence, max(0, place[1] - len(evidence.sentence))))
    around = unwrapped(marked[at : at + len(evidence.sentence) + sum(map(len, MARKS))])
    # A long sentence begins some words before the answer.
    first = max(0, around.find(MARKS[0]) - _EXCERPT_CHARACTERS // 2)
    begun = "… " + around[first:].split(" ", 1)[-1] if first else around
    return shortened(begun, _EXCERPT_CHARACTERS)


def _without(without: Without, answer: Answer) -> str:
    """What leaving the passage out does."""
    then = "the same" if without.text == answer.guess else unwrapped(without.text) or "nothing"
    of = repr(unwrapped(answer.guess))
    return f"without it: {then}  (score of {of}: {answer.score:.2f}, without it {without.score:.2f})"


def _show_evidence(answer: Answer) -> None:
    print("\n")
    for evidence in _telling(answer):
        passage = evidence.passage
        title = unwrapped(passage.title)
        print(f"{evidence.score:4.0%}  {title}  [{in_one_line(_place(evidence))}]")
        print(f"      {_excerpt(evidence)}")
        if evidence.without is not None:
            print(f"      {_without(evidence.without, answer)}")
    seconds = answer.timings_ms["total"] / 1000
    print(f"\n{_read(answer)} in {seconds:.2f} s, score {answer.score:.2f}", file=sys.stderr)


def _telling(answer: Answer) -> list[Evidence]:
    """The first piece, and others that were looked at, hold the answer, or were tested.

    A guess that isn't told is marked nowhere.
    """
    evidence: Sequence[Evidence] = answer.evidence[:_SHOWN]
    if not answer.text and not is_told(answer.guess, answer.confidence, _least(answer)):
        evidence = [replace(one, place=None) for one in evidence]
    return [
        one
        for number, one in enumerate(evidence)
        if not number or one.score >= _SLIGHT or one.place is not None or one.without is not None
    ]


def _read(answer: Answer) -> str:
    """How many passages were read; what is too long for the reader at once is several pieces of evidence."""
    read = len({evidence.passage.id for evidence in answer.evidence})
    pieces = "" if read == len(answer.evidence) else f" as {len(answer.evidence):,} pieces"
    return f"{counted(read, 'passage')} read{pieces}"
