"""Kernels that came with the package, and the compiler that comes from the package index."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fidkit.native import Kernels, binding, build, targets
from fidkit.native.targets import TARGETS, Target
from programs import run

ROOT = Path(__file__).parents[2]
ZIG = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="no package ziglang")

V2 = "pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
V3 = f"{V2} fma movbe avx f16c abm bmi1 avx2 bmi2"
V4 = f"{V3} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture(autouse=True)
def _unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    binding.kernels.cache_clear()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "home"))
    for name in ("CXX", "CXXFLAGS"):
        monkeypatch.delenv(name, raising=False)
    yield
    binding.kernels.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, machine: str, features: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    name = "flags\t\t" if machine == "x86_64" else "Features\t"
    monkeypatch.setattr(targets, "feature_line", lambda: f"{name}: {features}".encode())


@pytest.mark.parametrize(
    ("machine", "features", "best"),
    [
        ("x86_64", f"{V4} avx512_vnni avx512_bf16 amx_tile", "x86_64_v4+avx512vnni+avx512bf16"),
        ("x86_64", f"{V4} avx512_vnni", "x86_64_v4+avx512vnni"),
        ("x86_64", f"{V4} avx512_bf16", "x86_64_v4"),
        ("x86_64", V4, "x86_64_v4"),
        ("x86_64", V4.replace("avx512bw ", ""), "x86_64_v3"),
        ("x86_64", f"{V3} avx_vnni", "x86_64_v3+avxvnni"),
        ("x86_64", V3, "x86_64_v3"),
        ("x86_64", V3.replace("fma ", ""), "x86_64_v2"),
        ("x86_64", V2, "x86_64_v2"),
        ("x86_64", "pni", None),
        ("x86_64", "", None),
        ("aarch64", "fp asimd asimddp", "generic+dotprod"),
        ("aarch64", "fp asimd", "generic"),
        ("riscv64", V4, None),
    ],
)
def test_the_best_that_a_cpu_can_run(monkeypatch, machine: str, features: str, best: str | None) -> None:
    pretend(monkeypatch, machine, features)
    assert next((target.cpu for target in targets.of_this_machine()), None) == best


def shipped(monkeypatch: pytest.MonkeyPatch, folder: Path, *cpus: str) -> list[Path]:
    """Files as a wheel has them."""
    monkeypatch.setattr(targets, "SHIPPED", folder)
    paths = [Target(cpu, frozenset()).library for cpu in cpus]
    for path in paths:
        path.write_text("")
    return paths


def test_what_the_package_has_is_taken(monkeypatch, tmp_path: Path) -> None:
    """The best of what is there, and no compiler is asked for."""
    v2, v3 = shipped(monkeypatch, tmp_path, "x86_64_v2", "x86_64_v3")
    monkeypatch.setattr(build, "_compiler", lambda: pytest.fail("a compiler was looked for"))
    pretend(monkeypatch, "x86_64", f"{V4} avx512_vnni")
    assert build.library() == v3
    assert build.state() == f"of the package ({v3})"
    pretend(monkeypatch, "x86_64", V2)
    assert build.library() == v2


@pytest.mark.parametrize("name", ["CXX", "CXXFLAGS"])
def test_who_names_a_compiler_gets_what_it_makes(monkeypatch, tmp_path: Path, name: str) -> None:
    shipped(monkeypatch, tmp_path, *(target.cpu for target in TARGETS["x86_64"]))
    monkeypatch.setenv(name, "")
    monkeypatch.setattr(build, "_compiler", lambda: [sys.executable])
    monkeypatch.setattr(build, "_compile", lambda _, to: to.write_text("made"))
    assert build.library().read_text() == "made"


def test_where_nothing_suits_it_is_compiled(monkeypatch, tmp_path: Path) -> None:
    shipped(monkeypatch, tmp_path, "x86_64_v4")
    pretend(monkeypatch, "x86_64", V3)
    monkeypatch.setattr(build, "_compiler", lambda: [sys.executable])
    monkeypatch.setattr(build, "_compile", lambda _, to: to.write_text("made"))
    assert build.library().read_text() == "made"


# The compiler of the package index


def without_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "empty")


def test_neither_kernels_nor_compiler(monkeypatch, tmp_path: Path, caplog) -> None:
    without_compilers(monkeypatch, tmp_path)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert binding.kernels() is None
    [record] = caplog.records
    said = record.getMessage()
    assert "no C++ compiler (c++, g++, clang++)" in said
    assert "pip install 'fidkit[compiler]'" in said
    assert "pip install 'fidkit[torch]'" in said


def test_a_compiler_of_the_package_index_is_taken(monkeypatch, tmp_path: Path) -> None:
    """Where the system has none; what it keeps goes when it is done."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").write_text("")
    lines = ["#!/bin/sh", "echo kept > $ZIG_GLOBAL_CACHE_DIR/kept", "shift"]
    lines += [f'PATH={os.environ["PATH"]} exec {compiler} "$@"', ""]
    (package / "zig").write_text("\n".join(lines))
    (package / "zig").chmod(0o755)
    source = tmp_path / "kernels.cpp"
    source.write_text('#if FIDKIT_HALF == 0\nextern "C" int fidkit_version() { return 0; }\n#endif\n')
    monkeypatch.setattr(build, "SOURCE", source)
    monkeypatch.syspath_prepend(tmp_path)
    assert Path(build._compiler()[0]).resolve() == Path(compiler).resolve()
    without_compilers(monkeypatch, tmp_path)
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "")
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR")
    assert build._compiler() == [str(package / "zig"), "c++"]
    made = build.library()
    assert os.listdir(made.parent) == [made.name]


