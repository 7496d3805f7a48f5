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

from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory.layout import UNITS, memory_directory
from fidkit.memory.shard import DamagedShard, read_index, shard_bytes
from fidkit.memory.writer import MemoryWriter
from fidkit.passages import Passages
from fidkit.precompute.cluster import build_with_ray
from fidkit.precompute.codec import Untrained, train_codec
from fidkit.precompute.local import build_here, build_in_processes
from fidkit.precompute.opened import Opened, current, open_reader, require_place
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
from fidkit.precompute.work import Worker, tokens_a_second

DEFAULT_SHARD_MB = 1024
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
    opened: Opened | None = None,
) -> MemoryReport | None:
    """Encode the passages of a corpus that its memory lacks, and remove what no passage needs.

    Args:
        corpus: an open `Corpus`, or another collection; its memory is kept where it is `derived`.
        reader: directory, bundled name or hub name.
        options: how.
        agree: called once when there is something to encode, before that is done.
        tell: told how far it is.
        opened: the reader, where it is open already with these options.

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
        return _MemoryBuild(corpus, str(reader), options, ranks, tell or _silent, opened).run(agree)
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
    require_place(memory_directory(Path(corpus)), shards_at)
    with MemoryWriter.opened(Path(corpus)) as writer:
        damaged = writer.repair(tell)
        if damaged:
            # It was made for a memory that had these rows.
            discard_plan(writer.directory / UNITS)
    return damaged


class _MemoryBuild:
    def __init__(
        self,
        corpus: Passages,
        reader: str,
        options: Options,
        ranks: Ranks | None,
        tell: Tell,
        opened: Opened | None,
    ) -> None:
        self._began = time.monotonic()
        self._corpus, self._options = corpus, options
        self._ranks, self._tell = ranks, tell
        self._state = state_of(corpus)
        self._directory = memory_directory(corpus.derived)
        self._units = self._directory / UNITS
        self._there, self._is_empty = current(self._directory)
        self._reader = opened or open_reader(reader, self._directory, options, ranks)

    def run(self, agree: Agree | None) -> MemoryReport:
        there, meta = self._there, self._reader.meta
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
            self._reader.identity,
            state_of(self._corpus) != plan.state,
        )

    def _plan(self, writer: MemoryWriter, replaces: bool) -> tuple[BuildPlan, int, bool]:
        """The plan, how many rows were removed, and whether it is an earlier one."""
        size = self._options.shard_mb
        target = None if size is None else size * _MIB
        plan = load_plan(self._units)
        if plan and plan.fits(self._state, self._reader.identity, target):
            return plan, 0, True
        plan, removed = make_plan(
            self._corpus,
            Nothing() if replaces else writer,
            self._reader.tokenizer,
            self._reader.identity,
            lambda lengths: shard_bytes(lengths, self._reader.codec),
            self._units,
            target_bytes=target or DEFAULT_SHARD_MB * _MIB,
            batch_tokens=self._reader.batch_tokens,
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
            tokens / (at_once * tokens_a_second(self._reader.worker, self._units / left[0].name)),
            resumed,
        )

    def _encode(self, writer: MemoryWriter, left: Sequence[PlannedUnit]) -> None:
        units = [self._units / unit.name for unit in left]
        if units and isinstance(self._reader.codec, Untrained):
            codebooks = train_codec(self._reader.worker, units, self._directory, self._options.pq_codes)
            writer.begin(replace(self._reader.meta, codebooks=codebooks))
        finished_before = [path for path in map(self._reader.worker.shard_of, units) if path.exists()]
        writer.sweep(keep=[path.name for path in finished_before if _is_whole(path)])

        def finished(unit: Path, shard: Path) -> None:
            writer.commit(shard)
            unit.unlink()

        def advance(passages: int) -> None:
            self._tell("encoding passages", passages)

        workers = self._options.workers
        if self._ranks:
            self._ranks.announce(units, self._reader.worker.job)
            self._ranks.lead(self._reader.worker, units, finished, advance)
        elif not units:
            return
        elif self._options.by == "ray":
            build_with_ray(self._reader.worker.job, workers, units, finished, advance)
        elif workers == 1:
            build_here(self._reader.worker, units, finished, advance)
        else:
            job = replace(self._reader.worker.job, threads=max(1, torch.get_num_threads() // workers))
            build_in_processes(job, workers, units, finished, advance)

    def _require_room(self, writer: MemoryWriter, left: Sequence[PlannedUnit], replaces: bool) -> None:
        needed = _MANIFEST_BYTES * sum(unit.passages for unit in left)
        if self._reader.meta.shards_at:  # one for each worker passes through here
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
                f"{self._reader.identity.codec}"
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


def _silent(what: str, more: int) -> None:
    pass
