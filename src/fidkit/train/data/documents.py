"""Texts to learn from without questions, one after the other for ever: local files, or `datasets`.

Both are read in an order that is shuffled and yet exact: a position that was saved goes on with the very
document that would have come.
"""

from __future__ import annotations

import copy
import gzip
import itertools
import logging
import random
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from fidkit.errors import DataError, UsageError
from fidkit.passages import is_corpus
from fidkit.passages.load.sources import discover
from fidkit.train.distributed.group import Group
from fidkit.train.passages import PassageTable, Say, open_passages
from fidkit.train.recipe import Recipe
from fidkit.train.specs import TaskSpec

logger = logging.getLogger(__name__)

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
    """Documents of this machine, each once before any comes again.

    Args:
        texts: may be read when they are asked for.
        seed: of the orders.

    Raises:
        DataError: no texts.
    """

    def __init__(self, texts: Sequence[str] | Texts, seed: int) -> None:
        if not texts:
            raise DataError("no documents to restore text of; expected a file with text, check `files`")
        self.texts, self.seed = texts, seed
        self._turn(0)

    def next(self) -> str:
        if self._place == len(self.texts):
            self._turn(self._epoch + 1)
        self._place += 1
        return self.texts[self._order[self._place - 1]]

    def state(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "place": self._place}

    def restore(self, state: dict[str, Any]) -> None:
        self._turn(state["epoch"])
        self._place = state["place"]

    def _turn(self, epoch: int) -> None:
        self._epoch, self._place, self._order = epoch, 0, array("q", range(len(self.texts)))
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


class Texts:
    """Texts by number, each read when it is asked for.

    Args:
        parts: how many texts there are in each, and what reads one of them.
    """

    def __init__(self, parts: Sequence[tuple[int, Callable[[int], str]]]) -> None:
        self._read = [read for _, read in parts]
        self._starts = [0, *itertools.accumulate(count for count, _ in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> str:
        part = bisect_right(self._starts, number) - 1
        return self._read[part](number - self._starts[part])


def open_documents(
    recipe: Recipe, spec: TaskSpec, say: Say = logger.info, group: Group | None = None
) -> Documents:
    """The documents of a task: of `dataset` where it names one, else of its files.

    Each of the task's `files` may be a built corpus, whose passages are the documents; passage files, of
    which a corpus is built, and whose rows are; or any other file, which is one document as a whole. In a
    folder, documents come after rows.

    Args:
        recipe: says where files are.
        spec: the task.
        say: told what is left out of folders.
        group: of processes; all call this.

    Raises:
        CorpusError: a file is missing.
        DataError: a file is malformed, or a dataset can't be opened.
        UsageError: a dataset, but `datasets` isn't installed.
    """
    if spec.dataset is not None:
        return StreamedDocuments(_open_dataset(recipe, spec), spec.column, recipe.seed)
    parts = [part for file in spec.files for part in _parts(recipe.path(file), say, group)]
    return LocalDocuments(Texts(parts), recipe.seed)


def _parts(entry: Path, say: Say, group: Group | None) -> list[tuple[int, Callable[[int], str]]]:
    if is_corpus(entry):
        return [_rows([entry], say, group)]
    files = discover([entry])
    packed = [Path(file.path) for file in files if file.kind == "passages"]
    whole = [Path(file.path) for file in files if file.kind == "document"]
    # The same corpus as of the recipe's passages, where both name one folder.
    rows = [_rows([entry] if not whole else packed, say, group)] if packed else []
    texts = _readable(whole, say) if entry.is_dir() else [path for path in whole if read_text(path).strip()]
    return [*rows, (len(texts), lambda number: read_text(texts[number]))]


def _rows(entries: Sequence[Path], say: Say, group: Group | None) -> tuple[int, Callable[[int], str]]:
    table = PassageTable(open_passages(entries, group, say))
    return len(table), lambda number: table.fetch([number])[0].text


def _readable(paths: Sequence[Path], say: Say) -> list[Path]:
    """Those with a text; the others are said."""
    kept, left_out = [], []
    for path in paths:
        try:
            if read_text(path).strip():
                kept.append(path)
        except DataError as error:
            left_out.append(str(error))
    if left_out:
        say(f"{len(left_out):,} of {len(paths):,} documents left out, the first: {left_out[0]}")
    return kept


def read_text(path: Path) -> str:
    """A whole file.

    Raises:
        DataError: it can't be read, or isn't UTF-8.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read().decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected text in UTF-8, but {error}; convert the file or leave it out"
        ) from error


def _open_dataset(recipe: Recipe, spec: TaskSpec) -> Any:
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
