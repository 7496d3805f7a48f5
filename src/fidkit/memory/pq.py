"""Product quantisation (MEMORY-VQ §3): 16 dimensions of a vector become the number of the nearest code.

One codebook a subspace, each found by k-means (faiss) on a sample of the memory. Codes take two bytes
whatever their number, so a token takes D / 8 bytes: 16 times less than bfloat16.

Letters: X tokens, D width, S subspaces, K codes a subspace, d dimensions of a subspace.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fidkit.arrays import Array
from fidkit.disk import sync
from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory.finite import require_finite
from fidkit.memory.layout import CODEC, FORMAT_VERSION, PART, explained_disk, put_in_place
from fidkit.records import PQ_DIMENSIONS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_CODES = 1 << 16

_FORMAT = "fidkit-codebooks"
# faiss: more than 256 points a code no longer change the outcome, fewer than 39 make it poor.
_MOST_POINTS = 256
_ROUNDS = 20
# Distances that are held at once: 64 MB.
_DISTANCES = 1 << 24


class PQ:
    """A codec: the number of a code for each subspace.

    Attributes:
        codebooks: float32 [S, K, d].
    """

    name, kind = "pq", "uint16"

    def __init__(self, codebooks_SKd: np.ndarray, width: int) -> None:
        self.codebooks = np.ascontiguousarray(codebooks_SKd)
        self.width, self.columns = width, len(codebooks_SKd)
        self.codes = codebooks_SKd.shape[1]
        digest = hashlib.sha256(f"{width} {tuple(codebooks_SKd.shape)}".encode())
        digest.update(self.codebooks.data.cast("B"))
        self.fingerprint = digest.hexdigest()
        self._stacked: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def encode(self, memory_XD: Tensor) -> Tensor:
        import torch

        require_finite(memory_XD)
        codebooks = self._codebooks(memory_XD.device, torch.float32).view(self.columns, self.codes, -1)
        some = max(1, _DISTANCES // self.codes)
        return torch.cat([_nearest(part, codebooks) for part in _split(memory_XD, self.columns, some)])

    def decode(self, records_XC: Array, dtype: torch.dtype | None = None) -> Array:
        whole = isinstance(records_XC, np.ndarray)
        largest = records_XC if whole else records_XC.int()
        if self.codes < MOST_CODES and len(records_XC) and int(largest.max()) >= self.codes:
            raise MemoryStoreError(
                f"a stored row has codes beyond its codebooks' {self.codes:,}; run `fidkit memory check "
                "DIR --repair` and build the memory again"
            )
        # All codebooks one after the other: one look-up for all subspaces.
        if isinstance(records_XC, np.ndarray):
            stacked = self.codebooks.reshape(self.columns * self.codes, -1)
            rows = records_XC + np.arange(0, self.columns * self.codes, self.codes)
            found: np.ndarray = stacked[rows].reshape(len(records_XC), -1)
            return np.ascontiguousarray(found[:, : self.width])
        import torch

        assert dtype is not None
        begins_S = torch.arange(0, self.columns * self.codes, self.codes, device=records_XC.device)
        rows = (records_XC.to(torch.int32) + begins_S.to(torch.int32)).reshape(-1)
        memory_XSd = self._codebooks(records_XC.device, dtype).index_select(0, rows)
        return memory_XSd.view(len(records_XC), -1)[:, : self.width].contiguous()

    def save(self, directory: Path) -> Path:
        """Write `codec.safetensors`, whole or not at all.

        Raises:
            MemoryStoreError: the disk is full or can't be written.
        """
        facts = {"format_version": FORMAT_VERSION, "width": self.width, "fingerprint": self.fingerprint}
        with explained_disk(directory, self.codebooks.nbytes):
            directory.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=CODEC, suffix=PART, dir=directory)
            os.close(descriptor)
            part = Path(name)
            try:
                save_file(
                    {"codebooks": self.codebooks}, part, {_FORMAT: json.dumps(facts)}
                )  # one entry: the library orders them by chance
                sync(part)
                put_in_place(part, directory / CODEC)
            except SafetensorError as error:
                raise OSError(str(error)) from error
            finally:
                part.unlink(missing_ok=True)
        return directory / CODEC

    def _codebooks(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """[S * K, d] on a device, converted once."""
        known = self._stacked.get((device, dtype))
        if known is None:
            import torch

            known = torch.from_numpy(self.codebooks).flatten(0, 1).to(device, dtype)
            self._stacked[device, dtype] = known
        return known


def load_pq(directory: Path, width: int) -> PQ:
    """The codebooks of a memory directory.

    Raises:
        MemoryStoreError: there are none, they are damaged, or for vectors of another width.
    """
    path = directory / CODEC
    again = "build the memory again with `--codec pq --replace`"
    if not path.is_file():
        raise MemoryStoreError(f"{path}: expected codebooks of product quantisation, found none; {again}")
    try:
        with safe_open(path, framework="np") as file:
            facts, codebooks = json.loads(file.metadata()[_FORMAT]), file.get_tensor("codebooks")
        version, trained = int(facts["format_version"]), int(facts["width"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise MemoryStoreError(f"{path}: can't be read as codebooks ({error}); {again}") from error
    if version > FORMAT_VERSION:
        raise MemoryStoreError(
            f"{path} has format version {version}, this fidkit reads up to {FORMAT_VERSION}; upgrade fidkit, "
            "or build the memory again"
        )
    if trained != width:
        raise MemoryStoreError(
            f"{path}: these codebooks are for vectors of width {trained}, not {width}; {again}"
        )
    S, K, d = codebooks.shape if codebooks.ndim == 3 else (0, 0, 0)
    is_whole = (S, d) == (-(-width // PQ_DIMENSIONS), PQ_DIMENSIONS) and 1 <= K <= MOST_CODES
    if codebooks.dtype != np.float32 or not is_whole:
        raise MemoryStoreError(
            f"{path}: codebooks of {codebooks.dtype} in shape {list(codebooks.shape)} are none for vectors "
            f"of width {width}; {again}"
        )
    codec = PQ(codebooks, width)
    if codec.fingerprint != facts.get("fingerprint"):
        raise MemoryStoreError(f"{path}: the codebooks are not those that were written here; {again}")
    return codec


def train_pq(memory_XD: Tensor, *, codes: int, seed: int = 0) -> PQ:
    """Codebooks for memory like this sample.

    Args:
        memory_XD: some hundred tokens for each code give good codebooks; more than 256 are sampled from.
        codes: K, of each subspace; at most 65,536.
        seed: of everything that is drawn.

    Raises:
        UsageError: more codes than tokens, or an impossible number of codes.
        MemoryStoreError: a value is no finite number.
    """
    tokens, width = memory_XD.shape
    if not 1 <= codes <= MOST_CODES:
        raise UsageError(f"{codes:,} codes of product quantisation; expected 1 to {MOST_CODES:,}")
    if tokens < codes:
        raise UsageError(
            f"{codes:,} codes from a sample of {tokens:,} tokens; expected at least as many tokens as codes: "
            "ask for fewer codes, or give a larger corpus"
        )
    require_finite(memory_XD)
    subspaces = -(-width // PQ_DIMENSIONS)
    sample_XSd = next(_split(memory_XD.cpu(), subspaces, tokens))
    books = [_k_means(sample_XSd[:, s].contiguous(), codes, seed + s) for s in range(subspaces)]
    return PQ(np.stack(books), width)


def _k_means(points_Xd: Tensor, codes: int, seed: int) -> np.ndarray:
    import faiss  # slow, and no matter to who only reads

    k_means = faiss.Kmeans(
        points_Xd.shape[1],
        codes,
        niter=_ROUNDS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=_MOST_POINTS,
    )
    k_means.train(points_Xd.numpy())
    assert k_means.centroids is not None
    return k_means.centroids


def _nearest(memory_XSd: Tensor, codebooks_SKd: Tensor) -> Tensor:
    """[X, S] numbers of the codes that are nearest."""
    import torch

    codes_XS = torch.empty(memory_XSd.shape[:2], dtype=torch.uint16, device=memory_XSd.device)
    for s, codebook_Kd in enumerate(codebooks_SKd):
        # |x - c|^2 without |x|^2, which is the same for all codes.
        norms_K = codebook_Kd.square().sum(1)
        distances_XK = torch.addmm(norms_K, memory_XSd[:, s], codebook_Kd.T, alpha=-2)
        codes_XS[:, s] = distances_XK.argmin(1).to(torch.uint16)
    return codes_XS


def _split(memory_XD: Tensor, subspaces: int, tokens: int) -> Iterator[Tensor]:
    """float32 [x, S, d] of up to `tokens` tokens at a time; the last dimensions may be zeros."""
    import torch

    missing = subspaces * PQ_DIMENSIONS - memory_XD.shape[1]
    for part_XD in memory_XD.split(tokens):
        padded = torch.nn.functional.pad(part_XD.float(), (0, missing))
        yield padded.view(len(part_XD), subspaces, PQ_DIMENSIONS)
