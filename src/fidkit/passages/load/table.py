"""The kinds of files that passages are read from, by their endings, in this one place.

A new kind of file is a file in this folder with a function that reads it, and a line in `LOADERS`. Another
package adds one as an entry point of the group `fidkit.loaders`: its name is the ending, and what it names is
such a function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import PurePath
from typing import Any, BinaryIO, Literal

from fidkit.passages.load.document import Document
from fidkit.passages.load.extras import lacking
from fidkit.passages.load.record import Row, UnreadableFile

Kind = Literal["document", "passages"]
"""A document is cut into passages; a passage file holds passages that were cut before."""

PACKED = ".gz"
"""May follow each ending."""
GROUP = "fidkit.loaders"
"""Of entry points, with which other packages add kinds of documents."""


@dataclass(frozen=True, slots=True)
class Loader:
    """How a kind of file is read.

    Attributes:
        kind: what such a file is.
        read: `module:function`, imported once there is such a file. Takes a binary stream and the file's
            name, and gives the file's `Document`s, or its `Row`s if it is a passage file. Raises
            `UnreadableFile` where the file isn't what its ending says.
        extra: brings the packages that it needs; empty where it needs none.
    """

    kind: Kind
    read: str
    extra: str = ""

    def documents(self, stream: BinaryIO, name: str) -> Iterator[Document]:
        """The documents of a file.

        Raises:
            UnreadableFile: it isn't what its ending says, or the extra isn't installed.
        """
        try:
            yield from self._function(name)(stream, name)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            raise lacking(name, str(error.name)) from error

    def passages(self, stream: BinaryIO, name: str) -> Iterator[Row]:
        """The passages of a passage file.

        Raises:
            UnreadableFile: it isn't what its ending says.
        """
        yield from self._function(name)(stream, name)

    def _function(self, name: str) -> Callable[[BinaryIO, str], Iterator[Any]]:
        module, _, function = self.read.partition(":")
        found: Callable[[BinaryIO, str], Iterator[Any]] = getattr(import_module(module), function)
        return found


CODE = (
    ".py", ".pyi", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".vue", ".java", ".kt", ".scala",
    ".swift", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cs", ".go", ".rs", ".rb", ".php", ".pl",
    ".lua", ".r", ".jl", ".hs", ".ex", ".exs", ".dart", ".sh", ".bash", ".zsh", ".ps1", ".sql", ".proto",
    ".graphql", ".toml", ".yaml", ".yml", ".json", ".ini", ".cfg", ".conf", ".properties",
)  # fmt: skip
"""Of languages that people write by hand. `.xml`, `.css`, `.log`, `.lock` and the like hold few answers."""

_HERE = "fidkit.passages.load"
_CODE = Loader("document", f"{_HERE}.code:read_code")
# Those that may need packages of the extra.
_DOCUMENTS = {
    ".html": "html:read_html",
    ".htm": "html:read_html",
    ".xhtml": "html:read_html",
    ".pdf": "pdf:read_pdf",
    ".docx": "docx:read_docx",
    ".pptx": "pptx:read_pptx",
    ".xlsx": "sheets:read_workbook",
    ".xls": "sheets:read_workbook",
    ".ods": "ods:read_ods",
    ".odt": "odt:read_odt",
    ".odp": "odp:read_odp",
    ".rtf": "rtf:read_rtf",
    ".epub": "epub:read_epub",
    ".eml": "mailbox:read_mail_or_mailbox",
    ".mbox": "mailbox:read_mailbox",
    ".ipynb": "notebook:read_notebook",
    ".csv": "delimited:read_table",
    ".zip": "archive:read_archive",
}
LOADERS = {
    ".txt": Loader("document", f"{_HERE}.text:read_text"),
    ".md": Loader("document", f"{_HERE}.markdown:read_markdown"),
    ".markdown": Loader("document", f"{_HERE}.markdown:read_markdown"),
    ".rst": Loader("document", f"{_HERE}.rst:read_rst"),
    **{end: Loader("document", f"{_HERE}.{read}", extra="documents") for end, read in _DOCUMENTS.items()},
    **dict.fromkeys(CODE, _CODE),
    ".jsonl": Loader("passages", f"{_HERE}.jsonl:read_jsonl"),
    ".tsv": Loader("passages", f"{_HERE}.tsv:read_tsv"),
}

_TABLES = {".tsv": LOADERS[".csv"]}
"""Of endings of passage files, what reads those that hold something else."""

NAMED = LOADERS[".txt"]
"""Reads a file of any other ending that is named as a source."""


def loader_of(name: str, kind: Kind | None = None) -> Loader | None:
    """The loader for a file of this name; None where neither the table nor another package has its ending.

    Args:
        name: of the file.
        kind: what it turned out to be, where its ending says something else: a table without passages.
    """
    # By hand where that is enough: it is asked for each file of a folder.
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if ending == PACKED or name.startswith(".") or "/" in name:
        ending = os.path.splitext(name.lower().removesuffix(PACKED))[1]
    if kind == "document" and ending in _TABLES:
        return _TABLES[ending]
    return LOADERS.get(ending) or (_of_others().get(ending) if ending else None)


def reader_apart(name: str, kind: Kind | None = None) -> Loader | None:
    """As `loader_of`, but what another package brings goes before a loader of ours that needs the extra.

    Asked where files are read, not where they are found: to look through installed packages takes a while.
    """
    own = loader_of(name, kind)
    others = _of_others() if own and own.extra else {}
    return others.get(PurePath(name.lower().removesuffix(PACKED)).suffix, own)


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, that of a packed one with it: `.txt.gz`; empty for none."""
    plain = name.lower().removesuffix(PACKED)
    return PurePath(plain).suffix + name.lower()[len(plain) :]


@cache
def _of_others() -> dict[str, Loader]:
    """Kinds that other packages bring."""
    from importlib.metadata import entry_points  # takes a while, which most files need not

    return {
        f".{entry.name.lower().lstrip('.')}": _Foreign("document", entry.value)
        for entry in entry_points(group=GROUP)
    }


class _Foreign(Loader):
    """A loader that another package brings: what it makes is looked at, and what it raises is told."""

    def documents(self, stream: BinaryIO, name: str) -> Iterator[Document]:
        """As `Loader.documents`; an error of any kind is one of the file."""
        try:
            for document in self._function(name)(stream, name):
                if not isinstance(document, Document):
                    raise TypeError(f"expected documents, got {type(document).__name__}")
                yield document
        except UnreadableFile:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            reason = f"its loader {self.read} failed with {type(error).__name__}: {said}"
            raise UnreadableFile(name, reason, "mend or remove the package that brings it") from error


def endings(kind: Kind) -> str:
    """The endings of a kind, as a list in words: `.txt, .md or .markdown`; source code is one of them."""
    found = [ending for ending, loader in LOADERS.items() if loader.kind == kind and loader is not _CODE]
    found += ["source code"] if kind == "document" else []
    *most, last = found
    return f"{', '.join(most)} or {last}" if most else last


def described() -> str:
    """All that can be read, in words, for messages, help and documents."""
    documents, passages = endings("document"), endings("passages")
    return f"documents ({documents}) or passage files ({passages}), packed or not ({PACKED})"
