"""What a corpus holds, as a record for people and programs."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fidkit.disk import shown
from fidkit.passages.load.document import WITHOUT_TEXT
from fidkit.passages.load.record import NEXT_BUILD
from fidkit.passages.load.sources import ANOTHER_CORPUS, HIDDEN
from fidkit.passages.load.table import ending_of
from fidkit.passages.local.cuts import cutting_of
from fidkit.passages.local.layout import FORMAT_VERSION, bytes_on_disk, default_location, sizes_on_disk
from fidkit.passages.local.plan import next_try_ns
from fidkit.passages.local.records import DocumentRecord, FileRecord
from fidkit.passages.local.schema import sources_of
from fidkit.wording import counted, in_one_line, some

_REASONS_SHOWN = 3
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """What a corpus holds.

    Attributes:
        path: the corpus directory.
        passages: number of passages.
        files: that were read, and `passage_files` those of them that hold passages cut before.
        documents: that passages were cut from; an archive or a mail holds several.
        kinds: by the ending of files: how many `files`, `bytes` and `passages`.
        unread: files that an interrupted build left to the next.
        notes: what a person has to know of documents, as (source, note).
        skipped: what of the sources was not read; `skipped_files` gives (name, reason) of each. A folder
            that was passed over is one, its name ends in "/".
        bytes_on_disk: catalogue, index and caches together; `sizes` has the bytes of each.
        vectors: encoder, dimension and number of the vectors; None where there are none, or none that can be
            read, which `vectors_fault` says.
        sources: absolute paths it was built from.
        passage_words, overlap: how documents are cut (`fidkit.passages.load.cutting.Cutting`).
        format_version, generation: of the files; the generation grows with every change of passages.
        fingerprint: of ids, titles, texts and offsets of all passages, whatever their order.
    """

    path: str
    passages: int
    files: int
    documents: int
    passage_files: int
    unread: int
    skipped: int
    bytes_on_disk: int
    sizes: dict[str, int]
    vectors: dict[str, Any] | None
    vectors_fault: str
    sources: list[str]
    passage_words: int
    overlap: int
    format_version: int
    generation: int
    fingerprint: str
    kinds: dict[str, dict[str, int]]
    skipped_files: list[tuple[str, str]]
    notes: list[tuple[str, str]]

    @classmethod
    def of(
        cls,
        directory: Path,
        meta: dict[str, str],
        files: list[FileRecord],
        documents: int,
        noted: Iterable[DocumentRecord],
    ) -> CorpusInfo:
        """Of what a catalogue says at one moment.

        Args:
            directory: of the corpus.
            meta: what is known of the corpus as a whole.
            files: of its sources.
            documents: how many there are.
            noted: those that have notes.
        """
        from fidkit.passages.local.vectors import about  # knows NumPy, which the rest here doesn't need

        skipped = [(file.name, _said(file.note, file)) for file in files if file.kind == "skipped"]
        again = {file.path: file for file in files if file.tries}
        vectors, fault = about(directory, meta)
        return cls(
            path=shown(directory),
            passages=int(meta["passages"]),
            files=sum(file.kind != "skipped" for file in files),
            documents=documents,
            unread=int(meta.get("unread", 0)),
            passage_files=sum(file.kind == "passages" for file in files),
            skipped=len(skipped),
            bytes_on_disk=bytes_on_disk(directory),
            sizes=sizes_on_disk(directory),
            vectors=vectors,
            vectors_fault=fault,
            sources=[shown(source) for source in sources_of(meta, directory)],
            format_version=int(meta.get("format_version", FORMAT_VERSION)),
            passage_words=cutting_of(meta).words,
            overlap=cutting_of(meta).overlap,
            generation=int(meta["generation"]),
            fingerprint=meta["fingerprint"],
            kinds=kinds_of(files),
            skipped_files=skipped,
            notes=[
                (document.source, _said(note, again.get(document.path)))
                for document in noted
                for note in document.notes
            ],
        )

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["skipped_files"] = [{"file": name, "reason": reason} for name, reason in self.skipped_files]
        record["notes"] = [{"source": source, "note": note} for source, note in self.notes]
        return record

    def left_out(self) -> str:
        """One line that says how many files were not read, and why; empty where all were.

        What is hidden, and corpora, nobody expects to be read: they are in `skipped_files` alone.
        """
        reasons = Counter(reason for _, reason in self.skipped_files)
        for expected in (HIDDEN, ANOTHER_CORPUS):
            del reasons[expected]
        if not reasons:
            return ""
        most = reasons.most_common(_REASONS_SHOWN)
        told = [f"{reason}: {count:,}" for reason, count in most]
        if reasons.total() == 1:
            told = [f"{in_one_line(name)}: {said}" for name, said in self.skipped_files if said in reasons]
        if len(reasons) > len(most):
            told.append(f"other reasons: {reasons.total() - sum(count for _, count in most):,}")
        all_files = self.files + reasons.total()
        return (
            f"{reasons.total():,} of {counted(all_files, 'file was', 'files were')} left out "
            f"({'; '.join(told)}); `fidkit corpus info {self._called()}` lists them"
        )

    def without_text(self) -> str:
        """One line that says how many documents have pages without text; empty where all have some."""
        found = len({source for source, note in self.notes if note.endswith(WITHOUT_TEXT)})
        if not found:
            return ""
        return (
            f"{counted(found, 'document has', 'documents have')} pages without text, which may be scans; "
            f"`fidkit corpus info {self._called()}` says which"
        )

    def _called(self) -> str:
        """What `corpus info` takes for it: of an index in fidkit's own home, the documents themselves."""
        if len(self.sources) == 1 and shown(default_location(self.sources)) == self.path:
            return shlex.quote(self.sources[0])
        return shlex.quote(self.path)


def _said(note: str, file: FileRecord | None) -> str:
    """A reason or a note as it is to be said now: what failed several times isn't tried by each build."""
    if file is None or not note.endswith(NEXT_BUILD) or not (again_ns := next_try_ns(file)):
        return note
    when = datetime.fromtimestamp(again_ns // 10**9).isoformat(" ", "minutes")
    tried = f"tried {file.tries} times, again from {when} on or once it is written to"
    return note.removesuffix(NEXT_BUILD) + tried


def grouped(said: Iterable[tuple[str, str]], what: str, *, every: bool) -> Iterator[str]:
    """Lines that say what was said of files or documents, the same of several on one line.

    Args:
        said: names, and what was said of each.
        what: they are, one of them.
        every: say all names, a line each, and not a few.
    """
    groups = defaultdict[str, list[str]](list)
    for name, reason in said:
        groups[in_one_line(reason) or "empty"].append(in_one_line(name))
    for reason, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        if every or len(names) == 1:
            yield from (f"{name}: {reason}" for name in names)
            continue
        yield f"{counted(len(names), what)}: {reason}: {some(names, _NAMES_SHOWN)}"


def kinds_of(files: Iterable[FileRecord]) -> dict[str, dict[str, int]]:
    """Counts by the ending of files that were read, the most files first."""
    found: dict[str, dict[str, int]] = {}
    for file in files:
        if file.kind != "skipped":
            kind = found.setdefault(ending_of(file.name), {"files": 0, "bytes": 0, "passages": 0})
            kind["files"] += 1
            kind["bytes"] += file.size
            kind["passages"] += file.passages
    return dict(sorted(found.items(), key=lambda kind: -kind[1]["files"]))
