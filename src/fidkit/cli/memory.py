"""`fidkit memory`: build, describe and check the memory of a corpus."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fidkit.cli.building import say_next
from fidkit.cli.decoding import DeviceName
from fidkit.cli.options import AsJson, ByOption, Directory, Verb
from fidkit.cli.progress import clock, progress
from fidkit.errors import FidkitError, UsageError
from fidkit.types import Progress
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.cluster import By
    from fidkit.engine.precision import Precision
    from fidkit.precompute import BuildForecast, MemoryReport

app = typer.Typer(
    help="Build, describe and check the memory of a corpus (LUMEN, MemoryFiD).",
    rich_markup_mode=None,
)


Reader = Annotated[
    str, typer.Option(help="A reader with memory layers: directory or hub name.", show_default=False)
]
Codec = Annotated[
    str | None, typer.Option(help="float32, bf16, int8 or pq.", show_default="as it is; bf16 at first")
]
PrecisionOption = Annotated[str, typer.Option(help="Memory is computed with: auto, float32 or bfloat16.")]
Workers = Annotated[int, typer.Option(metavar="N", help="Processes, or actors of Ray.")]
ShardMb = Annotated[
    int | None, typer.Option(metavar="MB", help="MiB of a shard, about.", show_default="1024")
]
PqCodes = Annotated[
    int | None, typer.Option(metavar="N", help="Codes of each subspace of pq.", show_default="4096")
]
ShardsAt = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Keep shards elsewhere: a folder, s3://...", show_default=False),
]
LimitGb = Annotated[float, typer.Option(metavar="GB", help="Ask before more than this is made.")]
Replace = Annotated[bool, typer.Option("--replace", help="Build anew what another reader or codec made.")]


@app.command(cls=Verb)
def build(
    directory: Directory,
    reader: Reader,
    codec: Codec = None,
    precision: PrecisionOption = "auto",
    workers: Workers = 1,
    by: ByOption = "local",
    device: DeviceName = "auto",
    shard_mb: ShardMb = None,
    pq_codes: PqCodes = None,
    shards_at: ShardsAt = None,
    limit_gb: LimitGb = 10.0,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Encode the passages that are new, remove what no passage needs; an ended build goes on.

    Under torchrun all its processes share the work.
    """
    from fidkit import precompute
    from fidkit.passages import Corpus
    from fidkit.passages.engines import said_place
    from fidkit.precompute.codec import DEFAULT_PQ_CODES
    from fidkit.precompute.records import check

    options = precompute.Options(
        codec=codec,
        precision=cast("Precision", precision),
        shard_mb=shard_mb,
        workers=workers,
        by=cast("By", by),
        device=device,
        replace=replace,
        pq_codes=DEFAULT_PQ_CODES if pq_codes is None else pq_codes,
        shards_at=shards_at,
    )
    # What is wrong here is said before anything is opened.
    check(options)
    place = said_place(directory)
    with Corpus.open(directory) as corpus, _reported() as shown:

        def agree(forecast: BuildForecast) -> None:
            shown.rest()
            _say_forecast(place, forecast)
            _require_consent(place, forecast, limit_gb, yes)
            shown.encode = forecast.encode

        report = precompute.build(corpus, reader, options, agree=agree, tell=shown.tell)
    if report is None:  # another process of torchrun says it
        return
    if as_json:
        print(json.dumps({"corpus": place, "reader": reader, **report.to_json()}))
        return
    _say_report(place, reader, report)


@app.command(cls=Verb)
def info(directory: Directory, as_json: AsJson = False) -> None:
    """Say what a memory holds and how much of the corpus it covers."""
    from fidkit.engine.coverage import coverage
    from fidkit.memory import MemoryStore
    from fidkit.passages import Corpus
    from fidkit.passages.engines import said_place

    with Corpus.open(directory) as corpus, MemoryStore.open(corpus.derived) as store:
        found, covers = store.info, coverage(corpus, store)
    if as_json:
        print(json.dumps(found.to_json() | asdict(covers)))
        return
    print(f"passages     {covers.covered:,} of {covers.passages:,} ({covers.share:.1%})")
    print(f"rows         {found.rows:,}, {counted(found.tokens, 'token')}")
    dead = f", {found.dead_bytes / 1e6:,.1f} MB of them of removed passages" if found.dead_bytes else ""
    print(f"on disk      {found.bytes / 1e6:,.1f} MB in {counted(found.shards, 'shard')}{dead}")
    if found.shards_at:
        print(f"shards at    {found.shards_at}")
    print(f"codec        {found.codec}, computed in {found.precision}")
    print(
        f"reader       {found.reader} ({counted(found.memory_layers, 'memory layer')}, width {found.width})"
    )
    print(f"format       version {found.format_version}, generation {found.generation}")
    print(f"fingerprint  {found.fingerprint}")
    if covers.covered < covers.passages:
        lacking = counted(covers.passages - covers.covered, "passage is", "passages are")
        print(
            f"{lacking} encoded when read; run "
            f"`fidkit memory build {said_place(directory)} --reader {found.reader}` to store them",
            file=sys.stderr,
        )


