"""`fidkit serve`: questions answered over HTTP."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fidkit.cli.building import reported_progress
from fidkit.cli.decoding import DeviceName, PrecisionName
from fidkit.cli.options import Sources
from fidkit.errors import UsageError
from fidkit.wording import counted

if TYPE_CHECKING:
    from socket import socket as Socket

    from fidkit.engine.precision import Precision
    from fidkit.server.guard import Access
    from fidkit.server.library import Library
    from fidkit.server.service import Service

_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    sources: Sources = None,
    reader: Annotated[
        list[str] | None,
        typer.Option(
            help="Directory, bundled name, or hub name, also as NAME=READER; repeatable, the first is the "
            "default. pocket if absent.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need --keys.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Ask for a key of this file (`fidkit keys add`).", show_default=False
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name by which callers call this server; repeatable.", show_default=False),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write who asked which route, and how it ended, here.", show_default=False
        ),
    ] = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
) -> None:
    """Answer questions over HTTP, with an API and a page."""
    _check(host, port, keys)
    from fidkit.server.guard import Access, host_names
    from fidkit.server.keys import Keys
    from fidkit.server.listening import listening
    from fidkit.server.readers import by_name

    access = Access(Keys(keys) if keys else None, frozenset({host, *host_names(allow_host or [])}))
    names = by_name(reader or ["pocket"])
    if audit is not None:
        _write_audit(audit)
    with (
        listening(host, port) as socket,
        opened(sources or [], names, device, precision) as (service, library),
    ):
        service.measure()
        _announce(service, host, socket.getsockname()[1], keyed=keys is not None)
        _run(service, library, access, socket)


def _run(service: Service, library: Library, access: Access, socket: Socket) -> None:
    """Answer until somebody ends it, be it by SIGTERM: then what was opened is closed, too."""
    from fidkit.server.app import application
    from fidkit.server.patience import Server, settings

    signal.signal(signal.SIGTERM, _terminate)
    made = settings(application(service, access, library), service.limits)
    Server(made, service.scheduler.drain).run(sockets=[socket])


def _terminate(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # as shells say of one that a signal ended


def _check(host: str, port: int, keys: Path | None) -> None:
    if host not in _LOCAL and keys is None:
        raise UsageError(
            f"--host {host} lets other machines ask; give --keys FILE, with a key of "
            "`fidkit keys add NAME --to FILE`, or leave --host out"
        )
    if not 0 <= port <= 65535:
        raise UsageError(f"--port is {port}; expected 1 to 65535, or 0 for a free one")
    try:
        for name in ("fastapi", "mcp", "uvicorn"):
            import_module(name)
    except ImportError as error:
        raise UsageError(
            f"serving needs {error.name}, which is not installed; get it with: pip install 'fidkit[serve]'"
        ) from error


@contextmanager
def opened(
    sources: list[str], readers: dict[str, str], device: str, precision: str
) -> Iterator[tuple[Service, Library]]:
    """Documents and readers, opened to be served; what is to be said of the documents is said."""
    from fidkit.server.library import Library
    from fidkit.server.service import Service

    with reported_progress() as tell:
        library = Library(sources, tell)
    for note in library.notes:
        print(f"note: {note}", file=sys.stderr)
    of = cast("Precision", precision)
    try:
        service = Service(library.corpus, readers, device=device, precision=of, notes=library.notes)
    except BaseException:
        library.corpus.close()
        raise
    try:
        yield service, library
    finally:
        service.close()


def _write_audit(to: Path) -> None:
    """Have the server's audit written to a file, with times."""
    try:
        handler = logging.FileHandler(to, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--audit {to}: can't be written ({error.strerror}); choose another place"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    audit = logging.getLogger("fidkit_audit")
    audit.setLevel(logging.INFO)
    audit.addHandler(handler)


def _announce(service: Service, host: str, port: int, *, keyed: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}", flush=True)
    readers = ", ".join(service.readers)
    print(
        f"note: {counted(len(service.corpus), 'passage')}, reader {readers}, "
        f"{service.capacity:.1f} questions a second"
        + (", with keys" if keyed else ", for this machine alone") + "; Ctrl-C ends it",
        file=sys.stderr,
    )  # fmt: skip
