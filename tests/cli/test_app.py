"""The frame around the verbs: start-up, error lines, exit codes."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fidkit import FidkitError, __version__
from fidkit.cli import app as cli
from fidkit.errors import UsageError

HEAVY = ("torch", "numpy", "rich", "tantivy", "faiss", "tokenizers", "huggingface_hub")


def fidkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fidkit.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor", "--help"], ["ask", "--help"]])
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from fidkit.cli.app import run\n"
        f"code = run({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"


def test_version_and_help_go_to_stdout() -> None:
    version = fidkit("--version")
    assert (version.returncode, version.stdout, version.stderr) == (0, f"fidkit {__version__}\n", "")
    for arguments in ([], ["--help"]):
        helped = fidkit(*arguments)
        assert (helped.returncode, helped.stderr) == (0, "")
        assert all(
            verb in helped.stdout for verb in ("ask", "corpus", "train", "evaluate", "convert", "doctor")
        )


def test_an_interrupt_while_modules_are_imported_shows_no_traceback() -> None:
    pressed = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from fidkit.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", pressed, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_next_to_nothing_is_imported_before_an_interrupt_is_caught() -> None:
    """The less there is, the less often somebody sees a traceback who presses Ctrl-C at once."""
    source = str(Path(__file__).parents[2] / "src")
    script = (
        f"import sys; sys.path.insert(0, {source!r}); before = set(sys.modules)\n"
        "import fidkit.cli; print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-S", "-c", script]  # without what other packages import at every start
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["__future__", "fidkit", "fidkit.cli"]


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--version"], ["plan", "fid-base"], ["nonsense"]])
def test_what_nobody_reads_ends_the_command_quietly(arguments: list[str], buffered: str) -> None:
    """As behind `| head -1`: no error, no traceback, and the status that a shell has for it."""
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fidkit", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    try:
        for error in (subprocess.PIPE, written):
            done = subprocess.run(
                command, stdout=written, stderr=error, text=True, check=False, timeout=60, env=environment
            )
            # It prints no results.
            fails = arguments == ["nonsense"] and error == subprocess.PIPE
            assert done.returncode == (2 if fails else 141)
            assert not re.search("Traceback|Broken|Exception", done.stderr or "")
    finally:
        os.close(written)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_results_that_there_is_no_room_for_are_an_error(buffered: str) -> None:
    command = [sys.executable, "-m", "fidkit", "--version"]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env=environment
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: results can't be written to stdout (No space left on device)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["doctor", "--nonsense"], ["doctor", "superfluous"], ["--nope"]]
)
def test_wrong_use_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "--help`" in err


def test_words_without_quotes_are_told_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ask", "Who", "keeps", "bees?"]) == 2
    assert capsys.readouterr().err.endswith(" (what has spaces in it needs quotes)\n")


@pytest.mark.parametrize("group", [[], ["corpus"], ["memory"], ["keys"]])
def test_a_group_alone_says_what_is_in_it(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(group)
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['fidkit', *group])} [OPTIONS]")
    assert "\nCommands:\n" in out
    assert err == ""


def _commands(group: Any, name: str = "fidkit") -> Iterator[tuple[str, Any]]:
    for called, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {called}")
        else:
            yield f"{name} {called}", command


COMMANDS = dict(_commands(typer.main.get_command(cli.application())))


@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_is_empty(name: str) -> None:
    command = COMMANDS[name]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    tried = 0
    for parameter in command.params:
        if parameter in arguments and parameter.name not in ("question", "queries", "sources"):
            given = ["" if one is parameter else "x" for one in arguments]
        elif parameter not in arguments and not parameter.is_flag and parameter.name != "help":
            given = [*("x" for _ in arguments), parameter.opts[-1], ""]
        else:
            continue
        required = [one for one in command.params if one.required and one not in (*arguments, parameter)]
        given += [word for one in required for word in (one.opts[-1], "x")]
        with pytest.raises((UsageError, typer.BadParameter)) as caught:
            command.main(given, prog_name=name, standalone_mode=False)
        tried += 1
        if isinstance(caught.value, UsageError):  # else it isn't a number, or none of a few words
            called = str(caught.value).partition(" is empty; expected a value (. is this folder); see ")[0]
            assert called in (parameter.opts[-1], parameter.metavar, parameter.name.upper())
        else:
            assert caught.value.param is parameter
    assert tried or name == "fidkit doctor"


def _raises(error: BaseException) -> Callable[[], None]:
    def verb() -> None:
        raise error

    return verb


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `fidkit fail` raise what it is given."""

    def install(error: BaseException) -> None:
        app = typer.Typer()
        app.callback()(lambda: None)
        app.command("fail")(_raises(error))
        monkeypatch.setattr(cli, "application", lambda called: app)

    return install


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FidkitError("no such folder; make it"), 1, "error: no such folder; make it\n"),
        (UsageError("two\n  lines"), 2, "error: two lines\n"),
        (ZeroDivisionError("oh"), 1, "error: unexpected ZeroDivisionError: oh; run again with --debug\n"),
        (
            MemoryError("os error 12"),
            1,
            "error: there is no memory left (os error 12); close other programs, raise the limit of this "
            "process (ulimit -v), or read fewer passages\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_are_one_line(
    error: BaseException,
    code: int,
    line: str,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error)
    assert cli.run(["fail"]) == code
    assert capsys.readouterr() == ("", line)


def test_debug_adds_the_traceback_wherever_it_stands(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(FidkitError("no such folder; make it"))
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        with pytest.raises(SystemExit) as exit_info:
            cli.main(arguments)
        assert exit_info.value.code == 1
        err = capsys.readouterr().err
        assert err.startswith("Traceback")
        assert err.endswith("error: no such folder; make it\n")


def test_what_fidkit_has_to_say_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == cli.run(["--version"]) == 0  # said once, however often it runs
    capsys.readouterr()
    logging.getLogger("fidkit.native").info("building %s", "it")
    assert capsys.readouterr() == ("", "note: building it\n")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_that_wait_soon_give_their_core_up(
    given: dict[str, str], wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the person has said otherwise; said before anything loads OpenMP."""
    environment = dict(given)
    monkeypatch.setattr(cli.os, "environ", environment)
    monkeypatch.setattr(cli, "run", lambda *_, **__: 0)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert environment.get("GOMP_SPINCOUNT") == wanted


def test_a_verb_needs_none_of_the_others() -> None:
    """Each would cost the others its start-up: modules, options, and what these are made of."""
    script = (
        "import sys\n"
        "from fidkit.cli.app import VERBS, run\n"
        "run(['corpus', 'info', 'nowhere'])\n"
        "print([verb for verb in VERBS if f'fidkit.cli.{verb}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "['corpus']\n"


def test_answering_from_what_is_indexed_imports_little(tmp_path: Path) -> None:
    """Start-up is most of the time that a question to the bundled documents takes."""
    document = tmp_path / "club.md"
    document.write_text("# The rowing club\n\nThe boathouse opens at seven.\n")
    os.utime(document, (1e9, 1e9))  # what was written just now is looked at again
    unneeded = (
        *HEAVY[:1],
        "rich",
        "filelock",
        "huggingface_hub",
        "fidkit.cost",
        "fidkit.memory.store",
        "regex",
    )
    script = (
        "import sys\n"
        "from fidkit.cli.app import run\n"
        f"code = run(['ask', 'When does it open?', '--in', {str(tmp_path)!r}])\n"
        f"print(*[name for name in {unneeded!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    for _ in range(2):
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.splitlines()[-1] == ""
