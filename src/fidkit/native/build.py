"""The kernels as a library: those that came with the package, or compiled for this CPU and kept.

A wheel may bring kernels (`fidkit.native.targets`). Where it has none for this CPU, or the environment asks
for a compiler, they are compiled at first use: by the system's compiler, or the one of the package `ziglang`.

`CXX` names another compiler, with arguments if need be (`CXX="ccache g++"`), and `CXXFLAGS` adds to its
options, as usual: `CXXFLAGS=-march=x86-64-v3` builds for all CPUs with AVX2. Zig, which
spells that otherwise, is told its own name.

A compiled library is code that runs in this process. So it is loaded only from a directory that nobody else
can write: the user's own, of mode 0700, or root's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fidkit.home import home
from fidkit.native import targets
from fidkit.native.targets import LIBRARY, SOURCE, feature_line, shipped
from fidkit.paths import remove

log = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")
FLAGS = (*targets.FLAGS, "-march=native")
_LONGEST_BUILD_S = 300
_FAILED = ".failed"  # beside a library that could not be built: why
_ELF = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
# Where the header says where the table of sections begins, which is last, and how large it is.
_ELF_SECTIONS = ((40, 48), (58, 60), (60, 62))
_X86_LEVEL = re.compile(r"(?<=^-march=)x86-64(-v\d)?$")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class BuildError(Exception):
    """No compiler, or one that refuses; the message fits one line."""


def library() -> Path:
    """The compiled kernels: those of the package, or others, made now if they are not there yet.

    Two processes may build at once: each writes a file of its own and moves it into place.

    Raises:
        BuildError: there is no compiler, it fails, nothing can be written, or others could write there.
    """
    if found := _shipped():
        return found
    compiler = _compiler()
    path = _path(compiler)
    try:
        _claim(path.parent)
        if not (_is_safe(path) and _is_whole(path)):
            _leave_abandoned(path.parent)
            log.info(f"building the native kernels for this CPU, once; it takes some seconds{_narrow()}")
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                made = Path(scratch) / path.name
                try:
                    _compile(compiler, made)
                except BuildError as error:
                    path.with_suffix(_FAILED).write_text(str(error), encoding="utf-8")
                    raise
                made.chmod(0o700)
                if path.is_dir():
                    remove(path)
                made.replace(path)
                path.with_suffix(_FAILED).unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise BuildError(
            f"can't write {path} ({why}); set FIDKIT_HOME to a directory that can be written"
        ) from error
    return path


def state() -> str:
    """In words: built, to be built, or why not. Builds nothing."""
    if os.environ.get("FIDKIT_NATIVE") == "0":
        return "left out (FIDKIT_NATIVE=0)"
    if found := _shipped():
        return f"of the package ({found})"
    try:
        path = _path(_compiler())
        if path.parent.exists():
            _refuse_foreign(path.parent)
    except BuildError as error:
        return f"off: {error}"
    if _is_private(path.parent):
        if _is_safe(path) and _is_whole(path):
            return f"built ({path}){_narrow()}"
        with suppress(OSError, ValueError):
            failed = path.with_suffix(_FAILED).read_text(encoding="utf-8")
            return f"off: {failed}; they are built again at next use"
    return f"to be built at first use{_narrow()}"


def _shipped() -> Path | None:
    """Those of the package, unless the environment asks for others."""
    return None if {"CXX", "CXXFLAGS"} & os.environ.keys() else shipped()


def _path(compiler: Sequence[str]) -> Path:
    return home() / "native" / f"kernels-{_fingerprint(compiler)}.so"


def _claim(directory: Path) -> None:
    """Make the directory of builds, or sure that what is in it comes from us.

    What lies in one of ours that others could write to, or see being made, may be anybody's: it goes.

    Raises:
        BuildError: the directory is somebody else's, or others may put another one in its place.
        OSError: it can't be made.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    _refuse_foreign(directory)
    if _is_private(directory):
        return
    directory.chmod(0o700)
    if not _is_private(directory):
        raise _unsafe(directory, "others can write there, and its mode can't be changed")
    for entry in directory.iterdir():
        remove(entry)


def _refuse_foreign(directory: Path) -> None:
    """Raises BuildError where `directory` is somebody else's, or anybody may put another in its place."""
    if directory.stat().st_uid != os.getuid() and not _is_private(directory):
        raise _unsafe(directory, "it belongs to somebody else")
    for above in directory.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _unsafe(directory, f"anybody can write to {above}")


def _unsafe(directory: Path, why: str) -> BuildError:
    return BuildError(
        f"{directory} isn't safe to load code from: {why}; set FIDKIT_HOME to a directory that is yours alone"
    )


def _is_private(directory: Path) -> bool:
    """Whether it is ours and no matter to others, or root's and not to be written by others."""
    try:
        found = directory.stat()
    except OSError:
        return False
    mine = found.st_uid == os.getuid() and not found.st_mode & _OTHERS
    return mine or (found.st_uid == 0 != os.getuid() and not found.st_mode & _OTHERS_WRITE)


def _is_safe(library: Path) -> bool:
    """Whether there is a file, not a link, that is ours or root's and that nobody else can write."""
    try:
        found = library.lstat()
    except OSError:
        return False
    return (
        stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.getuid()) and not found.st_mode & _OTHERS_WRITE
    )


