"""Compiles the kernels for this CPU and keeps the result.

`CXX` names another compiler and `CXXFLAGS` adds to its options, as usual: `CXXFLAGS=-march=x86-64-v3` builds
for all CPUs with AVX2.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from fidkit.home import home

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
# Faster than -O3 to compile and no slower to run: the loops that matter are written out as vectors.
FLAGS = ("-std=c++17", "-O2", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared")
_LONGEST_BUILD_S = 300


class BuildError(Exception):
    """No compiler, or one that refuses; the message fits one line."""


def library() -> Path:
    """The compiled kernels, made now if they are not there yet.

    Two processes may build at once: each writes a file of its own and moves it into place.

    Raises:
        BuildError: there is no compiler, it fails, or nothing can be written.
    """
    compiler = _compiler()
    path = _path(compiler)
    if not path.exists():
        log.info("building the native kernels for this CPU, once; it takes some seconds")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                made = Path(scratch) / path.name
                _compile(compiler, made)
                made.replace(path)
        except OSError as error:
            raise BuildError(f"can't write {path}: {error}") from error
    return path


def state() -> str:
    """In words: built, to be built, or why not. Builds nothing."""
    if os.environ.get("FIDKIT_NATIVE") == "0":
        return "left out (FIDKIT_NATIVE=0)"
    try:
        path = _path(_compiler())
    except BuildError as error:
        return f"off: {error}"
    return f"built ({path})" if path.exists() else "to be built at first use"


def _path(compiler: str) -> Path:
    return home() / "native" / f"kernels-{_fingerprint(compiler)}.so"


def _compiler() -> str:
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else COMPILERS:
        if found := shutil.which(name):
            return found
    raise BuildError(f"no C++ compiler ({wanted or ', '.join(COMPILERS)}); install g++, or set CXX")


def _compile(compiler: str, to: Path) -> None:
    command = [compiler, *_flags(), "-fopenmp", str(SOURCE), "-o", str(to)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_BUILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{compiler} took more than {_LONGEST_BUILD_S} s") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise BuildError(f"{compiler} failed: {said or f'exit status {done.returncode}'}")


def _fingerprint(compiler: str) -> str:
    """Of all that the machine code depends on: a home may be shared by machines of several kinds."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    parts = [SOURCE.read_bytes(), " ".join(_flags()).encode(), version, _cpu()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _flags() -> list[str]:
    return [*FLAGS, *shlex.split(os.environ.get("CXXFLAGS", ""))]


def _cpu() -> bytes:
    """What `-march=native` looks at: the instruction sets of this CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    return b"".join(next(([line] for line in lines if line.startswith((b"flags", b"Features"))), []))
