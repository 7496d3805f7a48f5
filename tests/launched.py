"""Commands and groups of processes, from a process in which everything is imported already.

Importing torch anew takes each of them longer than its work. Tests of imports, and of what starts processes,
start their own.
"""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "fidkit.cli.app",
        "fidkit.train.loop.training",
        "fidkit.engine.answering",
        "torch._dynamo",  # each optimiser imports it
        "torch.distributed.fsdp",
    ]
)


def started(work: Callable[..., Any], *given: Any, says: Path, **environment: str) -> ForkServerProcess:
    """Begin `work(*given)` with more of an environment; what it prints is added to the file `says`."""
    told = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    process = _context.Process(target=_work, args=(work, given, says, told, os.getcwd(), sys.path))
    process.start()
    return process


def command(arguments: Sequence[str], says: Path, **environment: str) -> ForkServerProcess:
    """Begin `fidkit ARGUMENTS`."""
    return started(_fidkit, list(arguments), says=says, **environment)


def group(size: int, work: Callable[..., Any], *given: Any, says: Path) -> None:
    """Run `work(*given)` in processes that find one another as those of torchrun do.

    Raises:
        AssertionError: one of them failed; says what they printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    ranks = [
        started(work, *given, says=says, RANK=str(rank), LOCAL_RANK=str(rank), **place)
        for rank in range(size)
    ]
    for process in ranks:
        process.join(120)
    ended = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert ended == [0] * size, says.read_text(encoding="utf-8")[-3000:]


def _fidkit(arguments: list[str]) -> int:
    from fidkit.cli.app import run

    return run(arguments)


def _work(
    work: Callable[..., Any],
    given: tuple[Any, ...],
    says: Path,
    environment: dict[str, str],
    folder: str,
    path: list[str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    printed = os.open(says, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    code = 1
    try:
        code = work(*given) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
