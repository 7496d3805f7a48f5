"""The memory of a question's passages: fetched where it is stored, encoded now where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import pad
from fidkit.engine.ready import Ready
from fidkit.errors import MemoryStoreError
from fidkit.memory import has_memory
from fidkit.passages import Passages

if TYPE_CHECKING:
    from fidkit.memory import MemoryStore

Tokenize = Callable[[list[int]], list[list[int]]]
"""Tokens of passages, by their number."""


class Recall:
    """Begins to fetch when it is made, so that the question can be encoded meanwhile.

    Letters: R passages, X tokens of all of them, D width of the memory.

    Args:
        runner: encodes what is not stored.
        store: of the same reader; None where nothing is stored.
        keys: of the passages (`fidkit.passages.token_cache.passage_key`), in the order in which their
            memory is wanted.
        tokenize: asked for those passages that have to be encoded.

    Attributes:
        lengths: [R] tokens of each passage.
        encoded: how many of the passages are not stored. What turns out to be damaged comes on top.

    Raises:
        MemoryStoreError: the store knows rows that no memory of this reader has; `result` raises it, too.
    """

    def __init__(
        self, runner: Ready, store: MemoryStore | None, keys: Sequence[bytes], tokenize: Tokenize
    ) -> None:
        self._runner, self._store, self._tokenize = runner, store, tokenize
        self._on_gpu = runner.device is not None and runner.device.type == "cuda"
        lengths, missing = [0] * len(keys), list(range(len(keys)))
        if store is not None:
            located = store.find(keys)
            lengths, missing = located.lengths, located.missing
            config = runner.config
            if store.codec.width != config.memory_width or max(lengths, default=0) > config.passage_tokens:
                raise self._foreign(store)
            # On a GPU records are decoded there: fewer bytes on the way, and it decodes faster.
            wanted = None if self._on_gpu else runner.memory_type
            self._fetching = store.fetch(located, wanted, pin=self._on_gpu)
        self.encoded = len(missing)
        self._found = [at for at, length in enumerate(lengths) if length]
        self._tokens = self._tokens_of(missing)
        for at, ids in self._tokens.items():
            lengths[at] = len(ids)
        self.lengths = lengths

    def result(self) -> Array:
        """[X, D], in the reader's type and on its device."""
        if not self._found:
            return self._encode(self._tokens)
        stored_XD = self._stored()
        if not self._tokens:
            return stored_XD
        parts = dict(zip(self._found, self._split(stored_XD, self._found), strict=True))
        fresh = self._split(self._encode(self._tokens), list(self._tokens))
        parts |= dict(zip(self._tokens, fresh, strict=True))
        return arrays.concatenate([parts[at] for at in range(len(self.lengths))])

    def _stored(self) -> Array:
        """Rows that are stored, one after the other; those that could not be read are encoded into place."""
        assert self._store is not None
        fetched = self._fetching.result()
        memory_XD = fetched.memory_XD
        if self._on_gpu:
            records_XC = memory_XD.to(self._runner.device, non_blocking=True)
            memory_XD = self._store.codec.decode(records_XC, self._runner.memory_type)
        if fetched.lost:
            lost = self._tokens_of(fetched.lost)
            if any(len(ids) != self.lengths[at] for at, ids in lost.items()):
                raise self._foreign(self._store)
            rows = dict(zip(self._found, self._split(memory_XD, self._found), strict=True))
            for at, row_PD in zip(lost, self._split(self._encode(lost), list(lost)), strict=True):
                rows[at][:] = row_PD
        return memory_XD

    def _foreign(self, store: MemoryStore) -> MemoryStoreError:
        return MemoryStoreError(
            f"{store.directory}: its memory has rows that this reader can't have made; delete "
            f"{store.directory / 'memory'} and build it again"
        )

    def _tokens_of(self, passages: list[int]) -> dict[int, list[int]]:
        return dict(zip(passages, self._tokenize(passages), strict=True)) if passages else {}

    def _encode(self, tokens: dict[int, list[int]]) -> Array:
        ids_RP: Array = pad(list(tokens.values()), self._runner.config.pad_token)
        lengths_R: Array = np.array([len(ids) for ids in tokens.values()])
        if self._runner.device is not None:
            import torch

            ids_RP, lengths_R = (torch.from_numpy(x).to(self._runner.device) for x in (ids_RP, lengths_R))
        return self._runner.encode_passages(ids_RP, lengths_R)

    def _split(self, memory_XD: Array, of: Sequence[int]) -> Sequence[Array]:
        return arrays.split(memory_XD, [self.lengths[at] for at in of])


def memory_of(
    corpus: Passages, config: ReaderConfig, fingerprint: Callable[[], str], name: str = "READER"
) -> MemoryStore | None:
    """The memory that is stored with a corpus; None where there is none, or the reader has no use for it.

    Args:
        corpus: whose passages are remembered.
        config: of the reader that will read them.
        fingerprint: what it has to be of (`fidkit.engine.fingerprint`), asked for where there is one.
        name: of the reader, for messages.

    Raises:
        MemoryStoreError: it is another reader's, of a newer format, or damaged.
    """
    if not config.memory_layers or not has_memory(corpus.derived):
        return None
    from fidkit.memory import MemoryStore  # most readers have none

    return MemoryStore.open(corpus.derived, fingerprint(), reader=name)
