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
from fidkit.passages.local.amounts import A_SECOND, MOST_COMPARED, MOST_UNASKED

if TYPE_CHECKING:
    from fidkit.passages import BuildProgress, BuildReport, CorpusInfo
    from fidkit.passages.local.corpus import Explained
    from fidkit.passages.local.vectors import EncoderSource
    from fidkit.passages.search.ways import Part

app = typer.Typer(
    help="Build, search, describe and check a corpus.", no_args_is_help=True, rich_markup_mode=None
)

Directory = Annotated[Path, typer.Argument(help="A corpus directory.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Sources = Annotated[
    list[Path], typer.Argument(metavar="SRC...", help=f"Folders, {described()}.", show_default=False)
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Go on, and follow what happens in the sources until Ctrl-C.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Look in these documents alone; repeatable. source=contracts/*, kind=pdf, after=2024-01-31, "
        "before=2025, or what documents say of themselves, such as author=*lovelace*.",
        show_default=False,
    ),
]

_EXCERPT_CHARACTERS = 160
_STAGES = {"index": "writing the index", "vectors": "encoding passages"}


@app.command()
def build(
    sources: Sources,
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
    passage_words: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Words of a passage, about, 10 to 1,000; by default what the corpus has, of a new one 100.",
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Words, at most, that a passage repeats from the one before; by default what the corpus "
            "has, of a new one 0.",
            show_default=False,
        ),
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Build a corpus, or bring it up to date: only new and changed files are read."""
    from fidkit.engine.meaning import minilm, runnable
    from fidkit.passages import Corpus

    if watch:
        from fidkit.passages.local.watch import require_watchfiles

        require_watchfiles()
    encoder = minilm if vectors is not None else runnable()
    with (
        reported_progress() as tell,
        Corpus.build(
            sources, to, tell, encoder=encoder, vectors=vectors, passage_words=passage_words, overlap=overlap
        ) as corpus,
    ):
        info = corpus.info()
        report = corpus.report
    if report is None:  # `Corpus.build` always sets it
        raise AssertionError("a build without a report")
    if as_json:
        print(json.dumps(info.to_json() | {"build": report.to_json()}), flush=True)
    else:
        _say_built(info, report, unasked=vectors is None)
    if watch:
        _follow(sources, to, encoder, vectors, as_json)


def _follow(
    sources: list[Path], to: Path, encoder: EncoderSource | None, vectors: bool | None, as_json: bool
) -> None:
    """Say what each change of the sources did to the corpus, until Ctrl-C."""
    from fidkit.passages.local.watch import follow, said

    print("following the sources; Ctrl-C ends it", file=sys.stderr, flush=True)
    for news in follow(sources, to, encoder=encoder, vectors=vectors):
        if isinstance(news, FidkitError):
            print(said(news, to), file=sys.stderr, flush=True)
        else:
            print(json.dumps({"build": news.to_json()}) if as_json else said(news, to), flush=True)


@app.command()
def search(
    directory: Directory,
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY...", help="Questions, or some words; each quoted.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many passages, at most.")] = 10,
    by: Annotated[
        Literal["words", "meaning", "both"] | None,
        typer.Option(
            help="What passages are found by; by default both where there are vectors.", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Questions from a file, one a line; - is stdin.", show_default=False),
    ] = None,
    where: Where = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which rank and score each has by words and by meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the passages that match best; of several queries, those of each."""
    from fidkit.engine.meaning import minilm
    from fidkit.passages import Corpus, Filter
    from fidkit.passages.protocol import NOTHING_FOUND

    asked = [*(queries or ()), *(_lines(file) if file else ())]
    if not asked:
        raise UsageError('there is nothing to search for; give a query, such as "who wrote it", or --file')
    chosen = Filter.parse(where or ())
    with Corpus.open(directory, minilm) as corpus:
        began = time.perf_counter()
        found = corpus.explain_all(asked, k, by, where=chosen)
        milliseconds = 1000 * (time.perf_counter() - began)
    for query, hits in zip(asked, found, strict=True):
        if not hits:
            print(f"note: {NOTHING_FOUND}{f': {query}' if len(asked) > 1 else ''}", file=sys.stderr)
        if as_json:
            records = [_record(hit, explain=explain) for hit in hits]
            timings = {"search": round(milliseconds / len(asked), 3)}
            print(json.dumps({"query": query, "hits": records, "timings_ms": timings}))
            continue
        if len(asked) > 1:
            print(f"{query}")
        for hit in hits:
            _show(hit, explain=explain)


@app.command()
def info(
    directory: Directory,
    alike: Annotated[
        bool,
        typer.Option(
            "--alike",
            help=f"Count passages that say the same; unasked of at most {MOST_COMPARED:,}.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a corpus holds."""
    from fidkit.passages import Corpus

    with Corpus.open(directory) as corpus:
        found = corpus.info()
        counted = corpus.count_alike() if alike or found.passages <= MOST_COMPARED else None
    if as_json:
        known = None if counted is None else {"groups": counted[0], "passages": counted[1]}
        print(json.dumps(found.to_json() | {"alike": known}))
        return
    _say_info(found, counted)


def _say_info(found: CorpusInfo, alike: tuple[int, int] | None) -> None:
    """What a corpus holds, for a person."""
    print(f"passages     {found.passages:,}")
    print(f"files        {found.files:,}, {found.passage_files:,} of them passage files")
    print(f"documents    {found.documents:,}")
    for ending, kind in found.kinds.items():
        size = f"{kind['bytes'] / 1e6:,.1f} MB"
        print(
            f"  {ending or '(no ending)':<10} {kind['files']:,} files, {size}, {kind['passages']:,} passages"
        )
    said = "not counted; --alike does" if alike is None else f"{alike[1]:,} passages in {alike[0]:,} groups"
    print(f"alike        {said}")
    repeated = f", up to {found.overlap:,} of them repeated" if found.overlap else ""
    print(f"cut          passages of about {found.passage_words:,} words{repeated}")
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
    if found.alike:
        record["alike"] = [{"id": passage.id, "source": passage.source} for passage in found.alike]
    return record | ({"words": asdict(found.words), "meaning": asdict(found.meaning)} if explain else {})


def _show(found: Explained, *, explain: bool) -> None:
    """A hit, for a person."""
    passage = found.hit.passage
    excerpt = " ".join(passage.text.split())[:_EXCERPT_CHARACTERS]
    print(f"{found.hit.score:7.2f}  {passage.id}  {passage.title}\n         {excerpt}")
    if explain:
        print(f"         {_opinion('words', found.words)}; {_opinion('meaning', found.meaning)}")
        for other in found.alike:
            print(f"         the same: {other.id}  {other.title}")


def _lines(file: Path) -> list[str]:
    """What stands in a file, but for empty lines."""
    try:
        if str(file) != "-":
            text = file.read_text("utf-8")
        elif sys.stdin is None:
            raise UsageError("--file - reads from stdin, which is closed; give a file")
        else:
            text = sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{file}: can't be read ({said}); expected questions, one a line") from error
    if not (lines := [line.strip() for line in text.splitlines() if line.strip()]):
        raise UsageError(f"{file}: holds no question; expected one a line")
    return lines


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


def _say_built(info: CorpusInfo, report: BuildReport, *, unasked: bool) -> None:
    """What a build did, for a person; `unasked` if nothing was said of vectors."""
    size = f"{info.passages:,} passages, {info.bytes_on_disk / 1e6:,.1f} MB, {report.seconds:.1f} s"
    counts = f"{report.files_read:,} files read, {report.files_removed:,} removed, {info.skipped:,} skipped"
    print(f"{info.path}: {size} ({counts})")
    _say_skipped(info)
    if unasked and info.vectors is None and info.passages > MOST_UNASKED:
        took = clock(info.passages / (A_SECOND * (os.cpu_count() or 1)))
        print(
            f"note: searched by words alone; --vectors adds search by meaning, in about {took} for so many "
            "passages",
            file=sys.stderr,
        )
    print(f'next: fidkit ask "YOUR QUESTION" --in {info.path}', file=sys.stderr)


def _say_skipped(info: CorpusInfo) -> None:
    """A few of the files that were not read, with reasons."""
    for name, reason in info.skipped_files[:5]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if info.skipped > 5:
        print(f"... and {info.skipped - 5:,} more, see `fidkit corpus info {info.path}`", file=sys.stderr)
