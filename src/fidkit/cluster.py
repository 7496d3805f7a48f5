"""Ray: whether work is done by it, and how it is started or joined.

Without the address of a cluster (`RAY_ADDRESS`) Ray is started on this machine, and ended afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from fidkit.errors import FidkitError, UsageError

By = Literal["local", "ray"]
"""Who does the work: processes on this machine, or Ray."""
_COLOUR = re.compile(r"\x1b\[\d+m")
_TRACE, _ANOTHER = "ray::", "The above exception was the direct cause of the following exception:"
"""In the texts of Ray's errors: the head of a traceback, and what stands between two of them."""
_MODULE = re.compile(r"^(?:fidkit\.[\w.]+: |(?:\w+\.)+(?=\w+: ))")
_LONGEST = 500


def require(by: str) -> None:
    """Refuse what nobody can do.

    Raises:
        UsageError: neither `local` nor `ray`, or Ray isn't installed.
    """
    if by not in ("local", "ray"):
        raise UsageError(f"--by is {by!r}; expected local or ray")
    if by == "ray":
        require_ray()


def require_ray() -> Any:
    """The module.

    Raises:
        UsageError: it isn't installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--by ray needs Ray, which is not installed; run `pip install 'fidkit[ray]'`, or leave --by out "
            "to build on this machine"
        ) from error
    return ray


@contextmanager
def joined(processors: int = 0) -> Iterator[Any]:
    """Ray, started or joined; left as it was found.

    Args:
        processors: that a Ray of this machine has at least, whatever it has really.

    Yields:
        The module.

    Raises:
        UsageError: it isn't installed.
        FidkitError: it can't be started or joined.
    """
    ray = require_ray()
    own = not ray.is_initialized()
    try:
        if own:
            _start(ray, processors)
        yield ray
    finally:
        if own:
            ray.shutdown()


def _start(ray: Any, processors: int) -> None:
    address = os.environ.get("RAY_ADDRESS")
    here = {"num_cpus": max(processors, os.cpu_count() or 1), "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **({} if address else here))
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        what = f"joined at RAY_ADDRESS, which is {address!r}" if address else "started"
        raise FidkitError(f"Ray can't be {what} ({said}); mend that, or leave --by out") from error


def sentence_of(error: BaseException) -> str:
    """What went wrong in a task or a worker of Ray, below all that Ray says around it, on one line."""
    below = error
    while (inner := getattr(below, "cause", None) or below.__cause__) is not None:
        below = inner
    text = _COLOUR.sub("", str(error))
    if isinstance(below, FidkitError):
        said = str(below)
    elif not type(below).__module__.startswith("ray."):
        said = f"{type(below).__name__}: {below}"
    elif _TRACE in text:  # the exception itself stayed behind in its process
        said = _last_line(text)
    else:
        said = f"{type(below).__name__}: {text.strip().partition(chr(10))[0]}"
    return " ".join(said.split())[:_LONGEST]


def _last_line(text: str) -> str:
    """The exception that a traceback ends with; of those that caused one another, of the last but one."""
    *causes, last = text.split(_ANOTHER)
    lines: list[str] = []
    for line in reversed((causes[-1] if causes else last).strip().splitlines()):
        if line.startswith(" ") or _TRACE in line:
            break
        lines.insert(0, line)
    return _MODULE.sub("", "\n".join(lines))
