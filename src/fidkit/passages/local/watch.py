"""Follows the sources of a corpus: looks at them when something happens there, and builds what changed.

What the system says of changes is a reason to look and no more: a build compares all files with the
catalogue, whatever was said or lost. Where nothing is said, as on many network shares, there is a look now
and then.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit.disk import shown
from fidkit.errors import FidkitError, UsageError
from fidkit.passages.load.address import is_in_store
from fidkit.passages.load.extras import COMMAND
from fidkit.passages.local.build import build, tidy
from fidkit.passages.local.following import SETTLED_SECONDS, Following
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.vectors import EncoderSource
from fidkit.wording import counted, some

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

_LOOK_SECONDS = 60.0
_LOOK_UNTOLD_SECONDS = 5.0
# A look at many files takes long: so many times that pass before one that nothing asked for.
_LOOK_SHARE = 20
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_TICK_SECONDS = 0.5
_GATHERED_MS = 200  # changes that come together are told together
_TEMPORARY = ("~", ".swp", ".tmp", ".part", ".crdownload")

_log = logging.getLogger(__name__)


def require_followed(sources: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse what can't be followed, and say how to get what following needs.

    Raises:
        UsageError: a source is in an object store, which tells nothing of changes; or watchfiles isn't
            installed.
    """
    if stored := [os.fspath(source) for source in sources if is_in_store(source)]:
        raise UsageError(
            f"{stored[0]}: an object store can't be followed; leave --watch out, and run the build again "
            "when objects have changed, such as every hour by cron: it downloads only those"
        )
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise UsageError(
            f"following folders needs watchfiles, which isn't installed; `{COMMAND}` brings it"
        ) from None


def follow(
    sources: Iterable[str | os.PathLike[str]],
    directory: Path,
    progress: Callable[[BuildProgress], None] | None = None,
    *,
    encoder: EncoderSource | None = None,
    vectors: bool | None = None,
    wait: float = 0.0,
    stop: threading.Event | None = None,
) -> Iterator[BuildReport | FidkitError]:
    """Keep a corpus up to date with its sources until `stop` is set.

    Each change is a build of its own, which readers see whole. A file that is being written is read once it
    has settled. While a source is missing or holds nothing, the corpus stays as it is.

    Args:
        sources: folders, documents and passage files.
        directory: of the corpus.
        progress: called now and then while files are read.
        encoder: as of `fidkit.passages.local.build.build`.
        vectors: as there.
        wait: as there.
        stop: ends following, between builds. Without it, following ends with the iteration.

    Yields:
        What a build did, where it changed something or is the first after a fault; or the fault of a build,
        once. After a fault there is another try, with a pause that grows.

    Raises:
        UsageError: no sources, or as of `require_followed`.
    """
    require_followed(given := list(sources))
    roots = [os.path.realpath(Path(source).expanduser()) for source in given]
    following, stop = Following(), stop or threading.Event()
    fault, pause, quiet = "", 0.0, False
    with _Wakes(roots, directory, stop) as wakes:
        while not stop.is_set():
            following.begin()
            try:
                report = build(
                    given, directory, progress, wait=wait, encoder=encoder, vectors=vectors,
                    following=following,
                )  # fmt: skip
                changed = bool(report.files_read or report.files_removed or report.files_left_out)
                if quiet and not changed and not report.files_waiting:  # nothing else happens
                    tidy(directory, encoder)
            except UsageError:
                raise
            except FidkitError as error:
                if str(error) != fault:
                    yield error
                fault, pause = str(error), min(max(_FIRST_PAUSE_SECONDS, 2 * pause), _LONGEST_PAUSE_SECONDS)
                wakes.pause(pause)
                continue
            if changed or fault:
                yield report
            fault, pause = "", 0.0
            quiet = not wakes.wait(SETTLED_SECONDS if report.files_waiting else wakes.longest(report.seconds))
            # What comes next is given time to settle, and looking is never all that is done.
            stop.wait(max(SETTLED_SECONDS, report.seconds if not report.files_read else 0))


