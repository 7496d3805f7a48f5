"""What can be measured, behind one small interface; and our own readers behind it.

Peers on `transformers` are in `fidkit.bench.peers`.
"""

from __future__ import annotations

import copy
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fidkit.bench.encoder_error import fits_float32, relative_error, sample
from fidkit.bench.questions import Questions
from fidkit.config import ReaderConfig
from fidkit.context import Batch, Context, collate
from fidkit.cost import Workload, batch_bytes
from fidkit.cost.workload import live_rows
from fidkit.engine.cpu.products import packs
from fidkit.engine.precision import Precision
from fidkit.engine.recall import Recall
from fidkit.engine.runner import Runner, multiplies_bfloat16
from fidkit.memory import MemoryStore, MemoryWriter, ShardWriter, make_codec, memory_meta
from fidkit.native import kernels
from fidkit.reader import Reader

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.bfloat16,
}
# Scores of the plain path, by bytes: products, the same in float32, with bias, after the softmax, and cast.
_PLAIN_SCORE_BYTES = 16


@dataclass(frozen=True)
class Needs:
    """Bytes of memory: of weights, which stay, and of what a run adds for a while."""

    weights: int
    working: int


@dataclass(frozen=True)
class Facts:
    """What a row says of a subject.

    Attributes:
        preset: of our own readers; None of a peer.
        dtype: of weights and activations; `int8` is of matrices, see `Precision`.
        config: sizes and choices, as JSON.
        reader: what the cost model is asked about; None where it knows nothing of the kind.
        native: whether native kernels run.
        in_half: whether what isn't in 8 bits is bfloat16; of `int8` only.
        beams: hypotheses that it follows; 1 is greedy.
    """

    preset: str | None
    dtype: Precision
    config: dict[str, Any]
    reader: ReaderConfig | None = None
    native: bool = False
    in_half: bool = True
    beams: int = 1


