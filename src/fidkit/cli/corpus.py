"""`fidkit corpus`: build, search, describe and check a corpus."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fidkit.cli.progress import clock, progress
from fidkit.errors import FidkitError, UsageError
from fidkit.passages.load.table import described
from fidkit.passages.local.amounts import A_SECOND, MOST_UNASKED

if TYPE_CHECKING:
    from fidkit.passages import BuildProgress, BuildReport, CorpusInfo
    from fidkit.passages.local.corpus import Explained
    from fidkit.passages.search.ways import Part

app = typer.Typer(
    help="Build, search, describe and check a corpus.", no_args_is_help=True, rich_markup_mode=None
)

Directory = Annotated[Path, typer.Argument(help="A corpus directory.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
MemoryOf = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="READER",
        help="Make vectors and this reader's memory in one pass; its memory encoder has to be the first "
        "layers of the encoder that searches.",
        show_default=False,
    ),
]

_EXCERPT_CHARACTERS = 160
_STAGES = {"index": "writing the index", "vectors": "encoding passages"}


@app.command()
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC...",
            help=f"Folders, {described()}.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where the corpus is kept.", show_default=False)
    ],
    vectors: Annotated[
        bool | None,
        typer.Option(
            "--vectors/--no-vectors",
            help="Make vectors for search by meaning, or none. By default where there are some already, or "
            f"at most {MOST_UNASKED:,} passages.",
            show_default=False,
        ),
    ] = None,
    memory: MemoryOf = None,
    as_json: AsJson = False,
) -> None:
    """Build a corpus, or bring it up to date: only new and changed files are read."""
    from fidkit.engine.meaning import minilm, runnable
    from fidkit.passages import Corpus

    if memory is not None and vectors is False:
        raise UsageError("--memory makes vectors and memory together; leave --no-vectors out")
    with ExitStack() as stack:
        encoder, once = minilm if vectors is not None else runnable(), None
        if memory is not None:
            from fidkit.precompute.onepass import one_pass

            once = stack.enter_context(one_pass(to, memory))
            encoder, vectors = once.source, True
        tell = stack.enter_context(reported_progress())
        corpus = stack.enter_context(Corpus.build(sources, to, tell, encoder=encoder, vectors=vectors))
        remembered = None if once is None else once.finish(corpus)
        info, report = corpus.info(), corpus.report
    if report is None:  # `Corpus.build` always sets it
        raise AssertionError("a build without a report")
    if as_json:
        more = {} if remembered is None else {"memory": remembered.to_json()}
        print(json.dumps(info.to_json() | {"build": report.to_json()} | more))
        return
    _say_built(info, report, asked=vectors is not None)
    if remembered is not None:
        print(
            f"{info.path}: memory of {remembered.passages:,} passages, {remembered.together:,} encoded "
            f"together with their vectors, {remembered.encoded:,} apart, {remembered.removed:,} removed"
        )
    with_reader = "" if memory is None else f" --reader {memory}"
    print(f'next: fidkit ask "YOUR QUESTION" --in {info.path}{with_reader}', file=sys.stderr)


def _say_built(info: CorpusInfo, report: BuildReport, *, asked: bool) -> None:
    """What was done; and that there might be vectors, unless somebody `asked` for them or for none."""
    size = f"{info.passages:,} passages, {info.bytes_on_disk / 1e6:,.1f} MB, {report.seconds:.1f} s"
    counts = f"{report.files_read:,} files read, {report.files_removed:,} removed, {info.skipped:,} skipped"
    print(f"{info.path}: {size} ({counts})")
    _say_skipped(info)
    if not asked and info.vectors is None and info.passages > MOST_UNASKED:
        took = clock(info.passages / (A_SECOND * (os.cpu_count() or 1)))
        print(
            f"note: searched by words alone; --vectors adds search by meaning, in about {took} for so many "
            "passages",
            file=sys.stderr,
        )


@app.command()
def search(
    directory: Directory,
    query: Annotated[str, typer.Argument(help="A question or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many passages, at most.")] = 10,
    by: Annotated[
        Literal["words", "meaning", "both"] | None,
        typer.Option(
            help="What passages are found by; by default both where there are vectors.", show_default=False
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which rank and score each has by words and by meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the passages that match best."""
    from fidkit.engine.meaning import minilm
    from fidkit.passages import Corpus
    from fidkit.passages.protocol import NOTHING_FOUND

    with Corpus.open(directory, minilm) as corpus:
        began = time.perf_counter()
        hits = corpus.explain(query, k, by)
        milliseconds = 1000 * (time.perf_counter() - began)
    if not hits:
        print(f"note: {NOTHING_FOUND}", file=sys.stderr)
    if as_json:
        found = [_record(hit, explain=explain) for hit in hits]
        print(json.dumps({"query": query, "hits": found, "timings_ms": {"search": round(milliseconds, 3)}}))
        return
    for hit in hits:
        passage = hit.hit.passage
        excerpt = " ".join(passage.text.split())[:_EXCERPT_CHARACTERS]
        print(f"{hit.hit.score:7.2f}  {passage.id}  {passage.title}\n         {excerpt}")
        if explain:
            print(f"         {_opinion('words', hit.words)}; {_opinion('meaning', hit.meaning)}")


