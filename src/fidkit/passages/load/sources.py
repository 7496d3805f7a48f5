"""Finds the files that a corpus is made of.

A folder is searched recursively. What is left out is listed with its reason: files of other kinds, files
that aren't what their ending says, hidden files and folders, links to folders, corpora.
Which endings are read, `fidkit.passages.load.table` says. Within one folder passage files go first: text
files beside them (a README, a licence) describe the data and are not documents.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.rows import UnreadableFile, read_rows
from fidkit.passages.load.table import Kind as ReadKind
from fidkit.passages.load.table import described, loader_of
from fidkit.passages.load.tsv import OtherHeader
from fidkit.passages.local.layout import is_corpus

Kind = Literal[ReadKind, "skipped"]

HIDDEN = "hidden"
ANOTHER_CORPUS = "a corpus, not a source of one"
LINKED = "a link to a folder; name that as a source of its own"
DESCRIBES = "describes the passage files beside it"
_DESCRIPTIONS = {"README", "LICENSE", "LICENCE", "NOTICE", "CITATION", "COPYING", "CHANGELOG"}
OTHER = "not a kind of file that is read"
LARGEST_DOCUMENT = 1 << 32
"""Bytes; whatever is larger can't be read within a worker's memory."""
TOO_LARGE = f"larger than {LARGEST_DOCUMENT / 1e6:,.0f} MB, the most that is read; split it"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as found.

    Attributes:
        name: unique in the corpus.
        path: where it is.
        kind: what it is read as.
        size, mtime_ns: bytes, and when it was written.
        note: why a skipped file is skipped.
        named: given as a source itself, and not found in a folder: then it must be readable.
    """

    name: str
    path: Path
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    note: str = ""
    named: bool = False


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
    found: dict[str, tuple[Path, SourceFile]] = {}
    for root in roots:
        for file in _files_of(root):
            where = str(file.path) if file.note == LINKED else os.path.realpath(file.path)
            first, known = found.setdefault(where, (root, file))
            if file.named and not known.named:
                found[where] = (first, replace(file, name=known.name))
    files = _with_unique_names(list(found.values()))
    if all(file.kind == "skipped" for file in files):
        raise CorpusError(nothing_usable(roots, [(file.name, file.note) for file in files]))
    return files


def nothing_usable(roots: Iterable[str | os.PathLike[str]], skipped: list[tuple[str, str]]) -> str:
    """The message for sources without a single passage; `skipped` has names and reasons."""
    where = ", ".join(map(shown, roots))
    told = [of_one for of_one in skipped if of_one[1] != HIDDEN] or skipped
    why = f" ({len(skipped)} skipped, the first: {told[0][0]}, {told[0][1]})" if skipped else ""
    return f"{where}: found nothing to read{why}; expected {described()}"


def _files_of(root: Path) -> Iterator[SourceFile]:
    if is_corpus(root):
        raise CorpusError(
            f"{shown(root)} is a built corpus, not a source; open it as it is, or name its sources"
        )
    if root.is_dir():
        yield from _walk(root)
    elif root.is_file():
        loader = loader_of(root.name)
        kind = loader.kind if loader else "document"
        if kind == "passages" and _passages_or_not(root).kind == "document":
            kind = "document"
        yield _stat(SourceFile(shown(root.name), root, kind, named=True))
    else:
        raise CorpusError(
            f"{shown(root)}: no such file or folder; expected documents or passage files, check the path"
        )


def _walk(root: Path) -> Iterator[SourceFile]:
    unreadable: list[tuple[Path, str]] = []
    ahead = [root]
    while ahead:  # not by `os.walk`, which goes a thousand folders deep and no further
        here = ahead.pop()
        try:
            subfolders, names = _entries(here)
        except OSError as error:
            unreadable.append((here, error.strerror or "unreadable"))
            continue
        passed = {name: note for name in subfolders if (note := _passed_over(here / name))}
        ahead += [here / name for name in reversed(subfolders) if name not in passed]
        for file in _folder(here, names):
            yield replace(file, name=_relative(file.path, root))
        for name, note in passed.items():
            yield SourceFile(_relative(here / name, root) + "/", here / name, "skipped", note=note)
    for path, note in unreadable:
        yield SourceFile(_relative(path, root) + "/", path, "skipped", note=note)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The folders in a folder, links to such among them, and what else is in it, both sorted by name."""
    folders, names = list[str](), list[str]()
    with os.scandir(folder) as found:
        for entry in found:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            (folders if is_folder else names).append(entry.name)
    return sorted(folders), sorted(names)


def _passed_over(folder: Path) -> str:
    """Why a folder isn't looked into; empty for one that is."""
    if folder.name.startswith("."):
        return HIDDEN
    if os.path.islink(folder):  # it may lead to what is read already, or around in a circle
        return LINKED
    return ANOTHER_CORPUS if is_corpus(folder) else ""


