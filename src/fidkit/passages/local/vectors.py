"""Which vectors a corpus has, and how a build makes them follow its passages.

Rows are numbered once and never used again, so what has to be encoded or removed is what the catalogue and
the vectors before don't have in common, however it came about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.local.amounts import MOST_UNASKED
from fidkit.passages.local.catalogue import Catalogue, vectors_of
from fidkit.passages.local.layout import VECTORS, WITHOUT_VECTORS, explained_disk, sweep
from fidkit.passages.search.encoder import VectorEncoder

if TYPE_CHECKING:
    from fidkit.passages.search.vectors import Entries, Vectors

EncoderSource = Callable[[], VectorEncoder]
"""Gives an encoder when there is use for one."""

Ready = Callable[[VectorEncoder, NDArray[np.int64]], "Iterator[Entries]"]
"""Gives vectors of some of these rows that were made elsewhere, by this encoder."""

_TOLD = 256
_MANY = 1000
"""Passages that are encoded in some seconds."""
_BYTES_BESIDE = 32
"""A vector's key, number and scale."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a build is to do about vectors; see `fidkit.passages.local.build.build`.

    Attributes:
        encoder, vectors: as given there.
        ready: where vectors are taken from before any is made.
    """

    encoder: EncoderSource | None = None
    vectors: bool | None = None
    ready: Ready | None = None

    def __post_init__(self) -> None:
        if self.vectors and self.encoder is None:
            raise UsageError(
                "vectors are wanted, but no encoder was given; give one, such as fidkit's minilm"
            )

    def is_met(self, directory: Path, meta: dict[str, str]) -> bool:
        """Whether an unchanged corpus has what is wanted."""
        if not self._wants(meta, int(meta["passages"])):
            return self.encoder is None or meta.get("vectors", "") == self._nothing(meta)
        return (
            vectors_of(meta) is not None
            and self._usable(directory, meta, whole=bool(self.vectors)) is not None
        )

    def name_after(
        self,
        catalogue: Catalogue,
        meta: dict[str, str],
        directory: Path,
        tell: Callable[[], None],
        *,
        last: bool,
    ) -> str:
        """Write the vectors of the generation that is about to be committed; what the catalogue names then.

        Args:
            catalogue: with the passages of this generation in its open transaction.
            meta: facts of the state before, but for the generation, which is the new one.
            directory: of the corpus.
            tell: called now and then.
            last: whether all sources were read, so that the corpus is as large as it will be.

        Raises:
            CorpusError: the encoder gives no vectors.
            UnwritableError: the files can't be written.
        """
        has, wants = vectors_of(meta), self._wants(meta, catalogue.count("passages") if last else None)
        if self.encoder is None or not wants:
            if has and self.encoder is None:
                _log.warning(
                    f"{shown(directory)}: its vectors are left out, since no encoder was given to bring them "
                    "up to date; `fidkit corpus build` makes them again"
                )
            return self._nothing(meta)
        name = f"{VECTORS}{meta['generation']}"
        before = self._usable(directory, meta, whole=bool(self.vectors) or last)
        self._write(catalogue, directory / name, before, tell)
        return name

    def begin_late(self, meta: dict[str, str], passages: int) -> bool:
        """Whether the first vectors are to be made of so many passages that it takes its time.

        Args:
            meta: facts of the state before.
            passages: that there are now, all sources read.
        """
        return vectors_of(meta) is None and passages > _MANY and self._wants(meta, passages)

    def _wants(self, meta: dict[str, str], passages: int | None) -> bool:
        """Whether there are to be vectors; of an unknown number of passages only where there are some."""
        if self.encoder is None or self.vectors is False:
            return False
        if vectors_of(meta) is not None:
            return True
        if passages is None:
            return False
        return bool(self.vectors) or (meta.get("vectors") != WITHOUT_VECTORS and passages <= MOST_UNASKED)

    def _nothing(self, meta: dict[str, str]) -> str:
        """What is named where there are none: that somebody wanted it so stays known."""
        return WITHOUT_VECTORS if self.vectors is False or meta.get("vectors") == WITHOUT_VECTORS else ""

    def _usable(self, directory: Path, meta: dict[str, str], *, whole: bool) -> Vectors | None:
        """The vectors there are, where they are of this encoder; `whole` looks at each of them."""
        assert self.encoder is not None
        if (name := vectors_of(meta)) is None:
            return None
        from fidkit.passages.search.vectors import Vectors

        try:
            found = Vectors(directory / name)
            found.require(self.encoder())
            for shard in found.shards if whole else ():
                shard.require(shard.live_places())
        except (FileNotFoundError, CorpusError):
            return None
        return found

    def _write(
        self, catalogue: Catalogue, to: Path, before: Vectors | None, tell: Callable[[], None]
    ) -> None:
        # What writes vectors is imported where there are some to be written.
        from fidkit.passages.search.vector_writer import VectorWriter

        assert self.encoder is not None
        now = np.sort(np.fromiter(catalogue.row_numbers(), np.int64))
        then = rows_of(before) if before is not None else np.zeros(0, np.int64)
        encoder, missing = self.encoder(), np.setdiff1d(now, then, True)
        # Parts are written first, and then all of them together.
        needed = 2 * len(missing) * (encoder.dimension + encoder.dimension // 8 + _BYTES_BESIDE)
        with explained_disk(to.parent, needed_bytes=needed):
            writer = VectorWriter(to, encoder, before.directory if before is not None else None)
            # As arrays, since lists of so many numbers would take more than the vectors that are at work.
            writer.remove(np.setdiff1d(then, now, True))
            for made in self.ready(writer.encoder, missing) if self.ready else ():
                writer.take(made)
                missing = np.setdiff1d(missing, made.rows, True)
            writer.add(_told(catalogue.texts(map(int, missing)), tell))
            tell()
            writer.finish()


def about(directory: Path, meta: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    """Facts of the vectors of a corpus, and why they can't be read."""
    if (name := vectors_of(meta)) is None:
        return None, ""
    from fidkit.passages.search.vectors import Vectors

    try:
        found = Vectors(directory / name)
    except (FileNotFoundError, CorpusError) as error:
        missing = isinstance(error, FileNotFoundError)
        return None, with_remedy("its vectors are missing" if missing else error, directory)
    return {"encoder": found.encoder, "dimension": found.dimension, "passages": len(found)}, ""


def with_remedy(fault: object, directory: Path) -> str:
    """What is wrong with the vectors of a corpus, and what mends it."""
    return (
        f"{fault}; `fidkit corpus build SOURCE --to {shown(directory)} --vectors` makes them, until then "
        "search by words"
    )


def rows_of(vectors: Vectors) -> NDArray[np.int64]:
    """Numbers of the passages that have a vector, in no order."""
    rows = [shard.entries.rows[shard.live_places()] for shard in vectors.shards]
    return np.concatenate([np.zeros(0, np.int64), *rows])


def keep_begun(directory: Path, meta: dict[str, str]) -> None:
    """Sweep, but for vectors that an ended build made for the next generation: it goes on from there."""
    begun = f"{VECTORS}{int(meta.get('generation', 0)) + 1}"
    sweep(directory, keep=(meta.get("lexical"), vectors_of(meta), begun))
    if begun != vectors_of(meta):  # finished or not, no state names it
        from fidkit.passages.search.vectors import INDEX

        (directory / begun / INDEX).unlink(missing_ok=True)


def _told(
    passages: Iterator[tuple[int, str, str]], tell: Callable[[], None]
) -> Iterator[tuple[int, str, str]]:
    for number, passage in enumerate(passages):
        if number % _TOLD == 0:
            tell()
        yield passage
