"""The `fidkit` command: its verbs, and how an error becomes one line and an exit code.

Verbs import what they need when they run, so that `fidkit --help` costs neither torch nor time; and a verb
that is called needs none of the others.
"""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from fidkit import __version__
from fidkit.cli.options import Verb
from fidkit.cli.say import Unread, Unwritable, safe_streams
from fidkit.errors import INTERRUPTED, UNREAD, WITH_TORCH, FidkitError
from fidkit.wording import in_one_line

DEBUG = "--debug"

VERBS = (
    *("ask", "show", "corpus", "memory", "train", "evaluate"),
    *("calibrate", "convert", "plan", "bench", "serve", "mcp", "keys", "doctor"),
)
"""As help lists them: a module of this package each, with a command of its name, or an `app` of several."""


def application(called: str | None = None) -> typer.Typer:
    """The verb that is called, or all of them."""
    app = typer.Typer(
        name="fidkit",
        help="Read many passages to answer one question, fast.",
        rich_markup_mode=None,  # plain help text; importing rich would double the time to it
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name in [called] if called in VERBS else VERBS:
        verb = import_module(f"fidkit.cli.{name}")
        if hasattr(verb, "app"):
            app.add_typer(verb.app, name=name)
        else:
            app.command(cls=Verb)(getattr(verb, name))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fidkit {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="On failure show the traceback too (works after the command as well).")
    ] = False,
) -> None:
    pass


_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 fine, 1 failure, 2 wrong use, 130 interrupted, 141 nobody reads it."""
    share_cores()
    given = list(sys.argv[1:] if arguments is None else arguments)
    rest = [argument for argument in given if argument != DEBUG]
    # Imports alone make so many objects that Python would look through all of them a dozen times.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    # There is nothing to collect at the end, where it would do so again and again.
    atexit.register(gc.freeze)
    sys.exit(run(rest or ["--help"], debug=DEBUG in given))


def share_cores() -> None:
    """Let PyTorch's threads that wait for one another give their core up after microseconds.

    Those of the kernels do so anyway. GNU's OpenMP, which PyTorch's are of, reads this when it is loaded.
    Where other processes want the cores, an answer of one second took 14 without it; where none does, 20
    passages take about a tenth longer with it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run one command; returns its exit code, having said on stderr what went wrong."""
    _say_on_stderr()
    with safe_streams():
        try:
            return _run(arguments, debug)
        except Unread:
            return UNREAD


def _run(arguments: Sequence[str], debug: bool) -> int:
    try:
        command = typer.main.get_command(application(arguments[0] if arguments else None))
        if len(arguments) == 1 and hasattr(command.commands.get(arguments[0]), "commands"):  # type: ignore[attr-defined]
            arguments = [*arguments, "--help"]  # a group alone prints its help, as `fidkit` alone does
        code = command.main(arguments, prog_name="fidkit", standalone_mode=False)
        sys.stdout.flush()  # now, while it can still be said that something can't be written
        # Without standalone mode an early exit comes back as its code, a finished command as its result.
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Unread:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(_one_line(error), file=sys.stderr)
        return error.exit_code if isinstance(error, FidkitError | typer.TyperException) else 1


def _say_on_stderr() -> None:
    """What fidkit has to say besides results: a line each, without a logger's ornaments."""
    logger = logging.getLogger("fidkit")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_OnStderr())


class _OnStderr(logging.Handler):
    """Writes to what stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"note: {in_one_line(record.getMessage())}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    if isinstance(error, FidkitError | Unwritable):
        message = str(error)
    elif isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        help_command = f"{context.command_path if context else 'fidkit'} --help"
        message = f"{error.format_message().rstrip('.')}; see `{help_command}`"
        if "unexpected extra argument" in message:
            message = f"{message} (what has spaces in it needs quotes)"
    elif isinstance(error, ModuleNotFoundError) and error.name == "torch":
        message = f"this needs PyTorch, which is not installed; {WITH_TORCH}"
    elif isinstance(error, MemoryError):
        message = (
            f"there is no memory left ({error or 'it is full'}); close other programs, raise the limit of "
            "this process (ulimit -v), or read fewer passages"
        )
    elif isinstance(error, OSError) and error.filename and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        message = f"{os.fsdecode(error.filename)}: {error.strerror}; give another path"
    else:
        message = f"unexpected {type(error).__name__}: {error}; run again with {DEBUG}"
    return "error: " + " ".join(message.split())
