"""Finds the objects of a store that a corpus is made of: keys are names, and slashes divide folders.

What is read, left out or looked at, and in which order, is as in a folder of files (`sources`). Nothing is
downloaded but the beginning of what may be a passage file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.address import ObjectAddress
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
)
from fidkit.passages.load.objects import THREADS, Listed, listed, opened
from fidkit.passages.load.table import described
from fidkit.passages.local.layout import CATALOGUE

NO_NAME = "its key has a part that is empty, . or .., so it is no name of a file; copy it to another key"
ARCHIVED = "in storage of the class {}, where it can't be read; copy it to another class"


def files_of(root: ObjectAddress) -> Iterator[tuple[str, SourceFile]]:
    """The objects of a source, each with its address, in the order of a folder.

    Raises:
        UsageError: the extra `s3` isn't installed.
        CorpusError: nothing is there, or it can't be listed.
    """
    found = listed(root)
    if not found:
        what = "no object is called so, or lies below it" if root.key else "an empty bucket"
        raise CorpusError(f"{shown(root)}: {what}; expected {described()}, check the address")
    if [one.key for one in found] == [root.key]:
        files = [_named(root, found[0])]
    else:
        below = f"{root.key}/" if root.key else ""
        files = _in_folders(root, [(one.key.removeprefix(below), one) for one in found])
    for file in _looked_into(files):
        yield str(file.path), file


def _named(root: ObjectAddress, found: Listed) -> SourceFile:
    """The object that is a source itself, which has to be readable."""
    kind, _ = kind_of(root.name)
    if kind == "skipped":
        kind = "document"
    return replace(_file(root.bucket, root.name, found, kind, ""), named=True)


def _in_folders(root: ObjectAddress, objects: list[tuple[str, Listed]]) -> list[SourceFile]:
    """Objects with their names in the source, the files of a folder before the folders in it."""
    names = [name for name, _ in objects]
    catalogues = [name for name in names if name.rpartition("/")[2] == CATALOGUE]
    corpora = {name.removesuffix(CATALOGUE) for name in catalogues}
    if "" in corpora:
        raise CorpusError(f"{shown(root)} is a built corpus, not a source; copy it to a folder and open that")
    files: list[SourceFile] = []
    passed: set[str] = set()
    for name, found in sorted(objects, key=lambda one: _in_order(one[0])):
        if name.endswith("/") and not found.size:
            continue  # what consoles make to show an empty folder
        *folders, last = name.split("/")
        if note := next((NO_NAME for part in (*folders, last) if part in ("", ".", "..")), ""):
            files.append(_file(root.bucket, name, found, "skipped", note))
            continue
        within, note = _passed_over(folders, corpora)
        if note:
            if within not in passed:  # a folder that is passed over may hold any number of objects
                passed.add(within)
                path = ObjectAddress(root.bucket, found.key[: len(found.key) - len(name) + len(within)])
                files.append(SourceFile(shown(within), path, "skipped", note=note))
            continue
        files.append(_file(root.bucket, name, found, *kind_of(last)))
    return files


def _in_order(name: str) -> list[tuple[bool, str]]:
    *folders, last = name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]


def _passed_over(folders: list[str], corpora: set[str]) -> tuple[str, str]:
    """The outermost folder that isn't looked into, with a slash behind, and why; else empty."""
    for within in accumulate(folders, lambda outer, folder: f"{outer}/{folder}"):
        if within.rpartition("/")[2].startswith("."):
            return f"{within}/", HIDDEN
        if f"{within}/" in corpora:
            return f"{within}/", ANOTHER_CORPUS
    return "", ""


def _file(bucket: str, name: str, found: Listed, kind: Kind, note: str) -> SourceFile:
    if found.archived and kind != "skipped":
        kind, note = "skipped", ARCHIVED.format(found.archived)
    if kind == "document" and found.size > LARGEST_DOCUMENT:
        kind, note = "skipped", TOO_LARGE
    return SourceFile(shown(name), ObjectAddress(bucket, found.key), kind, found.size, found.mtime_ns, note)


def _looked_into(files: list[SourceFile]) -> Iterator[SourceFile]:
    """The files, of which those that may be passage files are, and what describes them is left out."""
    asked = [file for file in files if file.kind == "passages"]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fidkit-look") as threads:
        kinds = dict(zip((file.path for file in asked), threads.map(_kind, asked), strict=True))
    beside: dict[str, bool] = defaultdict(bool)
    for file in files:
        beside[_folder(file)] |= kinds.get(file.path, ("",))[0] == "passages"
    for file in files:
        kind, note = kinds.get(file.path, (file.kind, file.note))
        if file.named and kind == "skipped":
            kind, note = "passages", ""  # reading it says what is wrong
        if kind == "document" and beside[_folder(file)] and describes(file.path.name):
            kind, note = "skipped", DESCRIBES
        yield replace(file, kind=kind, note=note)


def _kind(file: SourceFile) -> tuple[Kind, str]:
    assert isinstance(file.path, ObjectAddress)
    address = file.path
    return passages_or_not(address.name, lambda: opened(address))


def _folder(file: SourceFile) -> str:
    return file.name.rpartition("/")[0]
