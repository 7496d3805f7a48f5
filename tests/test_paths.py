import os
from pathlib import Path

import pytest

from fidkit.paths import foreign_entry, is_own_file, is_plain_name, is_whole_number, remove


@pytest.mark.parametrize("name", ["shard-1.safetensors", "a b", "..a", "a..", "\N{SNOWMAN}", "x" * 255])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../a",
        "/etc/passwd",
        "a\\b",
        "C:a",
        "a\0",
        "x" * 256,
        "\ud800",
        b"a",
        None,
        1,
        ["a"],
    ],
)
def test_what_is_no_plain_name(name: object) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (0, True),
        (7, True),
        (2**62 - 1, True),
        (2**62, False),
        (-1, False),
        (True, False),
        (1.0, False),
        ("1", False),
    ],
)
def test_whole_numbers(value: object, is_one: bool) -> None:
    assert is_whole_number(value) is is_one


def test_own_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    there = {path.name: is_own_file(path) for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "a\0")}
    assert [name for name, is_own in there.items() if is_own] == ["file"]
    assert foreign_entry(tmp_path) == "link"
    remove(tmp_path / "link")
    remove(tmp_path / "pipe")
    assert foreign_entry(tmp_path) is None


def test_to_remove_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    remove(tmp_path / "folder")
    remove(tmp_path / "nothing")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]