class Subject(ABC):
    """Something that reads passages and writes answers.

    Letters: B questions, T output tokens.

    Attributes:
        name: what it is called in rows and tables.
        memory_ms: that the last `encode` waited for stored memory; None where none is stored.
    """

    name: str
    memory_ms: float | None = None

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Known once it is warm."""

    @abstractmethod
    def needs(self, workload: Workload) -> Needs:
        """Estimated memory, before anything is prepared."""

    @abstractmethod
    def prepare(self, questions: Questions) -> None:
        """Make weights and inputs ready; done once, and not timed."""

    @abstractmethod
    def encode(self) -> None:
        """From token ids to what the decoder reads."""

    @abstractmethod
    def decode(self, tokens: int) -> Tensor:
        """Write so many tokens [B, T] from what was encoded last; an end of sequence stops nothing."""

    def encoder_error(self) -> float | None:
        """Of its fused states against the same weights in float32, relative; once it is warm.

        None where nobody knows.
        """
        return None

    def warm_up(self, tokens: int) -> None:
        """Do all once that rounds will do again and again."""
        self.encode()
        self.decode(tokens)


class SharedWeights:
    """Random weights of a reader, made when first needed and shared by the subjects that run them."""

    def __init__(self, config: ReaderConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config, self.dtype, self.device = config, dtype, device

    @cached_property
    def reader(self) -> Reader:
        with building(self.dtype, self.device):
            return Reader(self.config).eval()


class Ours(Subject):
    """A preset as `Runner` runs it.

    Where the reader has memory layers, the memory of passages is computed beforehand and stored in bf16 in
    files; encoding fetches it from there.

    Args:
        name: of the subject.
        preset: of the reader.
        weights: of the reader.
        precision: see `Runner`.
        plain: without native kernels.
    """

    def __init__(
        self, name: str, preset: str, weights: SharedWeights, precision: Precision, *, plain: bool = False
    ) -> None:
        self.name, self.preset = name, preset
        self.weights, self.precision, self.plain = weights, precision, plain
        self.config = weights.config

    @property
    def facts(self) -> Facts:
        return Facts(
            preset=self.preset,
            dtype=self.precision,
            config=self.config.model_dump(mode="json"),
            reader=self.config,
            native=self.runner.native,
            in_half=self.runner.memory_type == torch.bfloat16,
        )

    def needs(self, workload: Workload) -> Needs:
        in_half, native = multiplies_bfloat16(self.device), self._native
        work = at_precision(workload, self.precision, in_half=in_half, native=native)
        dtype = torch.float32 if work.dtype == "float32" else torch.bfloat16
        kept_twice = not self.plain and (packs(self.device, dtype) or work.encoder_matrices == "int8")
        memory = batch_bytes(self.config, work, packs=kept_twice)
        weights = memory.weights + memory.packed
        working = memory.total - weights
        if self.plain:
            working += live_rows(work).pairs * self.config.encoder.heads * _PLAIN_SCORE_BYTES
        rounded = self.precision == "int8"  # kept beside the weights that it was rounded from
        before = batch_bytes(self.config, work.replace(decoder_dtype=None)).weights if rounded else 0
        return Needs(weights + before, working)

    @property
    def _native(self) -> bool:
        """Whether native kernels will run, as far as is known before there is a reader."""
        return self.device.type == "cpu" and not self.plain and kernels() is not None

    def prepare(self, questions: Questions) -> None:
        self.runner = Runner(self.weights.reader, self.precision, plain=self.plain)
        self.questions = questions
        pad = self.config.pad_token
        self.batch: Batch = collate(questions.questions, questions.passages, pad_token=pad).to(self.device)
        self.stored = StoredMemory(self.runner, self.batch) if self.config.memory_layers else None
        self.context: Context | None = None

    def encode(self) -> None:
        if self.stored is None:
            self.context = self.runner.read(self.batch)
            return
        recall = self.stored.recall()
        question_XD = self.runner.encode_questions(self.batch)
        start = time.perf_counter()
        memory_XD = recall.result()
        self.memory_ms = 1000 * (time.perf_counter() - start)
        self.context = self.runner.read_memory(self.batch, memory_XD, question_XD)

    def decode(self, tokens: int) -> Tensor:
        assert self.context is not None, "encode first"
        cache = self.runner.start(self.context, tokens)
        last_B = torch.full((len(self.batch.question_ids),), self.config.pad_token, device=self.device)
        written = []
        for _ in range(tokens):
            last_B = self.runner.step(last_B, cache).argmax(-1)
            written.append(last_B)
        return torch.stack(written, 1)

    def encoder_error(self) -> float | None:
        if not fits_float32(self.config, self.device):
            return None
        few, pad = sample(self.questions), self.config.pad_token
        batch = collate(few.questions, few.passages, pad_token=pad).to(self.device)
        found, reader = self.runner.read(batch), self.weights.reader
        if self.weights.dtype != torch.float32:
            reader = copy.deepcopy(reader).float()
        expected = reader.read(batch)
        if not torch.equal(found.passage_BM, expected.passage_BM):  # others were left behind
            return None
        return relative_error(found.states_BMD, expected.states_BMD)

    @property
    def device(self) -> torch.device:
        return self.weights.device


class StoredMemory:
    """The memory of a batch's passages, in files that are gone when this is."""

    def __init__(self, runner: Runner, batch: Batch) -> None:
        self.runner = runner
        lengths: list[int] = batch.passage_lengths.tolist()
        self._keys = [number.to_bytes(16, "big") for number in range(len(lengths))]
        self._folder = tempfile.TemporaryDirectory(prefix="fidkit-bench-")
        codec = make_codec("bf16", runner.config.memory_width)
        meta = memory_meta("bench", "bench", codec, runner.config.memory_layers)
        memory_XD = runner.encode_passages(batch.passage_ids, batch.passage_lengths)
        with MemoryWriter.opened(Path(self._folder.name), meta) as writer:
            with ShardWriter(writer.directory, self._keys, lengths, codec, meta.fingerprint) as shard:
                for row, of_row_PD in enumerate(memory_XD.split(lengths)):
                    shard.put(row, codec.encode(of_row_PD).cpu())
                path = shard.finish()
            writer.commit(path)
        self.store = MemoryStore.open(self._folder.name)

    def recall(self) -> Recall:
        """Begin to fetch all passages."""
        return Recall(self.runner, self.store, self._keys, self._none_missing)

    def _none_missing(self, passages: list[int]) -> list[list[int]]:
        raise AssertionError(f"passages {passages} were stored")


@contextmanager
def building(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Modules made inside have parameters of this type on this device, without a larger copy before.

    The same weights every time; the random state outside is left as it is.
    """
    before = torch.get_default_dtype()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def at_precision(
    workload: Workload, precision: Precision, *, in_half: bool = True, native: bool = False
) -> Workload:
    """The workload in the cost model's words for a precision.

    Args:
        workload: in any.
        precision: of a runner.
        in_half: whether int8 has bfloat16 beside it, not float32; see `Runner`.
        native: whether native kernels run, which have int8 encoders multiply 8 bits by 8.
    """
    in_full = precision == "float32" or (precision == "int8" and not in_half)
    changed: Workload = workload.replace(
        dtype="float32" if in_full else "bfloat16",
        decoder_dtype="int8" if precision == "int8" else None,
        encoder_dtype="int8" if precision == "int8" and native else None,
    )
    return changed
