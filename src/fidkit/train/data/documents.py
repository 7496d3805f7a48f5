"""Texts to learn from without questions, one after the other for ever: local files, or `datasets`.

Both are read in an order that is shuffled and yet exact: a position that was saved goes on with the very
document that would have come.
"""

from __future__ import annotations

import copy
import gzip
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from fidkit.errors import DataError, UsageError
from fidkit.passages.load.rows import read_passages
from fidkit.passages.load.sources import SourceFile, discover
from fidkit.train.recipe import Recipe, SourceSpec

BLOCK = 1000
"""Documents of a stream that are shuffled among themselves."""


class Documents(Protocol):
    """Documents without an end: when all were read they come again, in another order."""

    def next(self) -> str:
        """The next document's text."""

    def state(self) -> dict[str, Any]:
        """The position: numbers, texts, lists and dictionaries of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of `state()`."""


class LocalDocuments:
    """Documents in memory, each once before any comes again.

    Args:
        texts: UTF-8.
        seed: of the orders.

    Raises:
        DataError: no texts.
    """

    def __init__(self, texts: Sequence[bytes], seed: int) -> None:
        if not texts:
            raise DataError("no documents to restore text of; expected a file with text, check `files`")
        self.texts, self.seed = texts, seed
        self._turn(0)

    def next(self) -> str:
        if self._place == len(self.texts):
            self._turn(self._epoch + 1)
        self._place += 1
        return self.texts[self._order[self._place - 1]].decode("utf-8")

    def state(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        self._turn(state["epoch"])
        self._place = state["place"]

    def _turn(self, epoch: int) -> None:
        self._epoch, self._place, self._order = epoch, 0, list(range(len(self.texts)))
        random.Random(f"{self.seed}/{epoch}").shuffle(self._order)


class StreamedDocuments:
    """Documents of a `datasets.IterableDataset`, shuffled in blocks.

    Blocks rather than the library's buffer, whose content is lost when a stream is resumed.

    Args:
        dataset: anything with `__iter__`, `state_dict` and `load_state_dict`.
        column: that holds the text.
        seed: of the orders.
    """

    def __init__(self, dataset: Any, column: str, seed: int) -> None:
        self.dataset, self.column, self.seed = dataset, column, seed
        self._first = copy.deepcopy(dataset.state_dict())
        self._rows = iter(dataset)
        self._number, self._begin = 0, self._first
        self._block: list[str] = []
        self._place = 0

    def next(self) -> str:
        if self._place == len(self._block):
            self._number += bool(self._block)
            self._begin = copy.deepcopy(self.dataset.state_dict())
            self._read_block()
        self._place += 1
        return self._block[self._place - 1]

    def state(self) -> dict[str, Any]:
        return {"block": self._number, "begin": copy.deepcopy(self._begin), "place": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        self._number, self._begin = state["block"], copy.deepcopy(state["begin"])
        self._rewind(self._begin)
        self._block, self._place = [], 0
        if state["place"]:
            self._read_block()
            self._place = state["place"]

    def _rewind(self, position: dict[str, Any]) -> None:
        self.dataset.load_state_dict(copy.deepcopy(position))
        self._rows = iter(self.dataset)

    def _read_block(self) -> None:
        rows = list(itertools.islice(self._rows, BLOCK))
        if not rows:  # the end: once more from the start
            self._rewind(self._first)
            rows = list(itertools.islice(self._rows, BLOCK))
        if not rows:
            raise DataError("a dataset has no rows; check its name, subset and split")
        self._block, self._place = [self._text(row) for row in rows], 0
        random.Random(f"{self.seed}/{self._number}").shuffle(self._block)

    def _text(self, row: dict[str, Any]) -> str:
        text = row.get(self.column)
        if not isinstance(text, str):
            raise DataError(
                f"a dataset's rows have no text in the column {self.column!r}, but the columns "
                f"{', '.join(row)}; name another as `column`"
            )
        return text


def open_documents(recipe: Recipe, spec: SourceSpec) -> Documents:
    """The documents of a source: of `dataset` where it names one, else of its files.

    Raises:
        CorpusError: a file is missing.
        DataError: a file is malformed, or a dataset can't be opened.
        UsageError: a dataset, but `datasets` isn't installed.
    """
    if spec.dataset is not None:
        return StreamedDocuments(_open_dataset(recipe, spec), spec.column, recipe.seed)
    files = discover([recipe.path(file) for file in spec.files])
    return LocalDocuments([text.encode() for file in files for text in read_texts(file)], recipe.seed)


def read_texts(file: SourceFile) -> Iterator[str]:
    """Whole documents: a row's text of a passage file, any other file as one.

    Raises:
        DataError: malformed, or not UTF-8.
    """
    if file.kind == "passages":
        with file.path.open("rb") as raw:
            yield from (row.text for row in read_passages(raw, file.name))
    elif file.kind == "document":
        try:
            text = _unpacked(file.path).decode("utf-8")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{file.path}: expected text in UTF-8, but {error}") from error
        if text.strip():
            yield text


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read()


def _open_dataset(recipe: Recipe, spec: SourceSpec) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"dataset = {spec.dataset!r} needs the library datasets; run `pip install 'fidkit[datasets]'`"
        ) from error
    files = [str(recipe.path(file)) for file in spec.files] or None
    try:
        return datasets.load_dataset(
            str(spec.dataset), spec.subset, data_files=files, split=spec.split, streaming=True
        )
    except Exception as error:  # the library raises what its readers and the network raise
        raise DataError(
            f"dataset {spec.dataset!r}: can't be opened ({error}); check its name, subset, split and files"
        ) from error
