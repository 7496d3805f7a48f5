"""`fidkit corpus build`, and what a build says while it runs; others that index documents say the same."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fidkit.cli.options import AsJson, ByOption
from fidkit.cli.progress import clock, progress
from fidkit.errors import FidkitError, UsageError
from fidkit.passages.load.table import described
from fidkit.passages.local.amounts import A_SECOND, MOST_UNASKED
from fidkit.wording import counted

if TYPE_CHECKING:
    from fidkit.cluster import By
    from fidkit.passages import BuildProgress, BuildReport, CorpusInfo
    from fidkit.passages.local.vectors import EncoderSource
    from fidkit.precompute import MemoryReport

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SRC...", help=f"Folders, s3://BUCKET/PREFIX, {described()}.", show_default=False),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Go on, and follow what happens in the sources until Ctrl-C.")
]
To = Annotated[
    str,
    typer.Option("--to", metavar="DIR", help="Where it is kept; or postgresql://...", show_default=False),
]
WithVectors = Annotated[
    bool | None,
    typer.Option(
        "--vectors/--no-vectors",
        help="Make vectors for search by meaning, or none. By default where there are some already, or "
        f"at most {MOST_UNASKED:,} passages.",
        show_default=False,
    ),
]
PassageWords = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Words of a passage, about, 10 to 1,000; by default what the corpus has, of a new one 100.",
        show_default=False,
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Words, at most, that a passage repeats from the one before; by default what the corpus "
        "has, of a new one 0.",
        show_default=False,
    ),
]
MemoryOf = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="READER",
        help="Make vectors and this reader's memory in one pass; its memory encoder has to be the first "
        "layers of the encoder that searches.",
        show_default=False,
    ),
]

_REASONS = 5
"""That a build says of files which were not read."""
_FORETOLD = 0.01
"""Share of the bytes that has to be read before it says how long the rest will take."""
_STAGES = {"index": "writing the index", "vectors": "encoding passages"}


def build(
    sources: Sources,
    to: To,
    vectors: WithVectors = None,
    passage_words: PassageWords = None,
    overlap: Overlap = None,
    memory: MemoryOf = None,
    by: ByOption = "local",
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Build a corpus, or bring it up to date: only new and changed files are read."""
    _check(sources, to, memory, vectors, by, watch=watch)
    from fidkit.engine.meaning import minilm, runnable
    from fidkit.passages import Corpus

    with ExitStack() as stack:
        encoder, once = minilm if vectors is not None else runnable(), None
        if memory is not None:
            from fidkit.precompute.onepass import one_pass

            once = stack.enter_context(one_pass(Path(to), memory))
            encoder, vectors = once.source, True
        tell = stack.enter_context(reported_progress())
        corpus = stack.enter_context(
            Corpus.build(
                sources, to, tell, encoder=encoder, vectors=vectors, passage_words=passage_words,
                overlap=overlap, by=cast("By", by),
            )
        )  # fmt: skip
        remembered = None if once is None else once.finish(corpus)
        info, report = corpus.info(), corpus.report
    if report is None:  # `Corpus.build` always sets it
        raise AssertionError("a build without a report")
    if as_json:
        more = {} if remembered is None else {"memory": remembered.to_json()}
        print(json.dumps(info.to_json() | {"build": report.to_json()} | more), flush=True)
    else:
        _say_built(info, report, unasked=vectors is None)
        if remembered is not None:
            _say_remembered(info, remembered)
        say_next(info.path, memory)
    if watch:
        _follow(sources, Path(to), encoder, vectors, as_json=as_json)


def _check(
    sources: list[str], to: str, memory: str | None, vectors: bool | None, by: str, *, watch: bool
) -> None:
    """What is wrong with the call is said before anything is read."""
    from fidkit.passages.engines import is_url, said_place

    if is_url(to) and (watch or memory is not None):
        what = "--watch follows sources" if watch else "--memory makes memory in one pass"
        raise UsageError(
            f"{what} for a corpus in a directory; for {said_place(to)} run the build again when documents "
            "have changed, and `fidkit memory build` for memory"
        )
    if memory is not None and vectors is False:
        raise UsageError("--memory makes vectors and memory together; leave --no-vectors out")
    if memory is not None and watch:
        raise UsageError(
            "--watch brings no memory up to date; leave --memory out, and run `fidkit memory build` when the "
            "documents have changed"
        )
    if watch and by != "local":
        raise UsageError("--watch reads on this machine; leave --by out, or run the build again by hand")
    if watch:
        from fidkit.passages.local.watch import require_followed

        require_followed(sources)


