"""Finds the files that a corpus is made of.

A folder is searched recursively; hidden files and folders and other corpora in it are passed over.
`.jsonl`, `.jsonl.gz` and DPR's `.tsv`, `.tsv.gz` are passage files, `.txt` and `.md` are documents.
Within one folder passage files go first: text files beside them (a README, a licence) describe the
data and are not documents; they are reported as skipped.
"""

from __future__ import annotations

import gzip
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local.layout import is_corpus

PASSAGE_ENDINGS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz")
DOCUMENT_ENDINGS = (".txt", ".md", ".markdown")

Kind = Literal["document", "passages", "skipped"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as found: `name` is unique in the corpus, `note` says why a skipped file is skipped."""

    name: str
    path: Path
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    note: str = ""


def discover(sources: Iterable[str | os.PathLike[str]]) -> list[SourceFile]:
    """Every file of the sources, in their order; a file given twice counts once.

    Within a folder files come first, then the folders in it, both sorted by name.

    Names are paths relative to the source folder; where two sources would give one name, the folder's
    own name goes in front, and where that is not enough, the whole path.

    Raises:
        UsageError: no sources.
        CorpusError: a source is missing or is a corpus itself, or no file could be used.
    """
    roots = [Path(source).expanduser() for source in sources]
    if not roots:
        raise UsageError(
            "no sources given; expected folders, documents or passage files to build a corpus from"
        )
    found: dict[Path, tuple[Path, SourceFile]] = {}
    for root in roots:
        for file in _files_of(root):
            found.setdefault(file.path.resolve(), (root, file))
    files = _with_unique_names(list(found.values()))
    if all(file.kind == "skipped" for file in files):
        raise CorpusError(nothing_usable(roots, [(file.name, file.note) for file in files]))
    return files


def nothing_usable(roots: Iterable[object], skipped: list[tuple[str, str]]) -> str:
    """The message for sources without a single passage; `skipped` has names and reasons."""
    where = ", ".join(str(root) for root in roots)
    why = f" ({len(skipped)} skipped, the first: {skipped[0][0]}, {skipped[0][1]})" if skipped else ""
    return (
        f"{where}: found nothing to read{why}; expected .txt or .md documents in UTF-8, "
        "or passages as .jsonl, .jsonl.gz or DPR .tsv"
    )


def _files_of(root: Path) -> Iterator[SourceFile]:
    if is_corpus(root):
        raise CorpusError(f"{root} is a built corpus, not a source; open it as it is, or name its sources")
    if root.is_dir():
        yield from _walk(root)
    elif root.is_file():
        kind: Kind = "passages" if _is_passage_name(root.name) else "document"
        yield _stat(SourceFile(root.name, root, kind))
    else:
        raise CorpusError(
            f"{root}: no such file or folder; expected documents or passage files, check the path"
        )


def _walk(root: Path) -> Iterator[SourceFile]:
    unreadable: list[OSError] = []
    for folder, subfolders, names in os.walk(root, onerror=unreadable.append):
        here = Path(folder)
        subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and not is_corpus(here / n))
        yield from _folder(root, here, sorted(name for name in names if not name.startswith(".")))
    for error in unreadable:
        path = Path(os.fsdecode(error.filename))
        yield SourceFile(
            path.relative_to(root).as_posix(), path, "skipped", note=error.strerror or "unreadable"
        )


def _folder(root: Path, folder: Path, names: list[str]) -> Iterator[SourceFile]:
    passages = {name for name in names if _is_passage_name(name) and _may_hold_passages(folder / name)}
    for name in names:
        path = folder / name
        file = SourceFile(
            path.relative_to(root).as_posix(), path, "skipped", note="not a kind of file that is read"
        )
        if name in passages:
            file = replace(file, kind="passages", note="")
        elif name.lower().endswith(DOCUMENT_ENDINGS):
            note = "describes the passage files beside it" if passages else ""
            file = replace(file, kind="skipped" if passages else "document", note=note)
        yield _stat(file)


def _is_passage_name(name: str) -> bool:
    return name.lower().endswith(PASSAGE_ENDINGS)


def _may_hold_passages(path: Path) -> bool:
    """False for a table of something else: only the header tells DPR's TSV from any other."""
    if path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return True
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            return {b"id", b"text", b"title"} <= set(stream.readline(1000).strip().split(b"\t"))
    except (OSError, EOFError):
        return False


def _stat(file: SourceFile) -> SourceFile:
    try:
        info = file.path.stat()
    except OSError as error:
        return replace(file, kind="skipped", note=error.strerror or "unreadable")
    if not stat.S_ISREG(info.st_mode):
        return replace(file, kind="skipped", note="not a regular file")
    if not os.access(file.path, os.R_OK):
        return replace(file, kind="skipped", note="permission denied")
    return replace(file, size=info.st_size, mtime_ns=info.st_mtime_ns)


def _with_unique_names(found: list[tuple[Path, SourceFile]]) -> list[SourceFile]:
    names = [file.name for _, file in found]
    longer = [
        (root.name if root.is_dir() else root.resolve().parent.name) + "/" + file.name for root, file in found
    ]
    paths = [file.path.resolve().as_posix() for _, file in found]
    for candidates in (longer, paths):
        taken = Counter(names)
        names = [
            longer_name if taken[name] > 1 else name
            for name, longer_name in zip(names, candidates, strict=True)
        ]
    return [replace(file, name=_storable(name)) for name, (_, file) in zip(names, found, strict=True)]


def _storable(name: str) -> str:
    """A file name may hold bytes that are no UTF-8; the catalogue stores text."""
    return os.fsencode(name).decode("utf-8", "replace")
