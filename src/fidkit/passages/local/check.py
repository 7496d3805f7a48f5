"""Whether a corpus is what it was when it was built, and what mends one that isn't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fidkit.disk import found_again, shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.address import is_in_store
from fidkit.passages.load.packed import blocks_of, boxes_in, places_in, text_of
from fidkit.passages.local.build import build, reindex
from fidkit.passages.local.catalogue import Catalogue, vectors_of
from fidkit.passages.local.layout import real_path
from fidkit.passages.local.records import FileRecord, Sum
from fidkit.passages.local.vectors import EncoderSource, rows_of
from fidkit.passages.search.lexical import Lexical
from fidkit.passages.search.lexical_check import damaged_files
from fidkit.passages.search.vectors import Vectors
from fidkit.wording import counted

_INDEX = "the index"
_VECTORS = "the vectors"


class Fault(NamedTuple):
    """What is not as it was: a file's part of the catalogue, or the index."""

    where: str
    reason: str


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        passages, documents: that were looked at.
        faults: what is damaged; `mended` says what was done about it.
        outdated: files that are gone or were written since, which the next build looks at.
    """

    passages: int = 0
    documents: int = 0
    faults: list[Fault] = field(default_factory=list)
    outdated: list[Fault] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": self.passages,
            "documents": self.documents,
            "faults": [fault._asdict() for fault in self.faults],
            "outdated": [fault._asdict() for fault in self.outdated],
            "mended": self.mended,
        }


def check(directory: Path, *, repair: bool = False, encoder: EncoderSource | None = None) -> CheckReport:
    """Compare everything that a corpus keeps twice; the index with the passages, texts with their sums.

    Args:
        directory: of the corpus.
        repair: write the index anew, and read files again whose part of the catalogue is damaged, which also
            brings the corpus up to date with its sources.
        encoder: gives what makes vectors, to mend them with.

    Raises:
        CorpusError: no corpus, or one that can't be mended: says what to do.
    """
    catalogue = Catalogue.for_reading(directory)
    report, damaged = CheckReport(), set[int]()
    try:
        with catalogue.one_state():
            meta, files = catalogue.meta(), catalogue.files()
            catalogue.require_whole()
            for file in files:
                reasons = list(_of_file(catalogue, file, report))
                damaged |= {file.file} if reasons else set()
                report.faults += [Fault(file.name, reason) for reason in reasons]
                report.outdated += _of_source(file) if not is_in_store(file.path) else ()
            report.outdated += _of_stores(files)
            report.faults += _of_whole(catalogue, meta, report, files)
            rows = set(catalogue.row_numbers())
            report.faults += _of_index(directory, str(meta["lexical"]), rows)
            report.faults += _of_vectors(directory, vectors_of(meta), rows)
    finally:
        catalogue.close()
    if repair and report.faults:
        _mend(directory, json.loads(meta["sources"]), damaged, report, encoder)
    return report


def _of_file(catalogue: Catalogue, file: FileRecord, report: CheckReport) -> Iterator[str]:
    total, count, texts = Sum(), 0, dict[int, str | None]()
    documents = catalogue.documents_of(file.file)
    report.documents += len(documents)
    for number in documents:
        try:
            texts[number] = text_of(catalogue.blob(number, "text"))
            blocks_of(catalogue.blob(number, "map"))
            places_in(catalogue.blob(number, "map"), 0, 1 << 60)
            boxes_in(catalogue.blob(number, "boxes"), 0, 1 << 60)
        except ValueError as error:
            texts[number] = None
            yield f"what is kept of a document is damaged ({error})"
    torn = 0
    for row, document in catalogue.rows_of(file):
        total.add(row)
        count += 1
        text = texts.get(document) if document is not None else None
        torn += text is not None and text[row.start : row.end] != row.text
        torn += document is not None and document not in texts
    report.passages += count
    if torn:
        yield f"{counted(torn, 'passage is', 'passages are')} not in their document"
    if count != file.passages or total.digest() != file.sum:
        yield f"its {count:,} passages are not the {file.passages:,} that were read"


def _of_source(file: FileRecord) -> Iterator[Fault]:
    if file.kind == "skipped":
        return
    try:
        found = found_again(file.path).stat()
    except OSError as error:
        yield Fault(file.name, error.strerror or "it can't be looked at")
        return
    if file.mtime_ns and (found.st_size, found.st_mtime_ns) != (file.size, file.mtime_ns):
        yield Fault(file.name, "written to since it was read")


def _of_stores(files: list[FileRecord]) -> Iterator[Fault]:
    """As `_of_source`, of objects: their buckets are listed, a folder's worth of them at once."""
    objects = [file for file in files if file.kind != "skipped" and is_in_store(file.path)]
    if not objects:
        return
    from fidkit.passages.load.objects import states_of

    try:
        states = states_of(file.path for file in objects)
    except (CorpusError, UsageError) as error:
        yield Fault("the sources", str(error))
        return
    for file in objects:
        if (state := states.get(file.path)) is None:
            yield Fault(file.name, "no such object any more")
        elif state != (file.size, file.mtime_ns):
            yield Fault(file.name, "written to since it was read")


