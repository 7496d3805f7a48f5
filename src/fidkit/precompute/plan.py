"""Plans the memory of a corpus: what has to be encoded, in units that each become one shard.

Passages are read in their order, twice, in one state of them: first for their keys, which say what is new,
then for the tokens of that. Neither texts nor tokens of the corpus are ever held together.

    units/unit-000001.safetensors    see `fidkit.precompute.unit`; deleted when its shard is committed
    units/plan.json                  written last: without it units mean nothing
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fidkit.errors import CorpusError
from fidkit.memory.layout import PART, SUFFIX, explained_disk, put_in_place
from fidkit.passages import Passages
from fidkit.passages.token_cache import passage_key
from fidkit.paths import is_own_file, is_plain_name, is_whole_number, remove
from fidkit.precompute.unit import Identity, id_dtype, write_unit
from fidkit.tokens import Tokenizer
from fidkit.types import Passage

_FILE = "plan.json"
_UNIT = "unit-"
_FORMAT_VERSION = 1
_KEY = "S16"
# Enough for the tokenizer to keep all cores busy.
_TOGETHER = 4096
# Passages change between two looks at best once; those of a collection that doesn't say so forever.
_ATTEMPTS = 5

Size = Callable[[Sequence[int]], int]
"""Bytes of a shard whose rows have these lengths."""

Tell = Callable[[str, int], None]
"""What is being done, and how many more passages it is done with."""


class Stored(Protocol):
    """What a memory has, as `fidkit.memory.MemoryWriter` knows it."""

    def missing(self, keys: Iterable[bytes]) -> Iterable[bytes]:
        """Those of the keys that are not stored, in their order."""
        ...

    def keep_only(self, keys: Iterable[bytes]) -> int:
        """Remove all rows but these; how many were removed."""
        ...


class Nothing:
    """A memory that begins anew."""

    def missing(self, keys: Iterable[bytes]) -> Iterable[bytes]:
        return keys

    def keep_only(self, keys: Iterable[bytes]) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class PlannedUnit:
    """One unit.

    Attributes:
        name: of its file.
        passages, tokens: in it.
        bytes: of its shard.
    """

    name: str
    passages: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """Which state of a corpus a plan is of."""

    generation: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a memory lacks.

    Attributes:
        state: of the corpus.
        identity: of the memory.
        target_bytes: what a shard should have at most.
        passages: of the corpus.
        contents: different ones among them; equal passages share a row.
        kept: contents that the memory has already.
        full: passages to encode that take as many tokens as the reader takes, or would have more.
        units: all of them, whether done or not.
    """

    state: State
    identity: Identity
    target_bytes: int
    passages: int
    contents: int
    kept: int
    full: int = 0
    units: tuple[PlannedUnit, ...] = field(default=())

    def left(self, units: Path) -> tuple[PlannedUnit, ...]:
        """Units that are not committed yet."""
        return tuple(unit for unit in self.units if (units / unit.name).exists())

    def fits(self, state: State, identity: Identity, target_bytes: int | None) -> bool:
        """Whether the plan is one for this; a size of None is any."""
        return (self.state, self.identity) == (state, identity) and target_bytes in (None, self.target_bytes)


def state_of(corpus: Passages) -> State:
    """The state that passages are in."""
    return State(corpus.generation, corpus.fingerprint)