def _is_whole(library: Path) -> bool:
    """Whether a library has the length that its header says: one that was cut would end the process."""
    with library.open("rb") as file:
        header = file.read(64)
        length = os.fstat(file.fileno()).st_size
    if len(header) < 64 or header[:6] != _ELF:
        return length > 64  # another system's, which refuses what was cut by itself
    sections, size, count = (int.from_bytes(header[at:to], "little") for at, to in _ELF_SECTIONS)
    return length >= sections + size * count


def _leave_abandoned(directory: Path) -> None:
    """Remove what builds left that were killed; one that may still run is left alone."""
    for entry in directory.glob(f"{tempfile.gettempprefix()}*"):
        with suppress(OSError):
            if time.time() - entry.stat().st_mtime > 2 * _LONGEST_BUILD_S:
                remove(entry)


def _compiler() -> list[str]:
    """The compiler's command: a program that is there, and its first arguments."""
    wanted = os.environ.get("CXX", "").strip()
    given = [wanted] if shutil.which(wanted) else _split("CXX", wanted)  # a path may have spaces in it
    for command in [given] if wanted else [[name] for name in COMPILERS]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    if wanted:
        raise BuildError(f"no C++ compiler ({wanted}); install g++, or set CXX")
    if zig := _zig():
        return [zig, "c++"]
    raise BuildError(
        f"no C++ compiler ({', '.join(COMPILERS)}); get one with: pip install 'fidkit[compiler]', or let "
        "PyTorch do the work: pip install 'fidkit[torch]'"
    )


def _zig() -> str | None:
    """The program of the package `ziglang`, where it is installed: a C++ compiler and what belongs to it."""
    spec = importlib.util.find_spec("ziglang")
    folders = (spec and spec.submodule_search_locations) or ()
    return next((found for folder in folders if (found := shutil.which("zig", path=folder))), None)


def _split(name: str, value: str) -> list[str]:
    """Words as a shell would read them."""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise BuildError(f"{name} is {value!r}, which can't be read ({error}); close its quotes") from error


def _compile(compiler: Sequence[str], to: Path) -> None:
    """In two halves at once, which takes little more than half the time (kernels.cpp)."""
    from concurrent.futures import ThreadPoolExecutor  # for once: not each start has to import it

    def half(number: int) -> str:
        made = str(to.with_suffix(f".{number}.o"))
        _call(compiler, [f"-DFIDKIT_HALF={number}", "-c", str(SOURCE), "-o", made], to.parent)
        return made

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(half, range(2)))
    _call(compiler, [*halves, "-o", str(to)], to.parent)


def _call(compiler: Sequence[str], arguments: Sequence[str], scratch: Path) -> None:
    command = [*compiler, *_flags(compiler), *arguments]
    called = shlex.join(compiler)
    # Zig makes the standard library, too, and would keep it: nothing else is compiled here.
    told = {"ZIG_GLOBAL_CACHE_DIR": str(scratch), "ZIG_LOCAL_CACHE_DIR": str(scratch)} | os.environ
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST_BUILD_S, check=False, env=told
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{called} took more than {_LONGEST_BUILD_S} s") from error
    if done.returncode:
        raise BuildError(f"{called} failed: {_why(done.stderr) or f'exit status {done.returncode}'}")


def _why(said: str) -> str:
    """The line of what a compiler says that tells most."""
    # GCC says last that its linker failed, and the linker before why: no room, for one.
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("collect2:")]
    telling = next((line for line in lines if "error" in line or "No space left" in line), "")
    return telling or " ".join(lines)[:200]


def _fingerprint(compiler: Sequence[str]) -> str:
    """Of all that the machine code depends on: a home may be shared by machines of several kinds."""
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    except OSError as error:
        raise BuildError(
            f"{shlex.join(compiler)} can't be run ({error}); set CXX to a C++ compiler"
        ) from error
    sources = [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]
    parts = [
        *(source.read_bytes() for source in sources),
        shlex.join(_flags(compiler)).encode(),
        version,
        _cpu(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _flags(compiler: Sequence[str]) -> list[str]:
    given = _split("CXXFLAGS", os.environ.get("CXXFLAGS", ""))
    if any("zig" in Path(word).name for word in compiler):  # which calls x86-64-v3 x86_64_v3
        given = [_X86_LEVEL.sub(lambda found: found[0].replace("-", "_"), flag) for flag in given]
    return [*FLAGS, *LIBRARY, *given]


def _narrow() -> str:
    """What kernels take instead on an x86 CPU without AVX2, as the end of a sentence; nothing of others."""
    name, _, flags = _cpu().partition(b":")
    if name.strip() != b"flags" or b"avx2" in flags.split():
        return ""
    return "; this CPU has no AVX2, so they take narrower vectors and several times as long"


def _cpu() -> bytes:
    """What `-march=native` looks at: the instruction sets of this CPU."""
    return feature_line() or f"{platform.machine()} {platform.processor()}".encode()


if __name__ == "__main__":  # for `make`, while packages are installed; it needs none of them
    with suppress(BuildError):  # whoever needs kernels is told why there are none
        library()