@app.command()
def info(directory: Directory, as_json: AsJson = False) -> None:
    """Say what a corpus holds."""
    from fidkit.passages import Corpus

    with Corpus.open(directory) as corpus:
        found = corpus.info()
    if as_json:
        print(json.dumps(found.to_json()))
        return
    print(f"passages     {found.passages:,}")
    print(f"files        {found.files:,}, {found.passage_files:,} of them passage files")
    print(f"documents    {found.documents:,}")
    for ending, kind in found.kinds.items():
        size = f"{kind['bytes'] / 1e6:,.1f} MB"
        print(
            f"  {ending or '(no ending)':<10} {kind['files']:,} files, {size}, {kind['passages']:,} passages"
        )
    print(f"skipped      {found.skipped:,} files")
    if found.unread:
        print(f"unread       {found.unread:,} files: a build was interrupted; run it again")
    sizes = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in found.sizes.items())
    print(f"on disk      {found.bytes_on_disk / 1e6:,.1f} MB ({sizes})")
    print(f"vectors      {_vectors(found)}")
    print(f"sources      {', '.join(found.sources)}")
    print(f"format       version {found.format_version}, generation {found.generation}")
    print(f"fingerprint  {found.fingerprint}")
    for name, reason in found.skipped_files:
        print(f"left out     {name}: {reason or 'empty'}")
    for source, note in found.notes:
        print(f"note         {source}: {note}")


@app.command()
def check(
    directory: Directory,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write the index anew, and read damaged files again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the index with the passages, and texts with their sums; exit code 1 if something is damaged."""
    from fidkit.engine.meaning import minilm
    from fidkit.passages.local.check import check

    report = check(directory, repair=repair, encoder=minilm)
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        for fault in report.faults:
            print(f"damaged   {fault.where}: {fault.reason}")
        for fault in report.outdated:
            print(f"outdated  {fault.where}: {fault.reason}")
        for done in report.mended:
            print(f"mended    {done}")
    if report.faults and not report.mended:
        raise FidkitError(
            f"{directory}: {len(report.faults):,} parts are damaged; run `fidkit corpus check {directory} "
            "--repair`"
        )
    if not report.faults and not as_json:
        held = f"{report.passages:,} passages of {report.documents:,} documents"
        print(f"{directory}: {held} are as they were read")


@contextmanager
def reported_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Shows how far a build is on stderr; yields what `Corpus.build` takes as `progress`.

    Nothing is shown when nothing is read, and an error before that stays the only line.
    """
    with ExitStack() as stack:
        shown, passages, began = None, 0, time.monotonic()

        def tell(state: BuildProgress) -> None:
            nonlocal shown, passages
            if shown is None:
                shown = stack.enter_context(progress("reading passages"))
            shown.describe(_STAGES.get(state.stage) or _how_far(state, began))
            shown.advance(state.passages - passages)
            passages = state.passages

        yield tell


def _how_far(state: BuildProgress, began: float) -> str:
    """Files, and the time left, as the bytes go on as they did; nothing is said of the first moments."""
    share = state.done_bytes / max(1, state.total_bytes)
    took = time.monotonic() - began
    left = f", {clock(took * (1 - share) / share)} left" if took > 1 and share > 0 else ""
    files = f"{state.done_files:,} of {state.total_files:,} files"
    return f"reading passages, {files}, {100 * share:.0f} %{left}"


def _record(found: Explained, *, explain: bool) -> dict[str, Any]:
    record = asdict(found.hit.passage) | {"score": found.hit.score}
    return record | ({"words": asdict(found.words), "meaning": asdict(found.meaning)} if explain else {})


def _opinion(way: str, part: Part) -> str:
    """What a way to search makes of a passage, for `--explain`."""
    if part.score is None:
        return f"by {way}: not found"
    rank = "not among the first" if part.rank is None else f"rank {part.rank}"
    return f"by {way}: {rank}, score {part.score:.3f}, counts {part.share:.2f}"


def _vectors(info: CorpusInfo) -> str:
    if info.vectors is None:
        return info.vectors_fault or "none: searched by words"
    size = info.sizes.get("vectors", 0) / 1e6
    dimension, encoder = info.vectors["dimension"], info.vectors["encoder"]
    return f"{info.vectors['passages']:,} of {encoder}, {dimension} numbers each, {size:,.1f} MB"


def _say_skipped(info: CorpusInfo) -> None:
    """A few of the files that were not read, with reasons."""
    for name, reason in info.skipped_files[:5]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if info.skipped > 5:
        print(f"... and {info.skipped - 5:,} more, see `fidkit corpus info {info.path}`", file=sys.stderr)