@ZIG
@pytest.mark.slow
def test_the_kernels_compiled_by_it(monkeypatch, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        without_compilers(patch, tmp_path)
        made = Kernels(build.library())
    wanted = Kernels(build.library())
    assert (made.lanes, made.has_bfloat16) == (wanted.lanes, wanted.has_bfloat16)
    gate, inner = (np.linspace(-3, 3, 1000, dtype=np.float32) for _ in range(2))
    np.testing.assert_allclose(
        made.gated_gelu(gate, inner.copy()), wanted.gated_gelu(gate, inner.copy()), rtol=1e-5, atol=1e-6
    )


# Wheels


def wheel(machine: str, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)]
    told = os.environ | {"FIDKIT_KERNELS": machine}
    return subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)


def test_a_wheel_for_any_machine(tmp_path: Path) -> None:
    assert wheel("", tmp_path).returncode == 0
    [made] = tmp_path.iterdir()
    assert made.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(made).namelist() if name.endswith(".so")]


def test_a_wheel_for_a_machine_that_is_not_known(tmp_path: Path) -> None:
    done = wheel("x86-64", tmp_path)
    assert done.returncode != 0
    assert "FIDKIT_KERNELS is 'x86-64'; expected one of x86_64, aarch64, or nothing" in done.stderr


@ZIG
@pytest.mark.slow
@pytest.mark.parametrize("machine", TARGETS)
def test_a_wheel_with_kernels(tmp_path: Path, machine: str) -> None:
    """They need nothing but a C library as old as the wheel's name says."""
    done = wheel(machine, tmp_path)
    assert done.returncode == 0, done.stderr
    [made] = tmp_path.iterdir()
    assert made.name.endswith(f"-py3-none-manylinux_2_17_{machine}.whl")
    with zipfile.ZipFile(made) as opened:
        opened.extractall(tmp_path)
    libraries = list((tmp_path / "fidkit/native/compiled").iterdir())
    assert {path.name for path in libraries} == {target.library.name for target in TARGETS[machine]}
    for path in libraries:
        needs = [
            line.split("[")[1][:-1] for line in run("readelf", "-d", path).splitlines() if "NEEDED" in line
        ]
        assert set(needs) <= {
            "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2",
            "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
        }  # fmt: skip
        shown = [
            line.split()[-1]
            for line in run("readelf", "--dyn-syms", "-W", path).splitlines()
            if " GLOBAL " in line and " UND " not in line
        ]
        assert shown
        assert all(name.startswith("fidkit_") for name in shown)
        versions = {word[6:] for word in run("readelf", "-V", path).split() if word.startswith("GLIBC_")}
        assert max(tuple(map(int, version.split("."))) for version in versions) <= (2, 17)


@ZIG
@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "target"),
    [(machine, target) for machine in TARGETS for target in TARGETS[machine]],
    ids=lambda of: getattr(of, "cpu", of),
)
def test_kernels_as_wheels_have_them(tmp_path: Path, machine: str, target: Target) -> None:
    """Compared with naive code: on this CPU, or on an emulated one."""
    emulator = []
    if machine != platform.machine():
        if shutil.which(f"qemu-{machine}") is None:
            pytest.skip(f"no qemu-{machine}")
        emulator = [f"qemu-{machine}"] + ([] if "dotprod" in target.cpu else ["-cpu", "cortex-a53"])
    elif target not in targets.of_this_machine():
        pytest.skip("no such CPU")
    program = tmp_path / "fuzz"
    run(
        sys.executable, "-m", "ziglang", "c++", *targets.FLAGS, "-g0", "-target", f"{machine}-linux-musl",
        "-static", f"-mcpu={target.cpu}", f"-I{targets.SOURCE.parent}", "-pthread",
        Path(__file__).with_name("fuzz.cpp"), "-o", program,
    )  # fmt: skip
    print(run(*emulator, program, "1", "60", "2"))
