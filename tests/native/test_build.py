import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fidkit.home import home
from fidkit.native import binding, build
from forked import forked


@pytest.fixture(autouse=True)
def _unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    binding.kernels.cache_clear()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "home"))
    yield
    binding.kernels.cache_clear()


LITTLE = '#if FIDKIT_HALF == 0\nextern "C" int fidkit_version() { return 0; }\n#endif\n'


def compiler(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A source that compiles at once, in halves."""
    source = tmp_path / "kernels.cpp"
    source.write_text(LITTLE)
    monkeypatch.setattr(build, "SOURCE", source)
    return source


def test_built_once(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.library()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("built again"))
    assert build.library() == first


def test_a_source_that_changes_is_built_again(little: Path) -> None:
    first = build.library()
    little.write_text(little.read_text() + "// changed\n")
    assert build.library() != first


def test_a_header_that_changes_is_built_again(little: Path) -> None:
    header = little.with_name("vectors.h")
    header.write_text("// one\n")
    first = build.library()
    header.write_text("// another\n")
    assert build.library() != first


def test_other_flags_and_another_cpu_have_builds_of_their_own(little: Path, monkeypatch) -> None:
    """A home may be shared by machines, and code for one CPU ends a process on another."""
    first = build.library()
    monkeypatch.setenv("CXXFLAGS", "-DOTHER")
    second = build.library()
    monkeypatch.setattr(build, "_cpu", lambda: b"flags : fpu")
    assert len({first, second, build.library()}) == 3


def test_zig_has_other_names_for_levels_of_x86(monkeypatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-march=x86-64-v3 -march=x86-64 -march=znver4 -DNAME=x86-64-v3")
    for compiler in (["/somewhere/zig", "c++"], ["python", "-m", "ziglang", "c++"]):
        assert build._flags(compiler)[-4:] == [
            "-march=x86_64_v3", "-march=x86_64", "-march=znver4", "-DNAME=x86-64-v3",
        ]  # fmt: skip
    assert build._flags(["/usr/bin/g++"])[-4:-2] == ["-march=x86-64-v3", "-march=x86-64"]


def test_state(little: Path, monkeypatch) -> None:
    assert build.state() == "to be built at first use"
    build.library()
    assert build.state().startswith("built (")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.state() == "off: no C++ compiler (no-such-compiler); install g++, or set CXX"
    monkeypatch.setenv("FIDKIT_NATIVE", "0")
    assert build.state() == "left out (FIDKIT_NATIVE=0)"


def test_building_is_said(little: Path, caplog) -> None:
    with caplog.at_level(logging.INFO):
        build.library()
        build.library()
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "building the native kernels for this CPU"
    ]


def test_kernels_of_another_version(little: Path, caplog) -> None:
    assert binding.kernels() is None
    assert "another version of fidkit" in caplog.text


def test_kernels_that_lack_one(little: Path, caplog) -> None:
    little.write_text(LITTLE.replace("return 0", f"return {binding._VERSION}"))
    assert binding.kernels() is None
    assert "another version of fidkit; delete it, and it is built again" in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 1", "failed"),
        ("echo 'x.cpp:1: error: no such thing' >&2; exit 1", "error: no such thing"),
        ("printf 'one\\ntwo' >&2; exit 1", "failed: one two"),
        (
            "printf 'ld: final link failed: No space left on device\\ncollect2: error: ld' >&2; exit 1",
            "failed: ld: final link failed: No space left on device",
        ),
    ],
)
def test_a_compiler_that_fails(monkeypatch, tmp_path, caplog, body: str, said: str) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "broken", body))
    with caplog.at_level(logging.WARNING):
        assert binding.kernels() is None
        assert binding.kernels() is None
    [record] = caplog.records
    assert said in record.getMessage()
    assert "native kernels are off" in record.getMessage()


def test_the_state_says_why_the_last_build_failed(little: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "bad", 'echo "x.h:1: error: no such header" >&2; exit 1'))
    assert build.state().startswith("to be built")
    with pytest.raises(build.BuildError, match="no such header"):
        build.library()
    assert build.state().startswith("off: ")
    assert "error: no such header; they are built again at next use" in build.state()
    monkeypatch.setattr(build, "_compile", lambda _, to: to.write_bytes(bytes(100)))
    build.library()
    assert build.state().startswith("built")
    assert [path.suffix for path in (home() / "native").iterdir()] == [".so"]


@pytest.mark.parametrize("left", [0, 10, 4096, -1])
def test_a_library_that_was_cut_is_built_again(little: Path, left: int) -> None:
    path = build.library()
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert build.state().startswith("to be built")
    assert build.library().read_bytes() == whole
    assert build.state().startswith("built")


def test_what_killed_builds_left_goes_with_the_next(little: Path, monkeypatch) -> None:
    path = build.library()
    old, running = path.parent / "tmpold", path.parent / "tmprunning"
    for directory in (old, running):
        directory.mkdir()
        (directory / "kernels.o").touch()
    os.utime(old, (0, 0))
    path.unlink()
    build.library()
    assert not old.exists()
    assert running.exists()


def test_no_compiler(monkeypatch, caplog) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert binding.kernels() is None
    assert "no C++ compiler (no-such-compiler); install g++, or set CXX" in caplog.text


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "file"))
    assert binding.kernels() is None
    assert "can't write" in caplog.text
    assert "(File exists); set FIDKIT_HOME to a directory that can be written" in caplog.text


def test_left_out_on_request(monkeypatch, caplog) -> None:
    monkeypatch.setenv("FIDKIT_NATIVE", "0")
    assert binding.kernels() is None
    assert not caplog.records


def test_processes_build_at_once(little: Path, tmp_path: Path) -> None:
    def work() -> None:
        while not (tmp_path / "go").exists():
            pass
        assert build.library().is_file()

    children = [threading.Thread(target=lambda: ended.append(forked(work))) for _ in range(3)]
    ended: list[int] = []
    for child in children:
        child.start()
    (tmp_path / "go").touch()
    for child in children:
        child.join()
    assert ended == [0, 0, 0]
    assert len(list((home() / "native").iterdir())) == 1


# Who else could have written it


def planted(path: Path) -> bytes:
    path.write_bytes(b"somebody else's")
    path.chmod(0o755)
    return path.read_bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_private_whatever_the_umask(little: Path) -> None:
    before = os.umask(0o002)
    try:
        made = build.library()
    finally:
        os.umask(before)
    assert (mode(made.parent), mode(made)) == (0o700, 0o700)


@pytest.mark.parametrize("open_to", [0o777, 0o775, 0o755])
def test_what_lies_in_a_directory_that_was_open_to_others_is_built_anew(little: Path, open_to: int) -> None:
    made = build.library()
    content = planted(made)
    planted(made.with_name("another.so"))
    made.parent.chmod(open_to)
    assert build.state() == "to be built at first use"
    assert build.library() == made
    assert made.read_bytes() != content
    assert (mode(made.parent), os.listdir(made.parent)) == (0o700, [made.name])


@pytest.mark.parametrize("unsafe", ["writable", "a link", "a folder"])
def test_a_library_that_others_could_write_is_built_anew(little: Path, tmp_path: Path, unsafe: str) -> None:
    made = build.library()
    content = made.read_bytes()
    planted(made)
    made.chmod(0o777)
    if unsafe == "a folder":
        made.unlink()
        made.mkdir()
    if unsafe == "a link":
        made.rename(tmp_path / "elsewhere.so")
        (tmp_path / "elsewhere.so").chmod(0o700)
        made.symlink_to(tmp_path / "elsewhere.so")
    assert build.library() == made
    assert (made.is_symlink(), made.read_bytes()) == (False, content)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("whose", ["directory", "library"])
def test_what_is_somebody_elses_is_not_loaded(little: Path, caplog, whose: str) -> None:
    made = build.library()
    content = planted(made)
    os.chown(made, 12345, 12345)
    if whose == "library":
        assert build.library() == made
        assert made.read_bytes() != content
        return
    os.chown(made.parent, 12345, 12345)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert binding.kernels() is None
    [record] = caplog.records
    assert "isn't safe to load code from: it belongs to somebody else" in record.getMessage()
    assert "set FIDKIT_HOME to a directory that is yours alone" in record.getMessage()
    assert build.state().startswith("off: ")


def test_where_anybody_may_exchange_the_directory_nothing_is_loaded(little: Path, caplog) -> None:
    build.library()
    home().chmod(0o777)
    assert binding.kernels() is None
    assert f"anybody can write to {home()}" in caplog.text
    home().chmod(0o1777)  # as /tmp: only its owner renames a folder
    assert build.library().exists()


# Commands of several words


def test_a_compiler_with_arguments(little: Path, monkeypatch, tmp_path: Path) -> None:
    cache = compiler(tmp_path / "ccache", f'echo "$@" >> {tmp_path}/called; exec "$@"')
    monkeypatch.setenv("CXX", f'{cache} g++ "-DTWO=2 words"')
    monkeypatch.setenv("CXXFLAGS", "-DQUOTED='a b' -g0")
    assert build.library().exists()
    called = (tmp_path / "called").read_text()
    assert "g++ -DTWO=2 words --version" in called
    assert "-DQUOTED=a b -g0" in called


def test_a_compiler_in_a_path_with_spaces(little: Path, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "my tools").mkdir()
    monkeypatch.setenv("CXX", compiler(tmp_path / "my tools" / "cc", 'exec g++ "$@"'))
    assert build.library().exists()


@pytest.mark.parametrize("name", ["CXX", "CXXFLAGS"])
def test_quotes_that_do_not_close(little: Path, monkeypatch, caplog, name: str) -> None:
    monkeypatch.setenv(name, "g++ 'x")
    assert binding.kernels() is None
    assert f"{name} is " in caplog.text
    assert "close its quotes" in caplog.text


def test_a_cache_without_its_compiler(little: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("CXX", "no-such-cache g++ -m64")
    assert binding.kernels() is None
    assert "no C++ compiler (no-such-cache g++ -m64); install g++, or set CXX" in caplog.text


@pytest.mark.parametrize("damage", ["no library", "foreign"])
def test_a_build_that_cannot_be_loaded_says_what_to_do(little: Path, caplog, damage: str) -> None:
    built = build.library()
    if damage == "no library":
        built.write_bytes(bytes(100))
    else:
        little.write_text(LITTLE.replace("fidkit_version", "another_library"))
        build.library().rename(built)
        little.write_text(LITTLE)
    assert binding.kernels() is None
    assert f"{built} can't be loaded" in caplog.text
    assert "delete it, and it is built again" in caplog.text
    built.unlink()
    assert build.library() == built


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"flags\t\t: fpu sse sse2 ssse3 avx", True),
        (b"flags\t\t: fpu sse avx2 fma", False),
        (b"Features\t: fp asimd asimddp", False),
        (b"aarch64 ", False),
    ],
)
def test_a_cpu_without_avx2_is_told_what_it_gets(
    little: Path, monkeypatch, caplog, line: bytes, said: bool
) -> None:
    monkeypatch.setattr(build, "_cpu", lambda: line)
    instead = "this CPU has no AVX2, so they take narrower vectors and several times as long"
    assert (instead in build.state()) == said
    with caplog.at_level(logging.INFO):
        build.library()
    assert (instead in caplog.text) == said
    assert build.state().startswith("built (")
    assert (instead in build.state()) == said


@pytest.mark.parametrize("body", ['while [ "$1" != -o ]; do shift; done; echo made > "$2"', "exit 1"])
def test_made_without_any_package(tmp_path: Path, body: str) -> None:
    """As `make` does it while packages are installed; where that fails, whoever needs kernels says so."""
    env = {
        "PYTHONPATH": str(Path(build.__file__).parents[2]),
        "FIDKIT_HOME": str(tmp_path / "home"),
        "CXX": compiler(tmp_path / "c++", f'[ "$1" = --version ] || {{ {body}; }}'),
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run([sys.executable, "-S", build.__file__], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = [path.read_text() for path in (tmp_path / "home" / "native").glob("*.so")]
    assert made == ([] if body == "exit 1" else ["made\n"])