def _of_whole(
    catalogue: Catalogue, meta: dict[str, str], report: CheckReport, files: list[FileRecord]
) -> Iterator[Fault]:
    total = Sum()
    for file in files:
        total.join(file.sum)
    if total.digest().hex() != meta["fingerprint"]:
        yield Fault("the catalogue", "its fingerprint is not that of its files")
    seen: dict[Literal["passages", "documents"], int] = {
        "passages": report.passages,
        "documents": report.documents,
    }
    for table, known in seen.items():
        if others := catalogue.count(table) - known:
            yield Fault("the catalogue", f"it holds {others:,} {table} of no file")


def _of_index(directory: Path, name: str, wanted: set[int]) -> Iterator[Fault]:
    if damaged := list(damaged_files(directory / name)) if (directory / name).exists() else []:
        yield from (Fault(_INDEX, f"{file} {reason}") for file, reason in damaged)
        return
    try:
        found = Lexical(directory / name).rows()
    except (FileNotFoundError, CorpusError) as error:
        missing = isinstance(error, FileNotFoundError)
        yield Fault(_INDEX, "it is missing" if missing else str(error))
        return
    if len(found) != len(wanted) or set(found) != wanted:
        yield Fault(
            _INDEX, f"it has {counted(len(found), 'passage')}, the catalogue {len(wanted):,}, or others"
        )


def _of_vectors(directory: Path, name: str | None, wanted: set[int]) -> Iterator[Fault]:
    if name is None:
        return
    try:
        found = Vectors(directory / name)
        for shard in found.shards:
            shard.require(shard.live_places())
    except (FileNotFoundError, CorpusError) as error:
        missing = isinstance(error, FileNotFoundError)
        yield Fault(_VECTORS, "they are missing" if missing else str(error))
        return
    rows = rows_of(found).tolist()
    if len(rows) != len(wanted) or set(rows) != wanted:
        yield Fault(_VECTORS, f"there are {len(rows):,}, of {len(wanted):,} passages, or of others")


def _mend(
    directory: Path,
    sources: list[str],
    damaged: set[int],
    report: CheckReport,
    encoder: EncoderSource | None,
) -> None:
    if all(fault.where in (_INDEX, _VECTORS) for fault in report.faults):
        reindex(directory, encoder)
        report.mended.append("the index was written anew from the catalogue")
        if any(fault.where == _VECTORS for fault in report.faults):
            made = encoder is not None
            report.mended.append("vectors were made anew" if made else "vectors were left out: no encoder")
        return
    try:
        done = build([real_path(source) for source in sources], directory, again=damaged, encoder=encoder)
    except CorpusError as error:
        raise CorpusError(
            f"{shown(directory)}: damaged, and its sources can't be read again ({error}); bring them back, "
            f"or delete it and run `fidkit corpus build SOURCE --to {shown(directory)}`"
        ) from error
    read = counted(done.files_read, "file was", "files were")
    report.mended.append(
        f"{read} read again, {done.files_removed:,} taken out, and the index was written anew"
    )
