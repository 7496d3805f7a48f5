"""What frozen encoder layers make of rows, kept on disk: they make the same of a row in every run."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from struct import Struct
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fidkit.nn.encoder import EncoderLayers, Run
from fidkit.nn.rows import Rows

RECORD = Struct("<16sqq")
"""Of the index: a row's key, the place of its first byte, and how many vectors it has."""


class States:
    """A `fidkit.nn.encoder.Run` that computes what frozen layers make of a row once, ever.

    It is rounded to bfloat16, the first time as well. Rows are known by what goes into the layers and by the
    layers' weights, so that readers with the same frozen layers share them. One process writes at a time.

    Args:
        directory: `states.bin`, vectors one after the other, and `index.bin`; made if missing.
        compute: how frozen layers are run.

    Attributes:
        computed: rows that weren't there.
        seconds: of a processor, to compute them.
    """

    def __init__(self, directory: Path, compute: Run = EncoderLayers.__call__) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.compute, self.computed, self.seconds = compute, 0, 0.0
        self._vectors = (directory / "states.bin").open("a+b")
        self._index = (directory / "index.bin").open("a+b")
        self._places: dict[bytes, tuple[int, int]] = {}
        # Weakly: another reader's layers may stand in memory where a forgotten one's stood.
        self._digests: WeakKeyDictionary[nn.Module, bytes] = WeakKeyDictionary()
        self._load()

    def _load(self) -> None:
        """Read the index; what a killed process had begun to write there is left out."""
        self._index.seek(0)
        written = self._index.read()
        for at in range(0, len(written) - RECORD.size + 1, RECORD.size):
            key, place, length = RECORD.unpack_from(written, at)
            self._places[key] = (place, length)
        self._index.truncate(len(written) // RECORD.size * RECORD.size)

    def __call__(
        self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None
    ) -> Tensor:
        """Encode the vectors of `rows`; layers that are trained are run plainly."""
        return self.beside(EncoderLayers.__call__)(layers, x_XD, rows, norm)

    def beside(self, other: Run) -> Run:
        """The same, with `other` for layers that are trained, and where there are none."""

        def run(layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None = None, /) -> Tensor:
            parts = (layers,) if norm is None else (layers, norm)
            trained = any(p.requires_grad for part in parts for p in part.parameters())
            if trained or not layers.layers or rows.sides is not None:
                return other(layers, x_XD, rows, norm)
            return self._kept(layers, x_XD, rows, norm)

        return run

    @torch.no_grad()
    def _kept(self, layers: EncoderLayers, x_XD: Tensor, rows: Rows, norm: nn.Module | None) -> Tensor:
        of_layers, apart = self._digest(layers, norm), rows.lengths.tolist()
        of_rows, contents = x_XD.float().split(apart), x_XD.float().cpu().split(apart)  # one way for all
        keys = [
            hashlib.blake2b(x.numpy().tobytes(), key=of_layers, digest_size=16).digest() for x in contents
        ]
        missing = [number for number, key in enumerate(keys) if key not in self._places]
        if missing:
            began = time.process_time()
            inputs, lengths = torch.cat([of_rows[n] for n in missing]), rows.lengths[missing]
            with torch.autocast(x_XD.device.type, enabled=False):
                made = self.compute(layers, inputs, Rows(lengths), norm)
            for number, states in zip(missing, made.bfloat16().cpu().split(lengths.tolist()), strict=True):
                self._append(keys[number], states)
            self._vectors.flush()  # before the index says where they are
            self._index.flush()
            self.computed += len(missing)
            self.seconds += time.process_time() - began
        width = layers.stack.width
        return torch.cat([self._read(key, width) for key in keys]).to(x_XD)

    def _append(self, key: bytes, states: Tensor) -> None:
        place = self._vectors.seek(0, os.SEEK_END)
        self._vectors.write(states.contiguous().view(torch.int16).numpy().tobytes())
        self._index.write(RECORD.pack(key, place, len(states)))
        self._places[key] = (place, len(states))

    def _read(self, key: bytes, width: int) -> Tensor:
        place, length = self._places[key]
        found = bytearray(os.pread(self._vectors.fileno(), 2 * width * length, place))
        return torch.frombuffer(found, dtype=torch.bfloat16).view(length, width).float()

    def _digest(self, layers: EncoderLayers, norm: nn.Module | None) -> bytes:
        """Of all weights that rows go through."""
        parts = [part for part in (layers, norm) if part is not None and list(part.parameters())]
        for part in parts:
            if part not in self._digests:
                digest = hashlib.blake2b(digest_size=32)
                for p in part.parameters():
                    digest.update(p.detach().float().cpu().numpy().tobytes())
                self._digests[part] = digest.digest()
        return b"".join(self._digests[part] for part in parts)
