"""Documents as a corpus keeps them: their texts, and where characters of them came from."""

from __future__ import annotations

from dataclasses import dataclass
from unicodedata import normalize

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.document import Block
from fidkit.passages.load.packed import blocks_of, boxes_in, joined_in_lines, places_in, text_of
from fidkit.passages.local.catalogue_reader import CatalogueReader
from fidkit.passages.local.records import DocumentRecord
from fidkit.passages.places import Where, split

_ALL = 1 << 60  # beyond the end of any document
_COMPARED = 10_000  # names with one that isn't there


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as a corpus keeps it: what is known of it, its text, and its blocks."""

    record: DocumentRecord
    text: str
    blocks: tuple[Block, ...]


def place_in(catalogue: CatalogueReader, source: str, span: tuple[int, int] | None) -> Where:
    """See `fidkit.passages.local.corpus.Corpus.place`."""
    name, (start, end) = source, span or (0, _ALL)
    document = _called(catalogue, name)
    if document is None:
        name, behind = split(source)
        start, end = span or behind or (0, _ALL)
        document = _called(catalogue, name)
    if document is None:
        return Where()
    packed = [catalogue.blob(document.document, column) for column in ("map", "boxes")]
    try:
        places = places_in(packed[0], start, end) if packed[0] else ()
        boxes = tuple(joined_in_lines(boxes_in(packed[1], start, end)))
    except ValueError as error:
        raise _damaged_document(catalogue, name, error) from error
    return Where(start, end, places, boxes)


def document_of(catalogue: CatalogueReader, source: str) -> StoredDocument:
    """See `fidkit.passages.local.corpus.Corpus.document`."""
    # A file is called as `shown` writes its path; a shell completes the path itself.
    source = shown(source)
    found = _called(catalogue, source)
    if found is None:
        raise CorpusError(_no_document(catalogue, source))
    packed_map, text = (catalogue.blob(found.document, column) for column in ("map", "text"))
    try:
        return StoredDocument(found, text_of(text), blocks_of(packed_map))
    except ValueError as error:
        raise _damaged_document(catalogue, source, error) from error


def _called(catalogue: CatalogueReader, source: str) -> DocumentRecord | None:
    """The document of this name, whose accents may be characters of their own there, as macOS has them."""
    forms = dict.fromkeys([source, normalize("NFC", source), normalize("NFD", source)])
    return next(filter(None, map(catalogue.document, forms)), None)


def _no_document(catalogue: CatalogueReader, source: str) -> str:
    from difflib import get_close_matches

    known = catalogue.sources(_COMPARED)
    tail = source.rsplit("/", 1)[-1].casefold()
    alike = [name for name in known if name.rsplit("/", 1)[-1].casefold() == tail]
    alike = alike or get_close_matches(source, known, 3, 0.5)
    expected = ", ".join(alike[:3] or known[:3])
    said = f"did you mean {expected}?" if alike else f"expected one such as {expected}"
    return f"no document is called {source!r}; {said if known else 'there are none'}"


def _damaged_document(catalogue: CatalogueReader, source: str, error: ValueError) -> CorpusError:
    where = shown(catalogue.directory)
    return CorpusError(
        f"{where}: what is kept of {source} is damaged ({error}); run `fidkit corpus check {where} --repair`"
    )