def _follow(
    sources: list[str], to: Path, encoder: EncoderSource | None, vectors: bool | None, *, as_json: bool
) -> None:
    """Say what each change of the sources did to the corpus, until Ctrl-C."""
    from fidkit.passages.local.watch import follow, said

    print("following the sources; Ctrl-C ends it", file=sys.stderr, flush=True)
    for news in follow(sources, to, encoder=encoder, vectors=vectors):
        if isinstance(news, FidkitError):
            print(said(news, to), file=sys.stderr, flush=True)
        else:
            record = {"build": news.to_json(), "changes": asdict(news.changes)}
            print(json.dumps(record) if as_json else said(news, to), flush=True)


@contextmanager
def reported_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Shows how far a build is on stderr; yields what `Corpus.build` takes as `progress`.

    Nothing is shown when nothing is read, and an error before that stays the only line.
    """
    with ExitStack() as stack:
        shown, passages, began = None, 0, time.monotonic()

        def tell(state: BuildProgress) -> None:
            nonlocal shown, passages
            if shown is None:
                shown = stack.enter_context(progress("reading passages"))
            shown.describe(_STAGES.get(state.stage) or _how_far(state, began))
            shown.advance(state.passages - passages)
            passages = state.passages

        yield tell


def _how_far(state: BuildProgress, began: float) -> str:
    """Files, and the time left, as the bytes go on as they did; nothing is said of the first moments."""
    share = state.done_bytes / max(1, state.total_bytes)
    took = time.monotonic() - began
    left = f", {clock(took * (1 - share) / share)} left" if took > 1 and share >= _FORETOLD else ""
    files = f"{state.done_files:,} of {counted(state.total_files, 'file')}"
    return f"reading passages, {files}, {100 * share:.0f} %{left}"


def _say_built(info: CorpusInfo, report: BuildReport, *, unasked: bool) -> None:
    """What a build did, for a person; `unasked` if nothing was said of vectors."""
    size = f"{counted(info.passages, 'passage')}, {info.bytes_on_disk / 1e6:,.1f} MB, {report.seconds:.1f} s"
    read = counted(report.files_read, "file")
    counts = f"{read} read, {report.files_removed:,} removed, {info.skipped:,} left out"
    print(f"{info.path}: {size} ({counts})")
    if report.sources_dropped:
        before = ", ".join(report.sources_dropped)
        print(f"note: what it had of {before} is out of it; name all sources to keep them", file=sys.stderr)
    _say_skipped(info)
    if said := info.without_text():
        print(f"note: {said}", file=sys.stderr)
    if unasked and info.vectors is None and info.passages > MOST_UNASKED:
        took = clock(info.passages / (A_SECOND * (os.cpu_count() or 1)))
        print(
            f"note: searched by words alone; --vectors adds search by meaning, in about {took} for so many "
            "passages",
            file=sys.stderr,
        )


def say_next(place: str, reader: str | None = None) -> None:
    """How to ask a corpus that was built.

    Args:
        place: of the corpus.
        reader: whose memory was built; it is to be trained first where nothing shows that it was.
    """
    ask = f'fidkit ask "YOUR QUESTION" --in {place}'
    if reader is not None:
        from fidkit.checkpoint.files import is_calibrated

        ask += f" --reader {reader}"
        if not is_calibrated(reader):
            ask = (
                f"train {reader} unless that was done, since a new reader answers nothing (`fidkit train`; "
                f"this memory stays its own while the memory encoder is frozen); then {ask}"
            )
    print(f"next: {ask}", file=sys.stderr)


def _say_remembered(info: CorpusInfo, remembered: MemoryReport) -> None:
    together = f"{remembered.together:,} encoded together with their vectors"
    print(
        f"{info.path}: memory of {counted(remembered.passages, 'passage')}, {together}, "
        f"{remembered.encoded:,} apart, {remembered.removed:,} removed"
    )


def _say_skipped(info: CorpusInfo) -> None:
    """Why files were not read, with a few of their names."""
    from fidkit.passages.local.info import grouped

    lines = list(grouped(info.skipped_files, "file", every=False))
    for line in lines[:_REASONS]:
        print(f"left out: {line}", file=sys.stderr)
    if len(lines) > _REASONS:
        more = counted(len(lines) - _REASONS, "more reason")
        print(f"... and {more}, see `fidkit corpus info {info.path}`", file=sys.stderr)
