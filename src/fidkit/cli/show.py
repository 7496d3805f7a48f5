"""`fidkit show`: a passage in its surroundings, or a document as it was read."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from fidkit.errors import CorpusError, UsageError
from fidkit.types import boxes_to_json
from fidkit.wording import in_one_line

if TYPE_CHECKING:
    from fidkit.passages.load.document import Block
    from fidkit.passages.local.corpus import Corpus, StoredDocument
    from fidkit.passages.places import Where

MARKS = ("»", "«")
_AROUND_CHARACTERS = 800
_SCALE = 2.0
"""Pixels a point of a picture."""


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

    with reported_progress() as tell:
        corpus, name = _opened(source, sources, tell)
    with closing(corpus):
        try:
            document, span = _found(corpus, name)
        except CorpusError as error:
            raise CorpusError(f"{error}; `--in` says where else to look") from error
        start, end = span or (0, len(document.text))
        where = corpus.place(document.record.source, (start, end))
    if picture is not None:
        _write_picture(picture, document, span, where)
    if as_json:
        print(json.dumps(_record(document, span, where)))
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


def _found(corpus: Corpus, name: str) -> tuple[StoredDocument, tuple[int, int] | None]:
    """The document, and the characters that are asked for.

    Raises:
        CorpusError: no such document.
        UsageError: characters that it doesn't have.
    """
    from fidkit.passages.places import split

    span = None
    try:
        document = corpus.document(name)
    except CorpusError:
        bare, span = split(name)
        document = corpus.document(bare)
    length = len(document.text)
    if span and not span[0] < span[1] <= length:
        raise UsageError(
            f"{name}: characters {span[0]} to {span[1]} of a document that has {length:,}; expected two "
            f"numbers from 0 to {length}, the smaller first, as evidence has them"
        )
    return document, span


def surroundings(text: str, blocks: tuple[Block, ...], start: int, end: int) -> tuple[int, int]:
    """The paragraphs that hold a span, and one on either side, or as much of them as is shown."""
    if blocks:
        inside = [n for n, block in enumerate(blocks) if block.start < end and start < block.end]
        behind = [n for n, block in enumerate(blocks) if block.end <= start]
        first = min(inside, default=len(behind)) - 1
        last = max(inside, default=len(behind) - 1) + 1
        low = blocks[max(0, first)].start
        high = blocks[min(len(blocks) - 1, last)].end
    else:
        low, high = 0, len(text)
    low, high = min(low, start), max(high, end)
    if start - low > _AROUND_CHARACTERS:
        low = _after_space(text, start - _AROUND_CHARACTERS, start)
    if high - end > _AROUND_CHARACTERS:
        cut = text.rfind(" ", end, end + _AROUND_CHARACTERS)
        high = cut if cut > 0 else end + _AROUND_CHARACTERS
    return low, high


def _after_space(text: str, low: int, high: int) -> int:
    space = text.find(" ", low, high)
    return space + 1 if space >= 0 else low


def _print(document: StoredDocument, span: tuple[int, int] | None, where: Where) -> None:
    from fidkit.passages.places import spoken

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


def _record(document: StoredDocument, span: tuple[int, int] | None, where: Where) -> dict[str, object]:
    record, text = document.record, document.text
    start, end = span or (0, len(text))
    low, high = surroundings(text, document.blocks, start, end)
    boxes = where.boxes if span else ()
    return {
        "source": record.source,
        "file": record.path,
        "title": record.title,
        "facts": record.facts,
        "notes": list(record.notes),
        "span": [start, end],
        "before": text[low:start],
        "text": text[start:end],
        "after": text[end:high],
        "where": where.labels(),
        "boxes": boxes_to_json(boxes),
    }


def _write_picture(to: Path, document: StoredDocument, span: tuple[int, int] | None, where: Where) -> None:
    """The first page that the span is on, marked.

    Raises:
        UsageError: not a span of a page of a PDF, or the file isn't the one that was read.
    """
    record = document.record
    if span is None or not where.boxes:
        raise UsageError(
            f"{record.source}: no page to make a picture of; expected characters of a PDF, such as "
            f"{record.source}:0-100"
        )
    if record.member:
        raise UsageError(
            f"{record.source}: is kept inside of another file; unpack it, and ask for its own picture"
        )
    page = where.boxes[0].page
    boxes = [box for box in where.boxes if box.page == page]
    with _as_it_was_read(record.path, record.sha256, record.source) as stream:
        try:
            from fidkit.passages.load.pdf import page_picture
        except ImportError as error:
            raise UsageError(
                f"a picture of a PDF's page needs {error.name}; get it with: pip install 'fidkit[documents]'"
            ) from error
        drawn = page_picture(stream, page, boxes, _SCALE)
    try:
        to.write_bytes(drawn)
    except OSError as error:
        raise UsageError(f"{to}: can't be written ({error.strerror}); choose another place") from error
    print(f"{to}: page {page} of {record.source}", file=sys.stderr)


def _as_it_was_read(path: str, sha256: str, source: str) -> BinaryIO:
    """The file, opened, if it is still the one that was read.

    Raises:
        UsageError: it is gone or another.
    """
    import hashlib
    import io

    from fidkit.disk import found_again
    from fidkit.passages.load.rows import unpacked

    try:
        packed = found_again(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); a picture needs the file") from error
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise UsageError(
            f"{path}: was written to since {source} was read from it; build the corpus again, and ask again"
        )
    with unpacked(io.BytesIO(packed), path) as stream:
        return io.BytesIO(stream.read())
