"""Vectors of passages in a directory, as search by meaning reads them (`dense`).

    vectors-<n>/
        index.safetensors            which shards there are, and what of each was removed: the one authority
        shard-<32 hex>.safetensors   vectors of some passages; never changes

A shard holds, for n passages in the order of their rows and vectors of D numbers:

    rows     I64 [n]       numbers of the passages in the catalogue
    codes    U64 [W, n]    binary codes: the signs of a vector's numbers, 64 to a word; W = D / 64, rounded up
    scales   F32 [n]       what the numbers of a vector are multiplied by
    checks   U32 [n]       CRC-32 of the numbers of each vector
    keys     U8  [n, 16]   which title and text it is of (`fidkit.passages.token_cache.passage_key`)
    vectors  I8  [n, D]

Its name is a hash of all of that but the vectors, and is compared when it is opened; a vector is compared
with its own check when it is looked at, so that opening reads a fifth of the bytes.

Codes lie word by word, not passage by passage: a scan takes a word of many passages at once.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fidkit import mapped
from fidkit.disk import WriteError, permit, shown
from fidkit.errors import CorpusError
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.paths import foreign_entry

FORMAT_VERSION = 1
INDEX = "index.safetensors"
SUFFIX = ".safetensors"
PART = ".part"
WORD = 64
_FORMAT = "fidkit-vectors"
_TYPES = {"I64": "<i8", "U64": "<u8", "F32": "<f4", "U32": "<u4", "I8": "i1", "U8": "u1"}
_SHARD_NAME = re.compile(r"shard-[0-9a-f]{32}\.safetensors")
_DIGITS = 9  # of numbers that a file gives
_LARGEST = 127


@dataclass(frozen=True)
class Entries:
    """Vectors of n passages, in memory or mapped; see the head of this file."""

    rows: NDArray[np.int64]
    codes: NDArray[np.uint64]
    scales: NDArray[np.float32]
    checks: NDArray[np.uint32]
    keys: NDArray[np.uint8]
    vectors: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: NDArray[np.int64]) -> Entries:
        """Those at some places, in memory."""
        return Entries(
            self.rows[places], np.take(self.codes, places, 1), self.scales[places], self.checks[places],
            self.keys[places], self.vectors[places],
        )  # fmt: skip

    def of_rows(self, rows: NDArray[np.int64]) -> Entries:
        """The same vectors, of other passages."""
        return replace(self, rows=rows)

    def damaged(self, places: NDArray[np.int64]) -> int:
        """How many of the vectors at these places aren't what was written."""
        found = [zlib.crc32(self.vectors[place]) for place in places.tolist()]
        return int((np.array(found, np.uint32) != self.checks[places]).sum())


def entries(rows: Sequence[int], keys: Sequence[bytes], vectors_ND: NDArray[np.float32]) -> Entries:
    """Vectors rounded to 8 bits each by its largest number, with codes and checks."""
    largest = np.abs(vectors_ND).max(1)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    rounded = np.rint(vectors_ND / scales[:, None]).astype(np.int8)
    key_bytes = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
    return of_numbers(np.array(rows, np.int64), key_bytes, scales, rounded)


def of_numbers(
    rows: NDArray[np.int64],
    keys: NDArray[np.uint8],
    scales: NDArray[np.float32],
    vectors_ND: NDArray[np.int8],
) -> Entries:
    """Vectors that were rounded before, with codes and checks."""
    checks = np.array([zlib.crc32(vector) for vector in vectors_ND], np.uint32)
    return Entries(rows, signs(vectors_ND), scales, checks, keys, vectors_ND)


def signs(vectors_ND: NDArray[Any]) -> NDArray[np.uint64]:
    """Binary codes [W, N]: a bit is 1 where the number is above 0."""
    count, dimension = vectors_ND.shape
    packed = np.zeros((count, words(dimension) * 8), np.uint8)
    bits = np.packbits(vectors_ND > 0, axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(packed.view("<u8").T)


def words(dimension: int) -> int:
    """How many words a code has."""
    return -(-dimension // WORD)


def joined(parts: Sequence[Entries]) -> Entries:
    """All of them as one, in the order of their rows."""
    whole = Entries(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.codes for part in parts], 1),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.checks for part in parts]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.vectors for part in parts]),
    )
    return whole.take(np.argsort(whole.rows, kind="stable"))


