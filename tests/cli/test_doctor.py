"""`fidkit doctor`."""

import json
from pathlib import Path

import pytest

from fidkit import FidkitError, __version__, assets
from fidkit.cli.app import run


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("reader", "tokenizer_file", "documents"):
        monkeypatch.setattr(assets, name, lambda: tmp_path)


@pytest.mark.usefixtures("bundled")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert report["ok"]
    assert report["fidkit"] == __version__
    assert report["packages"]["torch"]
    assert report["devices"][0]["name"] == "cpu"
    assert report["threads"] >= 1
    assert report["disk_free_bytes"] > 0


@pytest.mark.usefixtures("bundled")
def test_text_has_a_row_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"fidkit", "python", "torch", "cpu", "threads", "home", "reader", "documents"} <= set(names)


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize("writable", [True, False])
def test_a_home_that_can_not_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], writable: bool
) -> None:
    above = tmp_path / "above"
    above.mkdir() if writable else above.touch(0o777)  # a file that may be run is no folder
    monkeypatch.setenv("FIDKIT_HOME", str(above / "home"))
    run(["doctor"])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("home ")]
    assert str(above / "home") in row
    assert ("GB free" in row, "set FIDKIT_HOME" in row) == (writable, not writable)
    run(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)["home_writable"] is writable


@pytest.mark.usefixtures("bundled")
def test_what_is_missing_comes_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> Path:
        raise FidkitError("gone")

    monkeypatch.setattr(assets, "reader", absent)
    requires = [
        "torch>=2",
        "surely-absent>=1",
        "neither-there>=2; extra == 'serve'",
        "pytest; extra == 'dev'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: requires)
    assert run(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert report["missing"] == [
        {"what": "surely-absent", "needed": True, "mend": "pip install surely-absent"},
        {"what": "bundled reader", "needed": True, "mend": "pip install --force-reinstall fidkit"},
        {"what": "neither-there (serve)", "needed": False, "mend": "pip install 'fidkit[serve]'"},
    ]