def load_plan(units: Path) -> BuildPlan | None:
    """The plan that is there, if there is a whole one of this format."""
    if not is_own_file(units / _FILE):
        return None
    try:
        record = json.loads((units / _FILE).read_text(encoding="utf-8"))
        if record.pop("format_version") != _FORMAT_VERSION:
            return None
        record["state"], record["identity"] = State(**record["state"]), Identity(**record["identity"])
        record["units"] = tuple(PlannedUnit(**unit) for unit in record["units"])
        plan = BuildPlan(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return plan if _is_possible(plan) else None


def _is_possible(plan: BuildPlan) -> bool:
    """Whether units are files of this folder, and counts are counts; what was written here always is."""
    numbers = [plan.target_bytes, plan.passages, plan.contents, plan.kept, plan.full]
    for unit in plan.units:
        numbers += [unit.passages, unit.tokens, unit.bytes]
    names = [unit.name for unit in plan.units]
    return all(map(is_whole_number, numbers)) and all(map(_is_unit, names)) and len(set(names)) == len(names)


def _is_unit(name: object) -> bool:
    return is_plain_name(name) and str(name).startswith(_UNIT) and str(name).endswith(SUFFIX)


def discard_plan(units: Path) -> None:
    """Delete the plan and its units; the plan first, so that what a kill leaves counts as none."""
    remove(units / _FILE)
    remove(units)


def make_plan(
    corpus: Passages,
    stored: Stored,
    tokenizer: Tokenizer,
    identity: Identity,
    size: Size,
    units: Path,
    *,
    target_bytes: int,
    batch_tokens: int,
    tell: Tell,
) -> tuple[BuildPlan, int]:
    """Write the units of all contents that a memory lacks; an earlier plan is thrown away.

    Args:
        corpus: passages that are to be remembered.
        stored: what the memory has; it is told to forget rows that no passage needs.
        tokenizer: of the reader.
        identity: of the memory.
        size: of a shard.
        units: folder for them.
        target_bytes: what a shard should have at most; one passage may have more.
        batch_tokens: how many tokens go through the encoder at a time.
        tell: told how far it is.

    Returns:
        The plan, and how many rows were removed.

    Raises:
        CorpusError: the passages can't be read, or change all the time.
        MemoryStoreError: the disk is full.
    """
    discard_plan(units)
    with _read_twice(corpus) as (state, first_time, second_time):
        keys = _keys(first_time, tell)
        contents, first = np.unique(keys, return_index=True)
        removed = stored.keep_only(_each(contents))
        lacking = np.isin(contents, np.frombuffer(b"".join(stored.missing(_each(contents))), _KEY))
        is_new = np.zeros(len(keys), bool)
        is_new[first[lacking]] = True
        written = _Units(units, identity, size, target_bytes, batch_tokens)
        if lacking.any():
            with explained_disk(units.parent):
                units.mkdir(parents=True, exist_ok=True)
            _write(compress(second_time, is_new), keys[is_new], tokenizer, written, tell)
    plan = BuildPlan(
        state,
        identity,
        target_bytes,
        passages=len(keys),
        contents=len(contents),
        kept=len(contents) - int(lacking.sum()),
        full=written.full,
        units=tuple(written.done),
    )
    if plan.units:
        _save(plan, units)
    return plan, removed


def _write(
    passages: Iterator[Passage], keys: npt.NDArray[Any], tokenizer: Tokenizer, written: _Units, tell: Tell
) -> None:
    dtype = id_dtype(tokenizer.config.passage_vocabulary_size)
    limit = tokenizer.config.passage_tokens
    at = 0
    while some := list(islice(passages, _TOGETHER)):
        ids = [np.array(row, dtype) for row in tokenizer.passages(some)]
        written.full += sum(len(row) == limit for row in ids)
        for key, row in zip(_each(keys[at : at + len(some)]), ids, strict=True):
            written.add(key, row)
        at += len(some)
        tell("tokenising passages", len(some))
    written.close()


class _Units:
    """Gathers passages until they fill a shard."""

    def __init__(
        self, directory: Path, identity: Identity, size: Size, target_bytes: int, batch_tokens: int
    ) -> None:
        self.done: list[PlannedUnit] = []
        self.full = 0
        self._directory, self._identity, self._batch_tokens = directory, identity, batch_tokens
        self._size, self._room = size, target_bytes
        self._empty = size([])
        self._begin()

    def _begin(self) -> None:
        self._keys: list[bytes] = []
        self._ids: list[npt.NDArray[Any]] = []
        self._bytes = self._empty

    def add(self, key: bytes, ids: npt.NDArray[Any]) -> None:
        more = self._size([len(ids)]) - self._empty
        if self._keys and self._bytes + more > self._room:
            self.close()
        self._keys.append(key)
        self._ids.append(ids)
        self._bytes += more

    def close(self) -> None:
        if not self._keys:
            return
        name = f"{_UNIT}{len(self.done) + 1:06}{SUFFIX}"
        # The longest first: neighbours are encoded together, and little of a batch is padding.
        order = sorted(range(len(self._ids)), key=lambda row: -len(self._ids[row]))
        keys, ids = [self._keys[row] for row in order], [self._ids[row] for row in order]
        write_unit(self._directory / name, self._identity, self._batch_tokens, keys, ids)
        lengths = [len(row) for row in ids]
        self.done.append(PlannedUnit(name, len(lengths), sum(lengths), self._size(lengths)))
        self._begin()


@contextmanager
def _read_twice(corpus: Passages) -> Iterator[tuple[State, Iterator[Passage], Iterator[Passage]]]:
    """Two iterations of one state, and which: both begin before anything changes, and go on as they began."""
    with ExitStack() as begun:
        for _ in range(_ATTEMPTS):
            state = state_of(corpus)
            times = _begin(corpus, begun), _begin(corpus, begun)
            if state_of(corpus) == state:
                yield state, *times
                return
    raise CorpusError(
        "the passages change all the time, so that no state of them can be planned; wait until they rest"
    )


def _begin(corpus: Passages, begun: ExitStack) -> Iterator[Passage]:
    passages = iter(corpus)
    if isinstance(passages, Generator):
        begun.callback(passages.close)
    return chain(list(islice(passages, 1)), passages)


def _keys(passages: Iterator[Passage], tell: Tell) -> npt.NDArray[Any]:
    packed = bytearray()
    while some := list(islice(passages, _TOGETHER)):
        for passage in some:
            packed += passage_key(passage)
        tell("reading passages", len(some))
    return np.frombuffer(packed, _KEY)


def _each(keys: npt.NDArray[Any]) -> Iterator[bytes]:
    # Not one by one from the array, which drops zeros at the end of a key.
    packed, width = keys.tobytes(), keys.dtype.itemsize
    return (packed[at : at + width] for at in range(0, len(packed), width))


def _save(plan: BuildPlan, units: Path) -> None:
    part = units / (_FILE + PART)
    with explained_disk(units):
        with part.open("w", encoding="utf-8") as file:
            json.dump({"format_version": _FORMAT_VERSION, **asdict(plan)}, file)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(part, units / _FILE)
