"""Vectors and memory of passages in one pass through an encoder that both have in common.

The lower layers of the encoder that searches leave what is the memory of a reader that was made of it, and
the layers above make the vector of that. A build of a corpus is handed the encoder of a `OnePass`: what it
encodes is remembered on the way. What has a vector already is encoded for the memory afterwards.

Letters: N passages, X tokens of all of them, D numbers of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fidkit import assets, native
from fidkit.engine.cpu.embedder import NativeEmbedder, Upper
from fidkit.engine.meaning import ENCODER, minilm_apart
from fidkit.engine.pooled import rows_apart
from fidkit.errors import UsageError
from fidkit.memory.layout import memory_directory
from fidkit.memory.shard import ShardWriter
from fidkit.memory.writer import MemoryWriter
from fidkit.passages import Passages
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.token_cache import passage_key
from fidkit.precompute.build import build
from fidkit.precompute.codec import Untrained
from fidkit.precompute.opened import Opened, current, open_reader
from fidkit.precompute.records import MemoryReport, Options
from fidkit.precompute.shared_encoder import require_shared
from fidkit.precompute.unit import Unit, id_dtype
from fidkit.precompute.work import batches, padded
from fidkit.rows import Layout
from fidkit.types import Passage

_HERE = Options(device="cpu")


class OnePass:
    """A reader that remembers what is encoded for search; see `one_pass`.

    Attributes:
        encoder: for the build of the corpus.
        kept: passages whose memory was stored while their vector was made.
    """

    def __init__(self, corpus: Path, opened: Opened, upper: Upper) -> None:
        self._corpus, self._opened, self._upper = corpus, opened, upper
        self._open = ExitStack()
        self._writer: MemoryWriter | None = None
        self.kept = 0
        self.encoder: VectorEncoder = replace(minilm_apart(), apart=self._encode)

    def source(self) -> VectorEncoder:
        """The encoder, as a corpus takes it."""
        return self.encoder

    def close(self) -> None:
        """Let others write to the memory."""
        self._open.close()
        self._writer = None

    def finish(self, corpus: Passages) -> MemoryReport:
        """Encode what the memory still lacks, and remove what no passage needs.

        Args:
            corpus: that was built, open.

        Raises:
            CorpusError, MemoryStoreError: as `fidkit.precompute.build`.
        """
        self.close()
        report = build(corpus, self._opened.name, _HERE, opened=self._opened)
        if report is None:
            raise AssertionError("a build without a report")  # there is none under torchrun alone
        return replace(report, together=self.kept)

    def _encode(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Vectors [N, D] of different passages, whose memory is stored meanwhile."""
        writer, opened = self._writing(), self._opened
        rows = rows_apart(passages, opened.tokenizer)
        # The longest first, as in a unit: neighbours are encoded together, and little of a batch is padding.
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        keys = [passage_key(passages[at]) for at in order]
        dtype = id_dtype(opened.tokenizer.config.passage_vocabulary_size)
        ids_X = np.concatenate([np.array(rows[at], dtype) for at in order])
        lengths = np.array([len(rows[at]) for at in order], np.int32)
        unit = Unit(opened.identity, opened.batch_tokens, keys, lengths, ids_X)
        missing = set(writer.missing(keys))
        lacks = np.array([key in missing for key in keys])
        with ExitStack() as stack:
            shard = None
            if lacks.any():
                new = list(compress(keys, lacks)), lengths[lacks].tolist()
                shard = stack.enter_context(
                    ShardWriter(writer.directory, *new, opened.codec, opened.identity.fingerprint)
                )
            vectors_ND = self._vectors(unit, lacks, shard)
            if shard is not None:
                writer.commit(shard.finish())
                self.kept += int(lacks.sum())
        return vectors_ND[np.argsort(order)]

    def _vectors(
        self, unit: Unit, lacks: NDArray[np.bool_], shard: ShardWriter | None
    ) -> NDArray[np.float32]:
        """Vectors [N, D] in the unit's order; the memory of rows that it lacks goes to the shard."""
        vectors_ND, put = np.empty((len(unit.keys), self.encoder.dimension), np.float32), 0
        for rows in batches(unit.lengths.tolist(), unit.batch_tokens):
            memory_XD = self._opened.worker.encode(*padded(unit, rows))
            stored = lacks[rows.start : rows.stop]
            if shard is not None and stored.any():
                stored_X = torch.from_numpy(np.repeat(stored, unit.lengths[rows.start : rows.stop]))
                shard.put(put, self._opened.codec.encode(memory_XD[stored_X]))
                put += int(stored.sum())
            states_XD = memory_XD.to(torch.float32, copy=True).numpy()
            layout = Layout(unit.lengths[rows.start : rows.stop].astype(np.int64))
            vectors_ND[rows.start : rows.stop] = self._upper(states_XD, layout)
        return vectors_ND

    def _writing(self) -> MemoryWriter:
        """The memory, opened when the first passage is encoded: before that there may be no corpus."""
        if self._writer is None:
            self._writer = self._open.enter_context(MemoryWriter.opened(self._corpus, self._opened.meta))
        return self._writer


@contextmanager
def one_pass(corpus: Path, reader: str) -> Iterator[OnePass]:
    """Open a reader that is to remember what the build of a corpus encodes for search.

        with one_pass(to, reader) as once:
            corpus = Corpus.build(sources, to, encoder=once.source, vectors=True)
            once.finish(corpus)

    The codec is that of the memory that is there, else bf16; it is computed on the CPU.

    Args:
        corpus: its directory, which needn't be there yet.
        reader: directory, bundled name or hub name.

    Raises:
        UsageError: its memory encoder isn't the first layers of the encoder that searches, or there are no
            native kernels here.
        MemoryStoreError: the memory that is there belongs to another reader.
    """
    layers = require_shared(reader)
    if (kernels := native.kernels()) is None:
        raise UsageError(
            "one pass for vectors and memory needs native kernels, and there are none here (`fidkit doctor` "
            "says why); run `fidkit corpus build` without --memory, and `fidkit memory build` after it"
        )
    opened = open_reader(reader, memory_directory(corpus), _HERE)
    if isinstance(opened.codec, Untrained):
        raise UsageError(
            f"{corpus}: its memory has no codebooks yet, which are trained on all of it; run `fidkit memory "
            f"build {corpus} --reader {reader} --codec pq` first"
        )
    there, is_empty = current(memory_directory(corpus))
    if there:  # better refused now than after the first thousand passages
        with MemoryWriter.opened(corpus, opened.meta, replace=is_empty):
            pass
    upper = NativeEmbedder.open(assets.reader(ENCODER), kernels).above(layers)
    once = OnePass(corpus, opened, upper)
    try:
        yield once
    finally:
        once.close()
