"""`fidkit corpus`: build, search, describe and check a corpus."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fidkit.cli.building import build
from fidkit.cli.options import AsJson, Directory, Documents, Verb, Where
from fidkit.errors import FidkitError, UsageError
from fidkit.passages.local.amounts import MOST_COMPARED
from fidkit.wording import counted, in_one_line, shortened, unwrapped

if TYPE_CHECKING:
    from fidkit.passages import CorpusInfo
    from fidkit.passages.local.corpus import Corpus, Explained
    from fidkit.passages.search.ways import Part
    from fidkit.types import Passage

app = typer.Typer(help="Build, search, describe and check a corpus.", rich_markup_mode=None)

app.command(cls=Verb)(build)

_EXCERPT_CHARACTERS = 160


@contextmanager
def _opened(place: str, *, searched: bool) -> Iterator[tuple[Corpus, tuple[str, ...]]]:
    """A built corpus, or documents as `fidkit ask --in` takes them; and what is to be said of it."""
    from fidkit.passages import Corpus
    from fidkit.passages.engines import is_url
    from fidkit.passages.local.layout import is_corpus
    from fidkit.passages.opening import open_sources

    notes: tuple[str, ...] = ()
    if not searched and (is_url(place) or is_corpus(Path(place))):
        corpus = Corpus.open(place)  # nothing that makes vectors has to be imported
    else:
        from fidkit.cli.building import reported_progress
        from fidkit.engine.meaning import runnable

        with reported_progress() as tell:
            corpus, notes = open_sources([place], tell, runnable())
    with corpus:
        yield corpus, notes


@app.command(cls=Verb)
def search(
    documents: Documents,
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
    from fidkit.passages import Filter
    from fidkit.passages.protocol import NOTHING_FOUND

    asked = [*(queries or ()), *(_lines(file) if file else ())]
    if not asked:
        raise UsageError('there is nothing to search for; give a query, such as "who wrote it", or --file')
    chosen = Filter.parse(where or ())
    with _opened(documents, searched=True) as (corpus, notes):
        began = time.perf_counter()
        found = corpus.explain_all(asked, k, by, where=chosen)
        milliseconds = 1000 * (time.perf_counter() - began)
    for note in notes:
        print(f"note: {in_one_line(note)}", file=sys.stderr)
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


@app.command(cls=Verb)
def info(
    documents: Documents,
    alike: Annotated[
        bool,
        typer.Option(
            "--alike",
            help=f"Count passages that say the same; unasked of at most {MOST_COMPARED:,}.",
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every file that was left out, and every note, on a line.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a corpus holds."""
    with _opened(documents, searched=False) as (corpus, _):  # what the notes say is said of each file below
        found = corpus.info()
        same = corpus.count_alike() if alike or found.passages <= MOST_COMPARED else None
    if as_json:
        known = None if same is None else {"groups": same[0], "passages": same[1]}
        print(json.dumps(found.to_json() | {"alike": known}))
        return
    _say_info(found, same, every=every)


def _say_info(found: CorpusInfo, alike: tuple[int, int] | None, *, every: bool) -> None:
    """What a corpus holds, for a person; `every` lists each file that was left out."""
    from fidkit.passages.local.info import grouped

    print(f"passages     {found.passages:,}")
    print(f"files        {found.files:,}, {found.passage_files:,} of them passage files")
    print(f"documents    {found.documents:,}")
    for ending, kind in found.kinds.items():
        held = f"{kind['bytes'] / 1e6:,.1f} MB, {counted(kind['passages'], 'passage')}"
        print(f"  {ending or '(no ending)':<10} {counted(kind['files'], 'file')}, {held}")
    said = "not counted; --alike does"
    if alike is not None:
        said = f"{counted(alike[1], 'passage')} in {counted(alike[0], 'group')}"
    print(f"alike        {said}")
    repeated = f", up to {found.overlap:,} of them repeated" if found.overlap else ""
    print(f"cut          passages of about {found.passage_words:,} words{repeated}")
    print(f"left out     {counted(found.skipped, 'file')}")
    if found.unread:
        print(f"unread       {counted(found.unread, 'file')}: a build was interrupted; run it again")
    sizes = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in found.sizes.items())
    print(f"on disk      {found.bytes_on_disk / 1e6:,.1f} MB ({sizes})")
    print(f"vectors      {_vectors(found)}")
    print(f"sources      {', '.join(found.sources)}")
    print(f"format       version {found.format_version}, generation {found.generation}")
    print(f"fingerprint  {found.fingerprint}")
    for line in grouped(found.skipped_files, "file", every=every):
        print(f"left out     {line}")
    for line in grouped(found.notes, "document", every=every):
        print(f"note         {line}")


@app.command(cls=Verb)
def check(
    directory: Directory,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write the index anew, and read damaged files again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the index with the passages, and texts with their sums; exit code 1 if something is damaged."""
    from fidkit.engine.meaning import minilm
    from fidkit.passages.engines import engine_of, said_place
    from fidkit.passages.local.check import check

    engine = engine_of(directory)
    if engine is None:
        report = check(Path(directory), repair=repair, encoder=minilm)
    else:
        report, directory = engine.check_corpus(directory, repair, minilm), said_place(directory)
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        for fault in report.faults:
            print(f"damaged   {in_one_line(fault.where)}: {fault.reason}")
        for fault in report.outdated:
            print(f"outdated  {in_one_line(fault.where)}: {fault.reason}")
        for done in report.mended:
            print(f"mended    {done}")
    if report.faults and not report.mended:
        many = counted(len(report.faults), "part is", "parts are")
        raise FidkitError(f"{directory}: {many} damaged; run `fidkit corpus check {directory} --repair`")
    if not report.faults and not as_json:
        held = f"{counted(report.passages, 'passage')} of {counted(report.documents, 'document')}"
        print(f"{directory}: {held} {'is as it was' if report.passages == 1 else 'are as they were'} read")


def _record(found: Explained, *, explain: bool) -> dict[str, Any]:
    record = asdict(found.hit.passage) | {"score": found.hit.score}
    if found.alike:
        record["alike"] = [{"id": passage.id, "source": passage.source} for passage in found.alike]
    return record | ({"words": _part(found.words), "meaning": _part(found.meaning)} if explain else {})


def _part(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else asdict(part)


def _show(found: Explained, *, explain: bool) -> None:
    """A hit, for a person."""
    passage = found.hit.passage
    excerpt = shortened(unwrapped(passage.text), _EXCERPT_CHARACTERS)
    print(f"{found.hit.score:7.2f}  {_called(passage)}\n         {excerpt}")
    if explain:
        print(f"         {_opinion('words', found.words)}; {_opinion('meaning', found.meaning)}")
        for other in found.alike:
            print(f"         the same: {_called(other)}")


def _called(passage: Passage) -> str:
    """Its place in a document, as `fidkit show` takes it; of a passage that was cut before, its id."""
    from fidkit.passages.places import split

    name = passage.id if split(passage.source)[1] is None else passage.source
    return f"{in_one_line(name)}  {in_one_line(passage.title)}"


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


def _opinion(way: str, part: Part | None) -> str:
    """What a way to search makes of a passage, for `--explain`."""
    if part is None:
        return f"by {way}: not searched"
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
