import errno
import multiprocessing
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from fidkit import disk
from fidkit.errors import CorpusError


def explained(directory):
    return disk.explained(directory, CorpusError, "corpus", after="it is as it was")


def said(error: Exception, tmp_path) -> str:
    with (
        pytest.raises(CorpusError) as caught,
        disk.explained(tmp_path, CorpusError, "corpus", after="it is as it was"),
    ):
        raise error
    return str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(tmp_path, number):
    assert "the disk is full" in said(OSError(number, os.strerror(number)), tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_fails(tmp_path, number):
    assert "check the disk and run" in said(OSError(number, os.strerror(number)), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "/data/full/disk"),
        sqlite3.OperationalError("database is locked"),
        disk.WriteError("something about a fully merged segment"),
    ],
)
def test_what_is_not_the_disk_s_fault(tmp_path, error):
    assert "mend that and run" in said(error, tmp_path)
    assert "disk is full" not in said(error, tmp_path)


def test_other_errors_are_not_explained(tmp_path):
    with (
        pytest.raises(ValueError, match="half a character"),
        explained(tmp_path),
    ):
        raise ValueError("half a character")


def test_sqlite_s_own_word_for_it(tmp_path):
    sql = sqlite3.connect(tmp_path / "x.sqlite")
    sql.execute("PRAGMA max_page_count = 2")
    sql.execute("CREATE TABLE t (x)")
    with (
        pytest.raises(CorpusError, match="the disk is full"),
        explained(tmp_path),
    ):
        sql.execute("INSERT INTO t VALUES (zeroblob(100000))")
    sql.close()


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_a_library_that_says_little_is_asked_for_by_free_bytes(tmp_path, monkeypatch, free):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert disk.is_full(RuntimeError("PytorchStreamWriter failed writing file"), tmp_path) == (free == 0)
    assert not disk.is_full(RuntimeError("shapes differ"), tmp_path)


def _hold(lock, holds) -> None:
    with disk.held(lock, CorpusError, "busy"):
        holds.set()
        multiprocessing.Event().wait()  # until it is killed


def test_a_lock_is_released_when_its_process_dies(tmp_path):
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "lock", holds))
    process.start()
    assert holds.wait(60)
    with pytest.raises(CorpusError, match="busy"), disk.held(tmp_path / "lock", CorpusError, "busy"):
        pass
    process.kill()
    process.join()
    with disk.held(tmp_path / "lock", CorpusError, "busy") as waited:
        assert not waited


def test_names_of_any_bytes_can_be_shown():
    assert disk.shown(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert disk.shown("caf\udcc3\udca9") == disk.shown("café") == "café"
    assert disk.shown("a\nb\tc\r\x1b\u202e") == r"a\nb\tc\u000d\u001b\u202e"


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"a\nb\tc\x1b", "\u202e.txt".encode(), rb"a\nb", "café".encode()]
)
def test_a_file_is_found_again_by_what_is_shown_of_its_name(tmp_path, name):
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    path.touch()
    assert disk.found_again(disk.shown(path)) == path
    gone = disk.shown(path.with_name(r"b\n"))
    assert disk.found_again(gone) == Path(gone)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_files_are_permitted_to_whom_others_of_this_process_are(tmp_path, mask, mode):
    path = tmp_path / "weights"
    path.touch(0o600)
    before = os.umask(mask)
    try:
        disk.permit(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights"]
