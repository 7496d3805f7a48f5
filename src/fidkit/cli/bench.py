"""`fidkit bench`: readers and peers side by side, measured, beside prediction and ceiling."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fidkit.cli.decoding import DeviceName
from fidkit.cli.table import print_table
from fidkit.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from fidkit.bench.questions import Questions
    from fidkit.bench.run import Request
    from fidkit.cost import Workload

DEFAULT_QUESTION_TOKENS = 48
DEFAULT_PASSAGE_TOKENS = 208  # 256 with the question, as the papers have it
PRECISIONS = ("float32", "bfloat16", "int8")  # the runner's; importing it imports torch


PresetsOption = Annotated[list[str], typer.Argument(metavar="PRESET...", help="Presets.", show_default=False)]
Vs = Annotated[
    str,
    typer.Option(
        "--vs",
        metavar="PEERS",
        help="hf, hf-eager, hf-compile, openvino-int8, onnxruntime-int8, ctranslate2-int8, decoder-only; "
        "separated by commas.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or int8; several separated by commas.",
        show_default="bfloat16 where the device multiplies it, else float32",
    ),
]
PassagesOption = Annotated[int, typer.Option(metavar="N", help="Passages a question.")]
PassageTokens = Annotated[
    int | None,
    typer.Option(
        metavar="P",
        help="Tokens of a passage, without its question.",
        show_default=str(DEFAULT_PASSAGE_TOKENS),
    ),
]
QuestionTokens = Annotated[
    int | None,
    typer.Option(metavar="Q", help="Tokens of a question.", show_default=str(DEFAULT_QUESTION_TOKENS)),
]
OutputTokens = Annotated[int, typer.Option(metavar="T", help="Tokens of an answer; nothing ends earlier.")]
Batch = Annotated[int, typer.Option(metavar="B", help="Questions at a time.")]
Rounds = Annotated[int, typer.Option(metavar="R", help="Repeats of every subject.")]
Threads = Annotated[
    int | None, typer.Option(help="Of PyTorch and the native kernels.", show_default="PyTorch's choice")
]
Plain = Annotated[bool, typer.Option("--plain", help="Measure each preset without native kernels, too.")]
CorpusOption = Annotated[
    str | None, typer.Option(metavar="DIR", help="Take real passages from this corpus ...")
]
QuestionsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="... for the first questions of this file.")
]
Best = Annotated[bool, typer.Option("--best", help="Name the fastest peer of each part.")]
Profile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a trace of one round of the presets.")
]
Out = Annotated[Path | None, typer.Option(metavar="ROWS.jsonl", help="Append the rows here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def bench(
    presets: PresetsOption,
    vs: Vs = "",
    precision: Precision = None,
    passages: PassagesOption = 40,
    passage_tokens: PassageTokens = None,
    question_tokens: QuestionTokens = None,
    output_tokens: OutputTokens = 32,
    batch: Batch = 1,
    rounds: Rounds = 7,
    threads: Threads = None,
    device: DeviceName = "auto",
    plain: Plain = False,
    best: Best = False,
    corpus: CorpusOption = None,
    questions: QuestionsOption = None,
    profile: Profile = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure presets side by side in interleaved rounds, beside prediction, ceiling and peers."""
    peers = [name.strip() for name in vs.split(",") if name.strip()]
    precisions = [name.strip() for name in (precision or "").split(",") if name.strip()]
    numbers = {"passages": passages, "batch": batch, "rounds": rounds, "threads": threads}
    _check_numbers(
        **numbers, output_tokens=output_tokens, passage_tokens=passage_tokens, question_tokens=question_tokens
    )
    _check_writable(profile, out)
    _check_names(presets, precisions, peers)
    if best and not peers:
        raise UsageError("--best names a peer; name some with --vs")

    import torch

    from fidkit.bench.run import Request
    from fidkit.devices import choose_device
    from fidkit.engine.runner import multiplies_bfloat16

    on = choose_device(device)
    if on.type == "cuda":
        torch.cuda.set_device(on)  # peers and probes go to the current one
    precisions = precisions or ["bfloat16" if multiplies_bfloat16(on) else "float32"]
    request = Request(
        presets=presets,
        peers=peers,
        precisions=precisions,  # type: ignore[arg-type]
        plain=plain,
        rounds=rounds,
        output_tokens=output_tokens,
        device=on,
        profile=profile,
    )
    read = _questions(request, corpus, questions, batch, passages, passage_tokens, question_tokens)
    _run(request, read, threads, out, as_json, best)