@dataclass(frozen=True)
class Shard:
    """A shard as it is open.

    Attributes:
        path: of the file.
        fingerprint: of the encoder that made it.
        entries: mapped.
        live: bool [n], which of them weren't removed; None where none was.
    """

    path: Path
    fingerprint: str
    entries: Entries
    live: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.entries) if self.live is None else int(self.live.sum())

    def live_places(self) -> NDArray[np.int64]:
        """Of those that weren't removed, ascending."""
        return np.arange(len(self.entries)) if self.live is None else np.flatnonzero(self.live)

    def require(self, places: NDArray[np.int64]) -> None:
        """Refuse vectors that aren't what was written.

        Raises:
            CorpusError: names the file.
        """
        if bad := self.entries.damaged(places):
            raise damage(self.path, f"the checksum of {bad} of the vectors looked at is wrong")


def write_shard(directory: Path, fingerprint: str, content: Entries) -> Shard:
    """Write a shard, under its name once it is whole; forcing it to the disk is left to `sync_directory`.

    Raises:
        WriteError, OSError: it can't be written.
    """
    tensors = {name: getattr(content, name) for name in Entries.__dataclass_fields__}
    path = directory / _name(fingerprint, content)
    _save(path, tensors, {"fingerprint": fingerprint})
    return open_shard(path)


def open_shard(path: Path) -> Shard:
    """A shard, mapped.

    Raises:
        FileNotFoundError: there is none.
        CorpusError: it is not what was written, or of a newer format.
    """
    found, facts = _load(path)
    content = Entries(**_of_shapes(path, found))
    fingerprint = facts.get("fingerprint", "")
    if path.name != _name(fingerprint, content):
        raise damage(path, "its checksum is wrong")
    if (np.diff(content.rows) <= 0).any() or not np.isfinite(content.scales).all():
        raise damage(path, "its rows are not in order, or not of numbers")
    return Shard(path, fingerprint, content)


class Vectors:
    """A directory of vectors, opened by mapping; safe to read from several threads.

    Attributes:
        directory: as given.
        encoder, fingerprint: name and fingerprint of the encoder that made them.
        dimension: D.
        shards: what is in it.
    """

    def __init__(self, directory: Path) -> None:
        """Open.

        Raises:
            FileNotFoundError: there is no index; a build may have replaced it just now.
            CorpusError: it is damaged, or of a newer format.
        """
        self.directory = directory
        path = directory / INDEX
        if not path.exists():
            raise FileNotFoundError(directory)
        if (foreign := _foreign(directory)) is not None:
            raise damage(path, f"{foreign} is a link or no file")
        removed, facts = _load(path)
        names = _listed(path, removed, facts)
        self.encoder, self.fingerprint = facts["encoder"], facts["fingerprint"]
        self.dimension = int(facts["dimension"])
        try:
            self.shards = [self._shard(name, removed[name]) for name in names]
        except FileNotFoundError as error:
            if not path.exists():
                raise FileNotFoundError(directory) from error
            raise damage(path, f"{Path(error.filename).name}, which it names, is missing") from error

    def require(self, encoder: VectorEncoder) -> VectorEncoder:
        """The encoder of these vectors: the one given, or one of its `others`.

        Raises:
            CorpusError: says what is there and what was given.
        """
        found = encoder.that_made(self.fingerprint, self.dimension)
        if found is None:
            where = shown(self.directory)
            raise of_another_encoder(where, self.encoder, self.fingerprint, self.dimension, encoder)
        return found

    def __len__(self) -> int:
        """Number of passages."""
        return sum(map(len, self.shards))

    def _shard(self, name: str, removed: NDArray[np.int64]) -> Shard:
        shard = open_shard(self.directory / name)
        count, dimension = shard.entries.vectors.shape
        if (dimension, shard.fingerprint) != (self.dimension, self.fingerprint):
            raise damage(shard.path, "its vectors are of another encoder")
        if not len(removed):
            return shard
        if removed[0] < 0 or removed[-1] >= count or (np.diff(removed) <= 0).any():
            raise damage(self.directory / INDEX, f"{name} doesn't have what was removed of it")
        live = np.ones(count, bool)
        live[removed] = False
        return replace(shard, live=live)


def write_index(directory: Path, encoder: VectorEncoder, shards: Sequence[Shard]) -> None:
    """Say which shards there are: from now on the directory is whole.

    Raises:
        WriteError, OSError: it can't be written.
    """
    removed = {
        shard.path.name: np.setdiff1d(np.arange(len(shard.entries)), shard.live_places(), True)
        for shard in shards
    }
    facts = {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dimension": str(encoder.dimension),
        "shards": json.dumps(list(removed)),
    }
    _save(directory / INDEX, removed, {**facts, "check": _check(facts, removed)})


def damage(path: Path, what: object) -> CorpusError:
    """The error for a file that isn't what was written."""
    return CorpusError(
        f"{shown(path)}: the vectors can't be read ({what}); delete {shown(path.parent)} and build the "
        "corpus again"
    )


