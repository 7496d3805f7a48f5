"""Finds the files that a corpus is made of.

A folder is searched recursively, and so is what lies below a prefix of an object store
(`fidkit.passages.load.keys`). What is left out is listed with its reason: files of other kinds, files
that aren't what their ending says, hidden files and folders, links to folders, corpora.
Which endings are read, `fidkit.passages.load.table` says. Within one folder passage files go first: text
files beside them (a README, a licence) describe the data and are not documents.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.address import ObjectAddress, source_of
from fidkit.passages.load.found import (
    ANOTHER_CORPUS,
    DESCRIBES,
    HIDDEN,
    LARGEST_DOCUMENT,
    TOO_LARGE,
    Kind,
    SourceFile,
    describes,
    kind_of,
    passages_or_not,
    told_apart_by,
)
from fidkit.passages.load.table import described, loader_of
from fidkit.passages.local.layout import is_corpus

__all__ = ["ANOTHER_CORPUS", "HIDDEN", "LINKED", "SourceFile", "discover", "nothing_usable"]

LINKED = "a link to a folder; name that as a source of its own"
GONE = "a link whose target is missing; mend or remove it"
_READ_BY_ALL = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_INODE_BITS = (1 << 62) - 1  # as a catalogue keeps them; those of some file systems have more


def discover(sources: Iterable[str | os.PathLike[str]]) -> list[SourceFile]:
    """Every file of the sources, in their order; a file given twice counts once.

    Within a folder files come first, then the folders in it, both sorted by name.

    Names are paths relative to the source folder; where two sources would give one name, the folder's
    own name goes in front, and where that is not enough, the whole path.

    Raises:
        UsageError: no sources.
        CorpusError: a source is missing, can't be reached or is a corpus itself, or no file could be used.
    """
    roots = [source_of(source) for source in sources]
    if not roots:
        raise UsageError(
            "no sources given; expected folders, documents or passage files to build a corpus from"
        )
    found: dict[str, tuple[Path | ObjectAddress, SourceFile]] = {}
    for root in roots:
        for where, file in _of_store(root) if isinstance(root, ObjectAddress) else _files_of(root):
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
    why = f" ({len(skipped)} left out, the first: {told[0][0]}, {told[0][1]})" if skipped else ""
    return f"{where}: found nothing to read{why}; expected {described()}"


def _of_store(root: ObjectAddress) -> Iterator[tuple[str, SourceFile]]:
    from fidkit.passages.load.keys import files_of  # folders alone need no client of a store

    return files_of(root)


def _files_of(root: Path) -> Iterator[tuple[str, SourceFile]]:
    """The files of a source, each with the path that is its own whatever links lead to it."""
    if is_corpus(root):
        raise CorpusError(
            f"{shown(root)} is a built corpus, not a source; open it as it is, or name its sources"
        )
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        mode = 0
    except OSError as error:
        raise CorpusError(
            f"{shown(root)}: can't be looked into ({error.strerror}); mend that, or leave this source out"
        ) from error
    if stat.S_ISDIR(mode):
        yield from _walk(root)
    elif stat.S_ISREG(mode):
        loader = loader_of(root.name)
        kind = loader.kind if loader else "document"
        if kind == "passages" and _passages_or_not(root)[0] == "document":
            kind = "document"
        yield os.path.realpath(root), _stated(shown(root.name), root, kind, "", root.stat, named=True)
    else:
        if gone := _gone(root):
            raise CorpusError(f"{shown(root)}: {gone}")
        what = "is a pipe, a device or a socket" if mode else "no such file or folder"
        raise CorpusError(f"{shown(root)}: {what}; expected documents or passage files, check the path")


def _walk(root: Path) -> Iterator[tuple[str, SourceFile]]:
    """The files of a folder and its subfolders. Of many files this is what an unchanged corpus waits for."""
    unreadable: list[tuple[str, SourceFile]] = []
    ahead = [(root, os.path.realpath(root), "")]
    while ahead:
        folder, real, within = ahead.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=_name)
        except OSError as error:
            note = error.strerror or "unreadable"
            unreadable.append((real, SourceFile(shown(within or "./"), folder, "skipped", note=note)))
            continue
        folders = [entry for entry in entries if _is_folder(entry)]
        yield from _folder(folder, real, within, [entry for entry in entries if not _is_folder(entry)])
        looked_into = []
        for entry in folders:
            inner, name = folder / entry.name, f"{within}{entry.name}/"
            if note := _passed_over(inner):
                where = str(inner) if note == LINKED else os.path.join(real, entry.name)
                yield where, SourceFile(shown(name), inner, "skipped", note=note)
            else:
                looked_into.append((inner, os.path.join(real, entry.name), name))
        ahead += reversed(looked_into)
    yield from unreadable


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _passed_over(folder: Path) -> str:
    """Why a folder isn't looked into; empty for one that is."""
    if folder.name.startswith("."):
        return HIDDEN
    if os.path.islink(folder):  # it may lead to what is read already, or around in a circle
        return LINKED
    return ANOTHER_CORPUS if is_corpus(folder) else ""