@app.command(cls=Verb)
def check(
    directory: Directory,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop damaged shards; the next build makes them again.")
    ] = False,
    shards_at: Annotated[
        str | None,
        typer.Option(metavar="URL", help="For --repair: where shards lie, if elsewhere.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read all shards and compare every checksum; exit code 1 when one is damaged."""
    from fidkit.memory import MemoryStore

    place, kept = _kept(directory)
    with MemoryStore.open(kept) as store, _counted("checking shards") as tell:
        reader = store.info.reader
        shards = store.info.shards
        if repair:
            from fidkit import precompute

            damaged = precompute.repair(kept, tell, shards_at)
        else:
            damaged = store.check(tell)
    if as_json:
        record = [{"shard": damage.shard, "reason": damage.reason} for damage in damaged]
        print(json.dumps({"shards": shards, "damaged": record, "repaired": repair and bool(damaged)}))
    else:
        for damage in damaged:
            print(f"{damage.shard}  {damage.reason}")
    again = f"`fidkit memory build {place} --reader {reader}`"
    if damaged and not repair:
        raise FidkitError(
            f"{place}: {len(damaged):,} of {counted(shards, 'shard is', 'shards are')} damaged; run "
            f"`fidkit memory check {place} --repair` and {again}"
        )
    if damaged:
        print(
            f"dropped {len(damaged):,} of {counted(shards, 'shard')}; {again} makes them again",
            file=sys.stderr,
        )
    elif not as_json:
        whole = counted(shards, "shard is as it was", "shards are as they were")
        print(f"{place}: {whole} written")


def _kept(directory: str) -> tuple[str, Path]:
    """A corpus as it may be printed, and the directory on this machine where its memory is."""
    from fidkit.passages.engines import is_url, said_place

    if not is_url(directory):
        return directory, Path(directory)
    from fidkit.passages import Corpus

    with Corpus.open(directory) as corpus:
        return said_place(directory), corpus.derived


def _say_forecast(place: str, forecast: BuildForecast) -> None:
    f = forecast
    rate = f.encode / f.seconds if f.seconds else 0.0
    what = "goes on with" if f.resumed else "encodes"
    kept = counted(f.kept, "is there", "are there")
    print(
        f"{place}: {what} {f.encode:,} of {counted(f.passages, 'passage')} ({kept}): "
        f"{_size(f.bytes)} in {counted(f.shards, 'shard')}, "
        f"about {clock(f.seconds)} ({rate:,.1f} passages/s)",
        file=sys.stderr,
    )
    if f.full:
        many = counted(f.full, "passage is", "passages are")
        print(f"note: {many} as long as the reader takes, and cut if longer", file=sys.stderr)


def _require_consent(place: str, forecast: BuildForecast, limit_gb: float, yes: bool) -> None:
    if yes or forecast.bytes <= limit_gb * 1e9:
        return
    what = f"{place}: its memory takes {_size(forecast.bytes)}, more than {limit_gb:g} GB (--limit-gb)"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what}; add --yes to build it, or choose a smaller --codec")
    if not typer.confirm(f"{what}. Build it?", err=True):
        raise FidkitError(f"{place}: nothing was built; the plan is kept for the next time")


def _say_report(place: str, reader: str, report: MemoryReport) -> None:
    made = f"{report.encoded:,} encoded ({_size(report.bytes)}), {report.removed:,} removed"
    rest = f", {counted(report.compacted, 'shard')} compacted" if report.compacted else ""
    print(f"{place}: memory of {counted(report.passages, 'passage')}, {made}{rest}, {report.seconds:.1f} s")
    if report.corpus_changed:
        print(
            "the corpus was changed meanwhile; run the command again for what is new",
            file=sys.stderr,
        )
    else:
        say_next(place, reader)


class _Shown:
    """Progress of one thing after the other."""

    def __init__(self) -> None:
        self.encode: int | None = None
        self._stack = ExitStack()
        self._what = ""
        self._bar: Progress | None = None

    def tell(self, what: str, more: int) -> None:
        if what != self._what or self._bar is None:
            self.rest()
            self._what = what
            self._bar = self._stack.enter_context(progress(what, self.encode))
        self._bar.advance(more)

    def rest(self) -> None:
        """End what is shown; a question can be asked."""
        self._stack.close()
        self._bar = None


@contextmanager
def _reported() -> Iterator[_Shown]:
    shown = _Shown()
    try:
        yield shown
    finally:
        shown.rest()


@contextmanager
def _counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how many are done, and of how many."""
    with ExitStack() as stack:
        bar, before = None, 0

        def tell(done: int, total: int) -> None:
            nonlocal bar, before
            if bar is None:
                bar = stack.enter_context(progress(what, total))
            bar.advance(done - before)
            before = done

        yield tell


def _size(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
