"""Builds the memory of a corpus, or brings it up to date: plan, encode, commit.

Every finished shard is committed by itself, so a build may be ended at any moment and goes on at the next
shard when it is run again. Only one process commits, whoever encodes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fidkit.checkpoint import CONFIG, locate
from fidkit.config import ReaderConfig
from fidkit.devices import choose_device
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.runner import Runner, loading_type
from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory.layout import MANIFEST, UNITS, memory_directory
from fidkit.memory.manifest import Manifest, MemoryMeta
from fidkit.memory.shard import DamagedShard, read_index, shard_bytes
from fidkit.memory.writer import MemoryWriter
from fidkit.passages import Passages
from fidkit.precompute.cluster import build_with_ray
from fidkit.precompute.codec import Untrained, codec_to_be, train_codec
from fidkit.precompute.local import build_here, build_in_processes
from fidkit.precompute.plan import (
    BuildPlan,
    Nothing,
    PlannedUnit,
    Tell,
    discard_plan,
    load_plan,
    make_plan,
    state_of,
)
from fidkit.precompute.ranks import Ranks
from fidkit.precompute.records import BuildForecast, MemoryReport, Options, check
from fidkit.precompute.unit import Identity
from fidkit.precompute.work import Job, Worker, tokens_a_second
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer

DEFAULT_CODEC = "bf16"
DEFAULT_SHARD_MB = 1024
# A GPU wants more at a time than a CPU, whose caches are small. Units remember it, so that workers agree.
_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
# A row of the manifest, with its share of the tree and of the log.
_MANIFEST_BYTES = 120
_MIB = 1 << 20


Agree = Callable[[BuildForecast], None]
"""Raises what it likes when the forecast is not agreed to; the plan is kept."""


def build(
    corpus: Passages,
    reader: str | os.PathLike[str],
    options: Options | None = None,
    *,
    agree: Agree | None = None,
    tell: Tell | None = None,
) -> MemoryReport | None:
    """Encode the passages of a corpus that its memory lacks, and remove what no passage needs.

    Args:
        corpus: an open `Corpus`, or another collection; its memory is kept where it is `derived`.
        reader: directory, bundled name or hub name.
        options: how.
        agree: called once when there is something to encode, before that is done.
        tell: told how far it is.

    Returns:
        What was done; None in all processes of torchrun but the first.

    Raises:
        UsageError: impossible options, no open corpus, or a reader without memory layers.
        CorpusError: passages can't be read.
        MemoryStoreError: the memory belongs to another reader, codec or precision; the disk has too little
            room; somebody else is building. What is built already is kept.
    """
    options = options or Options()
    check(options)
    if not isinstance(corpus, Passages):
        raise UsageError(f"the corpus is {corpus!r}; expected an open one, such as Corpus.open({corpus!r})")
    ranks = Ranks.join()
    if ranks and (options.by != "local" or options.workers > 1):
        raise UsageError(
            "--by and --workers go without torchrun, whose processes are the workers; leave them out"
        )
    if ranks and not ranks.leads:
        _follow(ranks)
        return None
    try:
        return _MemoryBuild(corpus, str(reader), options, ranks, tell or _silent).run(agree)
    except BaseException:
        if ranks:
            ranks.give_up()
        raise


def repair(
    corpus: str | os.PathLike[str],
    tell: Callable[[int, int], None] | None = None,
    shards_at: str | None = None,
) -> list[Any]:
    """Drop the damaged shards of a memory, so that the next build makes exactly their rows again.

    Args:
        corpus: where the memory is kept: `Passages.derived`, which of a `Corpus` is its directory.
        tell: told how many shards are looked at, of how many.
        shards_at: where shards lie, if not in the memory's own folder: they are deleted only there.

    Returns:
        Name and reason of each (`fidkit.memory.check.Damage`).

    Raises:
        MemoryStoreError: there is no memory, its shards lie elsewhere, or somebody is building it.
    """
    _require_place(memory_directory(Path(corpus)), shards_at)
    with MemoryWriter.opened(Path(corpus)) as writer:
        damaged = writer.repair(tell)
        if damaged:
            # It was made for a memory that had these rows.
            discard_plan(writer.directory / UNITS)
    return damaged


class _MemoryBuild:
    def __init__(
        self, corpus: Passages, reader: str, options: Options, ranks: Ranks | None, tell: Tell
    ) -> None:
        self._began = time.monotonic()
        self._corpus, self._reader, self._options = corpus, reader, options
        self._ranks, self._tell = ranks, tell
        self._state = state_of(corpus)
        self._directory = memory_directory(corpus.derived)
        self._units = self._directory / UNITS
        self._there, self._is_empty = _current(self._directory)
        _require_place(self._directory, options.shards_at)
        self._open_reader()

    def _open_reader(self) -> None:
        """Load the reader and find out what identifies its memory."""
        options, there = self._options, self._there
        config = ReaderConfig.load(locate(self._reader) / CONFIG)
        _require_memory(config, self._reader)
        reader = Reader.from_pretrained(self._reader, None)  # as it is stored: what it takes isn't known yet
        fingerprint = memory_fingerprint(reader)
        assert reader.tokenizer is not None  # or it would have no fingerprint
        self._tokenizer: Tokenizer = reader.tokenizer
        self._device = _device(options.device, self._ranks)
        precision = options.precision
        if precision == "auto" and there and there.fingerprint == fingerprint:
            precision = "float32" if there.precision == "float32" else "bfloat16"
        kind = loading_type(precision, torch.device(self._device))
        if kind == "float32" and reader.embedding.weight.dtype != torch.float32:
            reader = Reader.from_pretrained(self._reader, kind)
        runner = Runner(reader.to(self._device), precision, own=True)
        computed = "float32" if runner.reader.embedding.weight.dtype == torch.float32 else "bfloat16"
        codec = options.codec or (there.codec if there else DEFAULT_CODEC)
        self._identity = Identity(fingerprint, codec, computed)
        known = there and (there.fingerprint, there.codec, there.precision)
        trained = known == (fingerprint, "pq", computed)
        self._codec = codec_to_be(codec, config.memory_width, self._directory, trained=trained)
        shards_at = options.shards_at
        self._meta = MemoryMeta(
            fingerprint=fingerprint,
            reader=self._reader,
            codec=codec,
            codebooks=self._codec.fingerprint,
            precision=computed,
            width=config.memory_width,
            memory_layers=config.memory_layers,
            shards_at=(there.shards_at if there else "") if shards_at is None else shards_at,
        )
        self._job = Job(self._reader, str(self._directory), self._identity, self._device)
        self._worker = Worker(self._job, runner)

    def run(self, agree: Agree | None) -> MemoryReport:
        there, meta = self._there, self._meta
        replaces = there is not None and not self._is_empty and not there.same_rows(meta)
        keep_old = replaces and self._options.replace
        # A memory that is replaced is forgotten when it is agreed to, not before.
        with MemoryWriter.opened(
            self._corpus.derived,
            None if keep_old else meta,
            replace=self._there is not None and self._is_empty,
        ) as writer:
            plan, removed, resumed = self._plan(writer, replaces)
            left = plan.left(self._units)
            if left:
                self._require_room(writer, left, replaces)
                if agree:
                    agree(self._forecast(plan, left, resumed))
            if keep_old:
                writer.begin(meta)
            began = time.monotonic()
            self._encode(writer, left)
            encode_s = time.monotonic() - began
            discard_plan(self._units)
            compacted = writer.compact(plan.target_bytes).shards_deleted
        return MemoryReport(
            plan.passages,
            plan.contents,
            sum(unit.passages for unit in left),
            removed,
            compacted,
            len(left),
            sum(unit.bytes for unit in left),
            sum(unit.tokens for unit in left),
            encode_s,
            time.monotonic() - self._began,
            self._identity,
            state_of(self._corpus) != plan.state,
        )

    def _plan(self, writer: MemoryWriter, replaces: bool) -> tuple[BuildPlan, int, bool]:
        """The plan, how many rows were removed, and whether it is an earlier one."""
        size = self._options.shard_mb
        target = None if size is None else size * _MIB
        plan = load_plan(self._units)
        if plan and plan.fits(self._state, self._identity, target):
            return plan, 0, True
        plan, removed = make_plan(
            self._corpus,
            Nothing() if replaces else writer,
            self._tokenizer,
            self._identity,
            lambda lengths: shard_bytes(lengths, self._codec),
            self._units,
            target_bytes=target or DEFAULT_SHARD_MB * _MIB,
            batch_tokens=_BATCH_TOKENS[torch.device(self._device).type],
            tell=self._tell,
        )
        return plan, removed, False

    def _forecast(self, plan: BuildPlan, left: Sequence[PlannedUnit], resumed: bool) -> BuildForecast:
        tokens = sum(unit.tokens for unit in left)
        at_once = self._ranks.size if self._ranks else 1
        if self._options.by == "ray":
            at_once = self._options.workers
        return BuildForecast(
            plan.passages,
            plan.contents - sum(unit.passages for unit in left),
            sum(unit.passages for unit in left),
            plan.full,
            tokens,
            sum(unit.bytes for unit in left),
            len(left),
            tokens / (at_once * tokens_a_second(self._worker, self._units / left[0].name)),
            resumed,
        )

    def _encode(self, writer: MemoryWriter, left: Sequence[PlannedUnit]) -> None:
        units = [self._units / unit.name for unit in left]
        if units and isinstance(self._codec, Untrained):
            codebooks = train_codec(self._worker, units, self._directory, self._options.pq_codes)
            writer.begin(replace(self._meta, codebooks=codebooks))
        finished_before = [path for path in map(self._worker.shard_of, units) if path.exists()]
        writer.sweep(keep=[path.name for path in finished_before if _is_whole(path)])

        def finished(unit: Path, shard: Path) -> None:
            writer.commit(shard)
            unit.unlink()

        def advance(passages: int) -> None:
            self._tell("encoding passages", passages)

        workers = self._options.workers
        if self._ranks:
            self._ranks.announce(units, self._job)
            self._ranks.lead(self._worker, units, finished, advance)
        elif not units:
            return
        elif self._options.by == "ray":
            build_with_ray(self._job, workers, units, finished, advance)
        elif workers == 1:
            build_here(self._worker, units, finished, advance)
        else:
            job = replace(self._job, threads=max(1, torch.get_num_threads() // workers))
            build_in_processes(job, workers, units, finished, advance)

    def _require_room(self, writer: MemoryWriter, left: Sequence[PlannedUnit], replaces: bool) -> None:
        needed = _MANIFEST_BYTES * sum(unit.passages for unit in left)
        if self._meta.shards_at:  # one for each worker passes through here
            needed += max(unit.bytes for unit in left) * self._options.workers
        else:
            needed += sum(unit.bytes for unit in left)
        free = shutil.disk_usage(self._directory).free
        if replaces:
            free += sum(shard.bytes for shard in writer.shards())
        if needed > free:
            raise MemoryStoreError(
                f"{self._directory}: the memory needs {needed / 1e9:,.2f} GB more and {free / 1e9:,.2f} GB "
                f"are free; free {(needed - free) / 1e9:,.2f} GB, or choose a smaller --codec than "
                f"{self._identity.codec}"
            )


def _is_whole(shard: Path) -> bool:
    """Whether a file that an ended build left is the shard that it is called."""
    try:
        read_index(shard, check=True)
    except (DamagedShard, MemoryStoreError, OSError):
        return False
    return True


def _follow(ranks: Ranks) -> None:
    """What the processes of torchrun do that don't lead."""
    units, job = ranks.hear()
    if units is None or job is None:
        return
    device = job.device if job.device == "cpu" else ranks.device
    worker = Worker(replace(job, device=device))
    for _ in worker.build_each(ranks.share(units)):
        pass  # process 0 finds the shards and commits them


def _current(directory: Path) -> tuple[MemoryMeta | None, bool]:
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


def _require_place(directory: Path, given: str | None) -> None:
    """Change shards outside the memory's folder only where the caller names the place.

    That the manifest names it is not enough: it may be a stranger's, and the place somebody else's.
    """
    there, _ = _current(directory)
    if there and there.shards_at and given != there.shards_at:
        raise MemoryStoreError(
            f"{directory.parent}: the shards of its memory lie at {there.shards_at}, outside of it; if that "
            f"place is yours to change, say so with `--shards-at {there.shards_at}`, else delete {directory}"
        )


def _require_memory(config: ReaderConfig, reader: str) -> None:
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


def _silent(what: str, more: int) -> None:
    pass