def _folder(
    folder: Path, real: str, within: str, entries: list[os.DirEntry[str]]
) -> Iterator[tuple[str, SourceFile]]:
    """The files of one folder; `within` is its path in the source, with a slash behind."""
    files: list[tuple[str, SourceFile]] = []
    has_passages, before = False, os.path.join(real, "")
    for entry in entries:
        name = entry.name
        path = folder / name
        kind, note = _kind(name, path)
        file = _stated(shown(within + name), path, kind, note, entry.stat)
        has_passages = has_passages or file.kind == "passages"
        where = before + name
        files.append((os.path.realpath(where) if entry.is_symlink() else where, file))
    if not has_passages:
        yield from files
        return
    for where, file in files:
        if file.kind == "document" and describes(file.path.name):
            file = replace(file, kind="skipped", note=DESCRIBES)
        yield where, file


def _kind(name: str, path: Path) -> tuple[Kind, str]:
    """What a file in a folder is read as, and why if it isn't."""
    kind, note = kind_of(name)
    return _passages_or_not(path) if kind == "passages" and os.path.isfile(path) else (kind, note)


def _passages_or_not(path: Path) -> tuple[Kind, str]:
    return passages_or_not(path.name, lambda: path.open("rb"))


def _stated(
    name: str, path: Path, kind: Kind, note: str, stated: Callable[[], os.stat_result], *, named: bool = False
) -> SourceFile:
    """A file with what the system says of it, which is asked for once."""
    try:
        info = stated()
    except OSError as error:
        note = _gone(path) or error.strerror or "unreadable"
        return SourceFile(name, path, "skipped", note=note, named=named)
    if not stat.S_ISREG(info.st_mode):
        return SourceFile(name, path, "skipped", note="not a regular file", named=named)
    # What everybody may read need not be asked for, which takes as long as all the rest.
    if info.st_mode & _READ_BY_ALL != _READ_BY_ALL and not os.access(path, os.R_OK):
        return SourceFile(name, path, "skipped", note=os.strerror(errno.EACCES), named=named)
    if kind == "document" and info.st_size > LARGEST_DOCUMENT:
        return SourceFile(name, path, "skipped", note=TOO_LARGE, named=named)
    inode = info.st_ino & _INODE_BITS
    return SourceFile(name, path, kind, info.st_size, info.st_mtime_ns, note, named, inode, info.st_ctime_ns)


def _gone(path: Path) -> str:
    """What to say of a link that leads to nothing; empty for any other path, and for a link in a circle."""
    if not os.path.islink(path):
        return ""
    try:
        os.stat(path)
    except FileNotFoundError:
        return GONE
    except OSError:  # a circle, say
        pass
    return ""


def _with_unique_names(found: list[tuple[Path | ObjectAddress, SourceFile]]) -> list[SourceFile]:
    names = [file.name for _, file in found]
    if len(set(names)) == len(names):
        return [file for _, file in found]
    names = _told_apart(names, [f"{_folder_name(root)}/{file.name}" for root, file in found])
    names = _told_apart(names, [shown(told_apart_by(file.path)) for _, file in found])
    # Names of other bytes may be shown alike. Bytes can't be, and the ending has to stay at the end.
    if len(set(names)) < len(names):
        hashes = [hashlib.sha256(os.fsencode(file.path)).hexdigest()[:8] for _, file in found]
        names = _told_apart(names, [f"{code}/{name}" for code, name in zip(hashes, names, strict=True)])
    return [replace(file, name=name) for name, (_, file) in zip(names, found, strict=True)]


def _folder_name(root: Path | ObjectAddress) -> str:
    if isinstance(root, ObjectAddress):
        return root.name
    return shown(root.name if root.is_dir() else root.resolve().parent.name)


def _told_apart(names: list[str], longer: list[str]) -> list[str]:
    """The names, with a longer one for each that isn't the only one of its kind."""
    taken = Counter(names)
    return [more if taken[name] > 1 else name for name, more in zip(names, longer, strict=True)]
