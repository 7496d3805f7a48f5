"""`fidkit show`: a passage in its surroundings, or a document as it was read."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidkit.errors import CorpusError, UsageError
from fidkit.wording import MARKS, in_one_line

if TYPE_CHECKING:
    from fidkit.passages.local.corpus import Corpus, StoredDocument
    from fidkit.passages.places import Where


def show(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE[:START-END]",
            help="A document, and characters of it, as evidence names them.",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="Folder, file or built corpus; repeatable. Found by SOURCE itself if absent.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Of a PDF: write its page with the passage marked here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Show a passage in its surroundings, with its place; without characters, all of a document."""
    from fidkit.cli.building import reported_progress
    from fidkit.passages.places import typed
    from fidkit.passages.showing import found, record_of

    source = typed(source)
    with reported_progress() as tell:
        corpus, name = _opened(source, sources, tell)
    with closing(corpus):
        try:
            document, span = found(corpus, name)
        except CorpusError as error:
            left_out = dict(corpus.info().skipped_files).get(name)
            if left_out is not None:
                raise CorpusError(f"{name} was left out: {left_out}") from error
            raise CorpusError(f"{error} (`--in` says where else to look)") from error
        start, end = span or (0, len(document.text))
        where = corpus.place(document.record.source, (start, end))
    if picture is not None:
        _write_picture(picture, document, span, where)
    if as_json:
        print(json.dumps(record_of(document, span, where)))
    else:
        _print(document, span, where)


def _opened(source: str, sources: list[str] | None, tell: object) -> tuple[Corpus, str]:
    """The corpus that knows the source, and what the source is called there."""
    from fidkit.engine.meaning import runnable
    from fidkit.passages.local.layout import default_location, is_corpus
    from fidkit.passages.opening import open_sources
    from fidkit.passages.places import split

    def opened(documents: list[str] | None) -> Corpus:
        corpus, notes = open_sources(documents, tell, runnable())  # type: ignore[arg-type]
        for note in notes:
            print(f"note: {in_one_line(note)}", file=sys.stderr)
        return corpus

    if sources:
        return opened(sources), source
    path = Path(source if Path(source).exists() else split(source)[0]).expanduser()
    behind = source.removeprefix(str(split(source)[0])) if not Path(source).exists() else ""
    for folder in path.absolute().parents:
        inside = path.absolute().relative_to(folder).as_posix() + behind
        if is_corpus(folder):
            return opened([str(folder)]), inside
        if path.exists() and is_corpus(default_location([folder])):
            return opened([str(folder)]), inside
    for file in (path, *path.parents):  # a member of an archive stands behind the archive
        if file.is_file():
            within = path.relative_to(file).as_posix()
            return opened([str(file)]), file.name + ("" if within == "." else f"/{within}") + behind
    return opened(None), source


def _print(document: StoredDocument, span: tuple[int, int] | None, where: Where) -> None:
    from fidkit.passages.places import spoken
    from fidkit.passages.showing import surroundings

    record, text = document.record, document.text
    labels = where.labels() if span else {}
    at = [f"{span[0]}-{span[1]}"] if span else [f"{len(text):,} characters"]
    print(", ".join([in_one_line(record.source), *spoken(labels), *at]))
    for name, value in {"title": record.title, **record.facts, "heading": labels.get("heading", "")}.items():
        if value:
            print(f"{name}: {' '.join(value.split())}")
    for note in record.notes:
        print(f"note: {in_one_line(note)}")
    if span is None:
        print(f"\n{text}")
        return
    low, high = surroundings(text, document.blocks, *span)
    before, marked, after = text[low : span[0]], text[slice(*span)], text[span[1] : high]
    begun, ended = "… " if low > 0 else "", " …" if high < len(text) else ""
    print(f"\n{begun}{before}{MARKS[0]}{marked}{MARKS[1]}{after}{ended}")


def _write_picture(to: Path, document: StoredDocument, span: tuple[int, int] | None, where: Where) -> None:
    """The first page that the span is on, marked."""
    from fidkit.passages.showing import picture

    if to.suffix.lower() not in ("", ".png"):
        raise UsageError(f"--picture {to}: pictures are PNG; call it {to.with_suffix('.png')}")
    page, drawn = picture(document, span, where)
    try:
        to.write_bytes(drawn)
    except OSError as error:
        raise UsageError(f"{to}: can't be written ({error.strerror}); choose another place") from error
    print(f"{to}: page {page} of {document.record.source}", file=sys.stderr)
