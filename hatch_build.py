"""Wheels with compiled kernels: `FIDKIT_KERNELS=x86_64 pip wheel --no-deps .`, or `aarch64`.

Without `FIDKIT_KERNELS` a wheel is for any machine, and the kernels are compiled at first use. With it they
are compiled here for several kinds of CPU, by the compiler of the package `ziglang`, which builds for either
machine on any other. What it links is the system's C library alone, as old as manylinux_2_17 says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASKED = "FIDKIT_KERNELS"
GLIBC = (2, 17)
EXPORTS = "exports.map"


class KernelsHook(BuildHookInterface[Any]):
    """Adds the kernels of one kind of machine to a wheel, if asked to."""

    def dependencies(self) -> list[str]:
        return ["ziglang>=0.14"] if os.environ.get(ASKED) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        machine = os.environ.get(ASKED)
        if not machine or version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from fidkit.native import targets  # after src is on the path

        if machine not in targets.TARGETS:
            known = ", ".join(targets.TARGETS)
            raise SystemExit(f"{ASKED} is {machine!r}; expected one of {known}, or nothing")
        folder = Path(self.root) / "build" / "kernels" / machine
        folder.mkdir(parents=True, exist_ok=True)
        # Nothing else is to be seen from outside: a process may have another C++ library.
        (folder / EXPORTS).write_text("{ global: fidkit_*; local: *; };\n")

        kinds = targets.TARGETS[machine]
        objects = [folder / f"{target.library.stem}.o" for target in kinds]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda *each: _compile(targets, machine, *each), kinds, objects))
        for target, compiled in zip(kinds, objects, strict=True):
            made = folder / target.library.name
            _link(targets, machine, compiled, made)
            build_data["force_include"][str(made)] = f"fidkit/native/compiled/{made.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"


def _compile(targets: ModuleType, machine: str, target: Any, to: Path) -> None:
    options = [*targets.FLAGS, *(option for option in targets.LIBRARY if option != "-shared")]
    _zig(machine, to, ["-c", f"-mcpu={target.cpu}", *options, str(targets.SOURCE)])


def _link(targets: ModuleType, machine: str, compiled: Path, to: Path) -> None:
    # The standard library that is linked is that of the least CPU, whatever the kernels are for: it takes
    # longer to compile than they do, and so it is compiled once for all.
    options = [f"-mcpu={targets.TARGETS[machine][-1].cpu}", *targets.LIBRARY, "-s"]
    _zig(machine, to, [*options, f"-Wl,--version-script={to.with_name(EXPORTS)}", str(compiled)])


def _zig(machine: str, to: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ziglang", "c++", *arguments, "-o", str(to)]
    command += ["-target", f"{machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"]
    # Kept beside what it makes, for the next library.
    cache = str(to.parent.parent / "zig")
    told = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{to.name} can't be compiled:\n{done.stderr}")
