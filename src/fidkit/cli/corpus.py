"""`fidkit corpus`: build, search and describe a corpus."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fidkit.cli.progress import progress
from fidkit.passages.load.table import described

if TYPE_CHECKING:
    from fidkit.passages import BuildProgress, CorpusInfo
    from fidkit.types import Hit

app = typer.Typer(help="Build, search and describe a corpus.", no_args_is_help=True, rich_markup_mode=None)

Directory = Annotated[Path, typer.Argument(help="A corpus directory.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

_EXCERPT_CHARACTERS = 160


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
    as_json: AsJson = False,
) -> None:
    """Build a corpus, or bring it up to date: only new and changed files are read."""
    from fidkit.passages import Corpus

    with reported_progress() as tell, Corpus.build(sources, to, tell) as corpus:
        info = corpus.info()
        report = corpus.report
    if report is None:  # `Corpus.build` always sets it
        raise AssertionError("a build without a report")
    if as_json:
        print(json.dumps(info.to_json() | {"build": report.to_json()}))
        return
    size = f"{info.passages:,} passages, {info.bytes_on_disk / 1e6:,.1f} MB, {report.seconds:.1f} s"
    counts = f"{report.files_read:,} files read, {report.files_removed:,} removed, {info.skipped:,} skipped"
    print(f"{info.path}: {size} ({counts})")
    _say_skipped(info)
    print(f'next: fidkit ask "YOUR QUESTION" --in {info.path}', file=sys.stderr)


@app.command()
def search(
    directory: Directory,
    query: Annotated[str, typer.Argument(help="A question or some words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="How many passages, at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the passages that match best."""
    from fidkit.passages import Corpus
    from fidkit.passages.protocol import NOTHING_FOUND

    with Corpus.open(directory) as corpus:
        began = time.perf_counter()
        hits = corpus.search(query, k)
        milliseconds = 1000 * (time.perf_counter() - began)
    if not hits:
        print(f"note: {NOTHING_FOUND}", file=sys.stderr)
    if as_json:
        found = [_record(hit) for hit in hits]
        print(json.dumps({"query": query, "hits": found, "timings_ms": {"search": round(milliseconds, 3)}}))
        return
    for hit in hits:
        passage = hit.passage
        excerpt = " ".join(passage.text.split())[:_EXCERPT_CHARACTERS]
        print(f"{hit.score:7.2f}  {passage.id}  {passage.title}\n         {excerpt}")


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
    print(f"files        {found.documents:,} documents, {found.passage_files:,} passage files")
    print(f"skipped      {found.skipped:,} files")
    print(f"on disk      {found.bytes_on_disk / 1e6:,.1f} MB")
    print(f"sources      {', '.join(found.sources)}")
    print(f"format       version {found.format_version}, generation {found.generation}")
    print(f"fingerprint  {found.fingerprint}")
    for name, reason in found.skipped_files:
        print(f"left out     {name}: {reason or 'empty'}")


@contextmanager
def reported_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Shows how far a build is on stderr; yields what `Corpus.build` takes as `progress`.

    Nothing is shown when nothing is read, and an error before that stays the only line.
    """
    with ExitStack() as stack:
        shown, passages = None, 0

        def tell(state: BuildProgress) -> None:
            nonlocal shown, passages
            if shown is None:
                shown = stack.enter_context(progress("reading passages"))
            share = 100 * state.done_bytes / max(1, state.total_bytes)
            reading = f"reading passages, {share:.0f} %"
            shown.describe("writing the index" if state.stage == "index" else reading)
            shown.advance(state.passages - passages)
            passages = state.passages

        yield tell


def _record(hit: Hit) -> dict[str, Any]:
    return asdict(hit.passage) | {"score": hit.score}


def _say_skipped(info: CorpusInfo) -> None:
    """A few of the files that were not read, with reasons."""
    for name, reason in info.skipped_files[:5]:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if info.skipped > 5:
        print(f"... and {info.skipped - 5:,} more, see `fidkit corpus info {info.path}`", file=sys.stderr)
