"""The check of hostile files: it finds what is right, and says what isn't."""

from pathlib import Path

import hostile
import pytest
from harm import good


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files, a hostile one, and one that nothing reads."""
    folder = tmp_path / "files"
    (name, data), (other, text) = list(good.files())[:2]
    for path, content in {
        f"good/00 {name}": data, f"good/01 {other}": text,
        "hostile/archives/a.zip/a.zip": b"PK", "hostile/texts/a.bin/a.bin": b"x",
    }.items():  # fmt: skip
        hostile._write(folder / path, content)
    (folder / "hostile/names and places").mkdir()
    return folder


def test_what_is_right(folder: Path) -> None:
    record, faults = hostile.check(folder)
    assert faults == []
    assert (record["hostile"], record["good"], record["left_out"]) == (2, 2, 2)


def test_what_is_wrong(folder: Path) -> None:
    (folder / "good/01 harbour.md").write_text("The keeper of harbour 02 is called Ada.")
    (_, faults) = hostile.check(folder)
    assert faults == ["good/01 harbour.md isn't as it should be: read"]


def test_all_kinds_are_made_and_good_ones_are_good() -> None:
    names = [name for name, _ in good.files()]
    assert len(names) == 50
    assert len({name.rpartition(".")[2] for name in names}) == 16