def _run(
    request: Request, read: Questions, threads: int | None, out: Path | None, as_json: bool, best: bool
) -> None:
    import torch

    from fidkit.bench.best import fastest_peers
    from fidkit.bench.outcome import make_rows
    from fidkit.bench.rows import append
    from fidkit.bench.run import measure
    from fidkit.cli.progress import progress

    if threads is not None:
        torch.set_num_threads(threads)
    with progress("measuring", request.runs) as bar:
        measured = measure(request, read, bar)
    rows = make_rows(measured)
    fastest = fastest_peers(rows) if best else None
    if as_json:
        print(json.dumps({"rows": rows} if fastest is None else {"rows": rows, "best": fastest}))
    else:
        _show(rows, (*request.peers, *request.presets)[0], fastest)
    if out is not None:
        for row in rows:
            append(out, row)
    if measured.interrupted:
        print(f"interrupted after {len(measured.rounds)} of {request.rounds} rounds", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


def _questions(
    request: Request,
    corpus: str | None,
    file: Path | None,
    batch: int,
    passages: int,
    passage_tokens: int | None,
    question_tokens: int | None,
) -> Questions:
    """Real questions where a corpus is given, else random tokens of full length."""
    from fidkit.bench.fit import check_fit
    from fidkit.bench.questions import retrieved, synthetic
    from fidkit.bench.run import make_subjects
    from fidkit.engine.schedule.room import available_bytes
    from fidkit.passages import Corpus
    from fidkit.preset import named

    if corpus is not None and file is not None:
        if passage_tokens is not None or question_tokens is not None:
            raise UsageError(
                "--corpus brings its own lengths; leave out --passage-tokens and --question-tokens"
            )
        with Corpus.open(corpus) as opened:
            return retrieved(opened, file, named(request.presets[0]), batch, passages)
    if corpus is not None or file is not None:
        raise UsageError("--corpus and --questions go together; give both, or neither for random tokens")
    workload = _workload(request, batch, passages, passage_tokens, question_tokens)
    # Before millions of tokens are drawn; `measure` checks again what has been read.
    check_fit(make_subjects(request), workload, available_bytes(request.device))
    return synthetic(workload, min(named(preset).vocabulary_size for preset in request.presets))


def _workload(
    request: Request, batch: int, passages: int, passage_tokens: int | None, question_tokens: int | None
) -> Workload:
    from fidkit.cost import Workload

    return Workload(
        questions=batch,
        passages=passages,
        passage_tokens=DEFAULT_PASSAGE_TOKENS if passage_tokens is None else passage_tokens,
        question_tokens=DEFAULT_QUESTION_TOKENS if question_tokens is None else question_tokens,
        output_tokens=request.output_tokens,
    )


def _check_numbers(**given: int | None) -> None:
    for name, number in given.items():
        if number is not None and number < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is {number}; expected 1 or more")
    if given["threads"] is not None:
        from fidkit.native.threads import checked

        checked(given["threads"], "--threads")


def _check_names(presets: list[str], precisions: list[str], peers: list[str]) -> None:
    """Before anything is made that takes time."""
    from fidkit.preset import PRESETS

    for what, given, known in (
        ("preset", presets, sorted(PRESETS)),
        ("precision", precisions, PRECISIONS),
    ):
        for number, name in enumerate(given):
            if name not in known:
                raise UsageError(f"no {what} {name!r}; known: {', '.join(known)}")
            if name in given[:number]:
                raise UsageError(f"the {what} {name} is given twice; name it once")
    if peers:
        from fidkit.bench.peers import check_peers

        check_peers(peers)


def _check_writable(*paths: Path | None) -> None:
    """A measurement that can't be written would be lost."""
    for path in filter(None, paths):
        new = not path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise UsageError(
                f"can't write {path}: {error.strerror}; name a file that can be written"
            ) from error
        if new:
            path.unlink()


def _show(rows: list[dict[str, Any]], against: str, fastest: dict[str, dict[str, Any]] | None) -> None:
    from fidkit.bench.best import make_best_notes
    from fidkit.bench.table import make_notes, make_table, make_title

    print(make_title(rows))
    print_table(*make_table(rows, against), text=(0, 1))
    for note in (*make_notes(rows), *make_best_notes(fastest or {})):
        print(note)
