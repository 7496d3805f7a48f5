import logging
import subprocess
import sys
from pathlib import Path

import pytest

from fidkit.home import home
from fidkit.native import binding, build


@pytest.fixture(autouse=True)
def _unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    binding.kernels.cache_clear()
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "home"))
    yield
    binding.kernels.cache_clear()


def compiler(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A source that compiles at once."""
    source = tmp_path / "kernels.cpp"
    source.write_text('extern "C" int fidkit_version() { return 0; }\n')
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


@pytest.mark.parametrize(
    ("body", "said"),
    [("exit 1", "failed"), ("echo 'x.cpp:1: error: no such thing' >&2; exit 1", "error: no such thing")],
)
def test_a_compiler_that_fails(monkeypatch, tmp_path, caplog, body: str, said: str) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "broken", body))
    with caplog.at_level(logging.WARNING):
        assert binding.kernels() is None
        assert binding.kernels() is None
    [record] = caplog.records
    assert said in record.getMessage()
    assert "native kernels are off" in record.getMessage()


def test_no_compiler(monkeypatch, caplog) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert binding.kernels() is None
    assert "no C++ compiler (no-such-compiler); install g++, or set CXX" in caplog.text


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIDKIT_HOME", str(tmp_path / "file"))
    assert binding.kernels() is None
    assert "can't write" in caplog.text


def test_left_out_on_request(monkeypatch, caplog) -> None:
    monkeypatch.setenv("FIDKIT_NATIVE", "0")
    assert binding.kernels() is None
    assert not caplog.records


def test_two_processes_build_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXXFLAGS", "-O0")  # compiled sooner
    command = [sys.executable, "-c", "from fidkit.native import kernels; assert kernels() is not None"]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert len(list((home() / "native").iterdir())) == 1