class _Wakes:
    """Tells when to look at the sources again."""

    def __init__(self, roots: Sequence[str], directory: Path, stop: threading.Event) -> None:
        self._roots, self._stop = roots, stop
        self._own = os.path.realpath(directory)
        self._notify: RustNotify | None = None
        self._watched: list[tuple[int, ...]] | None = None
        self._refused = ""

    def __enter__(self) -> _Wakes:
        self._renewed()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def longest(self, looked_seconds: float) -> float:
        """Seconds until a look that nothing asked for, where the last one took so long."""
        # Files that are sources themselves are looked at with every tick.
        told = self._notify is not None or not any(map(os.path.isdir, self._roots))
        return max(_LOOK_SECONDS if told else _LOOK_UNTOLD_SECONDS, _LOOK_SHARE * looked_seconds)

    def wait(self, seconds: float) -> bool:
        """Until something happens in the sources, or for so long; whether something did."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < until:
            if self._renewed():
                return True
            if self._notify is None:
                self._stop.wait(_TICK_SECONDS)
                continue
            told = self._notify.watch(_GATHERED_MS, _GATHERED_MS // 4, int(1000 * _TICK_SECONDS), self._stop)
            if told == "signal":
                raise KeyboardInterrupt
            if isinstance(told, set) and any(self._matters(path) for _, path in told):
                return True
        return False

    def pause(self, seconds: float) -> None:
        """For so long, or until a source comes, goes or is replaced."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < until and not self._renewed():
            self._stop.wait(_TICK_SECONDS)

    def _renewed(self) -> bool:
        """Whether a source itself is another than before; what tells of changes begins anew then."""
        found = [_identity(root) for root in self._roots]
        if found == self._watched:
            return False
        self._close()
        self._watched = found
        folders = [root for root in self._roots if os.path.isdir(root)]
        if folders:
            self._open(folders)
        return True

    def _open(self, folders: list[str]) -> None:
        # `watchfiles.watch` begins when it is first asked, and would miss what happens during a build.
        from watchfiles._rust_notify import RustNotify

        try:
            self._notify = RustNotify(folders, False, False, 300, True, True)
        except (OSError, RuntimeError) as error:
            if str(error) != self._refused:
                _log.warning(
                    "the system doesn't tell of changes (%s); the sources are looked at every %.0f seconds",
                    error, _LOOK_UNTOLD_SECONDS,
                )  # fmt: skip
            self._refused = str(error)

    def _close(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def _matters(self, path: str) -> bool:
        """Whether what happened to a path may change the corpus: its own files can't, nor temporary ones."""
        if path == self._own or path.startswith(self._own + os.sep):
            return False
        for root in self._roots:
            if path.startswith(os.path.join(root, "")):
                path = path[len(root) :]
                break
        *_, name = parts = path.strip(os.sep).split(os.sep)
        hidden = any(part.startswith(".") for part in parts)
        opened = name.startswith("~$") or (name.startswith("#") and name.endswith("#"))
        return not (hidden or opened or name.endswith(_TEMPORARY))


def _identity(root: str) -> tuple[int, ...]:
    """What changes when a source is replaced; of a file also when it is written to."""
    try:
        info = os.stat(root)
    except OSError:
        return ()
    written = () if os.path.isdir(root) else (info.st_size, info.st_mtime_ns)
    return (info.st_dev, info.st_ino, *written)


def said(news: BuildReport | FidkitError, directory: Path) -> str:
    """One line for a person."""
    if isinstance(news, FidkitError):
        return f"{news}; the corpus stays as it is, and is tried again"
    changes = news.changes
    done = [
        f"{counted(len(names), 'file')} {what}: {some(names)}"
        for names, what in (
            (changes.added, "added"),
            (changes.changed, "changed"),
            (changes.removed, "removed"),
            (changes.left_out, "left out"),
        )
        if names
    ]
    if news.files_waiting:
        done.append(f"{counted(news.files_waiting, 'file')} being written")
    passages = counted(news.passages_read, "passage")
    return f"{shown(directory)}: {'; '.join(done) or 'as the sources are'}; {passages}, {news.seconds:.1f} s"
