"""A reader opened to build a memory with: what identifies its rows, and who encodes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fidkit.checkpoint import CONFIG, locate
from fidkit.config import ReaderConfig
from fidkit.devices import choose_device
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.runner import Runner, loading_type
from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory.codecs import Codec
from fidkit.memory.layout import MANIFEST
from fidkit.memory.manifest import Manifest, MemoryMeta
from fidkit.precompute.codec import codec_to_be
from fidkit.precompute.ranks import Ranks
from fidkit.precompute.records import Options
from fidkit.precompute.unit import Identity
from fidkit.precompute.work import Job, Worker
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer

DEFAULT_CODEC = "bf16"
# A GPU wants more at a time than a CPU, whose caches are small. Units remember it, so that workers agree.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}


@dataclass(frozen=True)
class Opened:
    """A reader that a memory is built with.

    Attributes:
        name: as it was given.
        tokenizer: its own.
        device: that it encodes on.
        identity: of the memory's rows.
        codec: of its rows; `Untrained` before product quantisation has codebooks.
        meta: what all rows have in common.
        worker: encodes.
    """

    name: str
    tokenizer: Tokenizer
    device: str
    identity: Identity
    codec: Codec
    meta: MemoryMeta
    worker: Worker

    @property
    def batch_tokens(self) -> int:
        """How many tokens go through the encoder at a time."""
        return _BATCH_TOKENS[torch.device(self.device).type]


def open_reader(name: str, directory: Path, options: Options, ranks: Ranks | None = None) -> Opened:
    """Load a reader and find out what identifies its memory.

    Args:
        name: directory, bundled name or hub name.
        directory: of the memory, which there may be already.
        options: how it is built.
        ranks: processes of torchrun.

    Raises:
        UsageError: a reader without memory layers, or options that can't be.
        MemoryStoreError: shards lie where `options` don't say so, or codebooks are damaged.
    """
    there, _ = current(directory)
    require_place(directory, options.shards_at)
    config = ReaderConfig.load(locate(name) / CONFIG)
    require_memory(config, name)
    reader = Reader.from_pretrained(name, None)  # as it is stored: what it takes isn't known yet
    fingerprint = memory_fingerprint(reader)
    tokenizer = reader.tokenizer
    assert tokenizer is not None  # or it would have no fingerprint
    device = _device(options.device, ranks)
    precision = options.precision
    if precision == "auto" and there and there.fingerprint == fingerprint:
        precision = "float32" if there.precision == "float32" else "bfloat16"
    kind = loading_type(precision, torch.device(device))
    if kind == "float32" and reader.embedding.weight.dtype != torch.float32:
        reader = Reader.from_pretrained(name, kind)
    runner = Runner(reader.to(device), precision, own=True)
    computed = "float32" if runner.reader.embedding.weight.dtype == torch.float32 else "bfloat16"
    codec = options.codec or (there.codec if there else DEFAULT_CODEC)
    identity = Identity(fingerprint, codec, computed)
    known = there and (there.fingerprint, there.codec, there.precision)
    made = codec_to_be(codec, config.memory_width, directory, trained=known == (fingerprint, "pq", computed))
    shards_at = options.shards_at
    meta = MemoryMeta(
        fingerprint=fingerprint,
        reader=name,
        codec=codec,
        codebooks=made.fingerprint,
        precision=computed,
        width=config.memory_width,
        memory_layers=config.memory_layers,
        shards_at=(there.shards_at if there else "") if shards_at is None else shards_at,
    )
    worker = Worker(Job(name, str(directory), identity, device), runner)
    return Opened(name, tokenizer, device, identity, made, meta, worker)


def current(directory: Path) -> tuple[MemoryMeta | None, bool]:
    """What memory there is, and whether it has no rows yet."""
    if not (directory / MANIFEST).exists():
        return None, True
    try:
        manifest = Manifest.for_reading(directory)
    except MemoryStoreError:  # a build was killed in its first moments, or the writer will say what is wrong
        return None, True
    try:
        return manifest.meta(), not manifest.shards()
    finally:
        manifest.close()


def require_place(directory: Path, given: str | None) -> None:
    """Change shards outside the memory's folder only where the caller names the place.

    That the manifest names it is not enough: it may be a stranger's, and the place somebody else's.

    Raises:
        MemoryStoreError: names the place.
    """
    there, _ = current(directory)
    if there and there.shards_at and given != there.shards_at:
        raise MemoryStoreError(
            f"{directory.parent}: the shards of its memory lie at {there.shards_at}, outside of it; if that "
            f"place is yours to change, say so with `--shards-at {there.shards_at}`, else delete {directory}"
        )


def require_memory(config: ReaderConfig, reader: str) -> None:
    """Refuse a reader all of whose layers are live.

    Raises:
        UsageError: says how to make one that isn't.
    """
    if config.memory_layers:
        return
    third = max(1, config.encoder.layers // 3)
    raise UsageError(
        f"{reader}: all {config.encoder.layers} encoder layers of this reader are live, so there is no "
        f"memory to build; make one with `fidkit convert {reader} NEW --live-layers {third}` and train it, "
        "or give a reader of a preset such as lumen-base"
    )


def _device(given: str, ranks: Ranks | None) -> str:
    device = choose_device(given)
    if device.type == "cpu" or ranks is None:
        return str(device)
    if device.index is not None:
        raise UsageError(f"--device is {given}, but processes of torchrun take a GPU each; give cuda")
    return ranks.device