def of_another_encoder(
    where: str, name: str, fingerprint: str, dimension: int, given: VectorEncoder
) -> CorpusError:
    """The error for vectors that the given encoder didn't make."""
    return CorpusError(
        f"{where}: holds vectors of {name!r} ({dimension} numbers, fingerprint {fingerprint[:12]}), but "
        f"the encoder is {given.name!r} ({given.dimension} numbers, fingerprint {given.fingerprint[:12]}); "
        "search with the encoder that made them, or build the corpus again with this one"
    )


def is_shard_name(name: str) -> bool:
    """Whether this is what a finished shard is called."""
    return _SHARD_NAME.fullmatch(name) is not None


def _name(fingerprint: str, content: Entries) -> str:
    digest = hashlib.blake2b(f"{fingerprint}\0{content.vectors.shape}".encode(), digest_size=16)
    for name in ("rows", "codes", "scales", "checks", "keys"):
        digest.update(np.ascontiguousarray(getattr(content, name)).data)
    return f"shard-{digest.hexdigest()}{SUFFIX}"


def _listed(path: Path, removed: dict[str, NDArray[np.int64]], facts: dict[str, str]) -> list[str]:
    """Names of the shards, where all that an index says can be."""
    if facts.get("check") != _check(facts, removed):
        raise damage(path, "its checksum is wrong")
    try:
        names, dimension = json.loads(facts["shards"]), facts["dimension"]
    except (KeyError, ValueError, RecursionError) as error:
        raise damage(path, "it doesn't say what there is") from error
    sound = (
        {"encoder", "fingerprint"} <= set(facts)
        and isinstance(names, list)
        and all(isinstance(name, str) and is_shard_name(name) for name in names)
        and sorted(names) == sorted(removed)
        and all(places.dtype == np.int64 and places.ndim == 1 for places in removed.values())
        and dimension.isascii() and dimension.isdecimal() and len(dimension) <= _DIGITS
    )  # fmt: skip
    if not sound:
        raise damage(path, "it says what can't be")
    return [str(name) for name in names]


def _check(facts: dict[str, str], removed: dict[str, NDArray[np.int64]]) -> str:
    told = {name: value for name, value in sorted(facts.items()) if name not in ("check", *_versions())}
    check = zlib.crc32(json.dumps(told).encode())
    for name in sorted(removed):
        check = zlib.crc32(removed[name].tobytes(), zlib.crc32(name.encode(), check))
    return f"{check:08x}"


def _versions() -> dict[str, str]:
    return {"format": _FORMAT, "format_version": str(FORMAT_VERSION)}


def _save(path: Path, tensors: dict[str, NDArray[Any]], facts: dict[str, str]) -> None:
    part = path.with_suffix(PART)
    try:
        save_file(tensors, part, {**_versions(), **facts})
    except SafetensorError as error:
        raise WriteError(str(error)) from error
    permit(part)
    part.replace(path)


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors and facts of a file of ours."""
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            if facts.get("format") != _FORMAT:
                raise ValueError("it is no file of vectors")
            _refuse_newer(path, facts.get("format_version", ""))
            return mapped.arrays(path, file.keys(), _TYPES), facts
    except FileNotFoundError as error:
        error.filename = str(path)
        raise
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise damage(path, error) from error


def _refuse_newer(path: Path, given: str) -> None:
    if not given.isascii() or not given.isdecimal() or len(given) > _DIGITS:
        raise ValueError("it says no version")
    if int(given) > FORMAT_VERSION:
        raise CorpusError(
            f"{shown(path)} has format version {given}, this fidkit reads up to {FORMAT_VERSION}; upgrade "
            "fidkit, or build the corpus again"
        )


def _of_shapes(path: Path, found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of a shard, if they are those of one."""
    if set(found) != set(Entries.__dataclass_fields__) or found["vectors"].ndim != 2:
        raise damage(path, "it holds no vectors")
    count, dimension = found["vectors"].shape
    wanted = {
        "rows": ("<i8", (count,)), "codes": ("<u8", (words(dimension), count)), "scales": ("<f4", (count,)),
        "checks": ("<u4", (count,)), "keys": ("u1", (count, found["keys"].shape[-1])),
        "vectors": ("i1", (count, dimension)),
    }  # fmt: skip
    if any(
        (found[name].dtype, found[name].shape) != (np.dtype(kind), s) for name, (kind, s) in wanted.items()
    ):
        raise damage(path, "its parts are not of one length")
    return found


def _foreign(directory: Path) -> str | None:
    return directory.name if directory.is_symlink() else foreign_entry(directory)