def _folder(folder: Path, names: list[str]) -> Iterator[SourceFile]:
    """The files of one folder."""
    files = [_stat(_found(folder / name)) for name in names]
    has_passages = any(file.kind == "passages" for file in files)
    for file in files:
        if has_passages and file.kind == "document" and _describes(file.path):
            file = replace(file, kind="skipped", note=DESCRIBES)
        yield file


def _describes(path: Path) -> bool:
    """Whether a document says what the files beside it are, as one comes along with a set of passages."""
    return path.name.split(".")[0].upper() in _DESCRIPTIONS


def _found(path: Path) -> SourceFile:
    if path.name.startswith("."):
        return SourceFile(path.name, path, "skipped", note=HIDDEN)
    loader = loader_of(path.name)
    if loader is None:
        return SourceFile(path.name, path, "skipped", note=OTHER)
    if loader.kind == "passages" and os.path.isfile(path):
        return _passages_or_not(path)
    return SourceFile(path.name, path, loader.kind)


def _passages_or_not(path: Path) -> SourceFile:
    """A passage file, or what keeps it from being one, as far as its first row tells.

    A log is none, and the text beside it no description of it. A table of something else is a document.
    """
    try:
        with path.open("rb") as raw:
            problem = "" if list(islice(read_rows(raw, path.name), 1)) else "empty"
    except OtherHeader:
        return SourceFile(path.name, path, "document")
    except UnreadableFile as error:
        problem = error.reason
    except OSError as error:
        problem = (error.strerror or "unreadable").lower()
    return SourceFile(path.name, path, "skipped" if problem else "passages", note=problem)


def _stat(file: SourceFile) -> SourceFile:
    try:
        info = file.path.stat()
    except OSError as error:
        return replace(file, kind="skipped", note=error.strerror or "unreadable")
    if not stat.S_ISREG(info.st_mode):
        return replace(file, kind="skipped", note="not a regular file")
    if not os.access(file.path, os.R_OK):
        return replace(file, kind="skipped", note="permission denied")
    if file.kind == "document" and info.st_size > LARGEST_DOCUMENT:
        return replace(file, kind="skipped", note=TOO_LARGE)
    return replace(file, size=info.st_size, mtime_ns=info.st_mtime_ns)


def _with_unique_names(found: list[tuple[Path, SourceFile]]) -> list[SourceFile]:
    names = [file.name for _, file in found]
    folders = [shown(root.name if root.is_dir() else root.resolve().parent.name) for root, _ in found]
    longer = [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)]
    paths = [shown(os.path.realpath(file.path)) for _, file in found]
    for candidates in (longer, paths):
        names = _told_apart(names, candidates)
    # Names of other bytes may be shown alike. Bytes can't be, and the ending has to stay at the end.
    if len(set(names)) < len(names):
        hashes = [hashlib.sha256(os.fsencode(file.path)).hexdigest()[:8] for _, file in found]
        names = _told_apart(names, [f"{code}/{name}" for code, name in zip(hashes, names, strict=True)])
    return [replace(file, name=name) for name, (_, file) in zip(names, found, strict=True)]


def _told_apart(names: list[str], longer: list[str]) -> list[str]:
    """The names, with a longer one for each that isn't the only one of its kind."""
    taken = Counter(names)
    return [more if taken[name] > 1 else name for name, more in zip(names, longer, strict=True)]


def _relative(path: Path, root: Path) -> str:
    return shown(path.relative_to(root).as_posix())
