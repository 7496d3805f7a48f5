"""Hostile names of files, and what isn't a file one can read: loops, pipes, devices, files that change."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEXT = b"The Aurora sailed in 1901.\n"
SPARSE_BYTES = 10_000_000_000
_ROWS = b"Ship,Masts\n" + b"Aurora,3\n" * 200
_ROUNDS = 100
_NAMES = {
    "a name with a line end": b"aurora\nleft out     good.txt: empty.txt",
    "a name with control characters": b"\x1b[2J\x07aurora\r.txt",
    "a name that turns round": "\u202etxt.exe\u2066.txt".encode(),
    "a name of 255 bytes": b"a" * 251 + b".txt",
    "a name that is no UTF-8": b"caf\xe9-\xff\xfe.txt",
    "a name of half characters": b"\xed\xa0\x80.txt",
    "a name of spaces": b"   .txt",
    "a name as an option": b"--help.txt",
    "a name as a template": b"%s{0}$HOME`id`.txt",
    "a name as a URL": b"http:..x.org.md",
    "a name of dots": b"...txt",
}


def make(folder: Path) -> None:
    """Make all of them, each in a folder of its own."""
    for what, name in _NAMES.items():
        here = _folder(folder, what)
        Path(os.fsdecode(os.path.join(os.fsencode(here), name))).write_bytes(TEXT)
    _links(folder)
    os.mkfifo(_folder(folder, "a pipe") / "pipe.txt")
    os.mkfifo(_folder(folder, "a pipe as passages") / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as bound, _within(_folder(folder, "a socket")):
        bound.bind("socket.txt")
    (_folder(folder, "a device") / "zero.txt").symlink_to("/dev/zero")
    (_folder(folder, "a device as PDF") / "random.pdf").symlink_to("/dev/urandom")
    (_folder(folder, "a folder named as a file") / "folder.pdf").mkdir()
    locked = _folder(folder, "no permission") / "locked.txt"
    locked.write_bytes(TEXT)
    locked.chmod(0)
    closed = _folder(folder, "a closed folder") / "closed"
    closed.mkdir()
    (closed / "a.txt").write_bytes(TEXT)
    closed.chmod(0)
    for ending in ("txt", "pdf", "jsonl", "zip", "csv", "docx", "tsv", "txt.gz"):
        with (_folder(folder, f"10 GB of nothing, {ending}") / f"sparse.{ending}").open("wb") as file:
            file.truncate(SPARSE_BYTES)
    deep = _folder(folder, "folders in one another")
    with _within(deep):
        for _ in range(400):
            os.mkdir("inner-folder")
            os.chdir("inner-folder")
        Path("deep.txt").write_bytes(TEXT)
    crowd = _folder(folder, "20,000 files")
    for number in range(20_000):
        (crowd / f"{number}.bin").touch()
    for change in CHANGES:
        here = _folder(folder, change)
        for number in range(40):
            (here / f"{number:02}.csv").write_bytes(_ROWS)


def _links(folder: Path) -> None:
    loop = _folder(folder, "links in a circle")
    (loop / "a.txt").symlink_to(loop / "b.txt")
    (loop / "b.txt").symlink_to(loop / "a.txt")
    (loop / "up").symlink_to(loop)
    (_folder(folder, "a link to nothing") / "gone.txt").symlink_to("/nowhere/at/all.txt")
    (_folder(folder, "a link to the root") / "root").symlink_to("/")
    (_folder(folder, "a link to a secret") / "host.txt").symlink_to("/etc/hostname")


def _folder(folder: Path, what: str) -> Path:
    here = folder / what
    here.mkdir(parents=True)
    return here


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _grow(file: Path) -> None:
    with file.open("ab") as raw:
        raw.write(b"Borealis,4\n")


def _rewrite(file: Path) -> None:
    file.write_bytes(b"Ship,Masts\n" + b"Borealis,4\n" * (1 + time.monotonic_ns() % 300))


def _vanish(file: Path) -> None:
    file.unlink()


def _empty(file: Path) -> None:
    os.truncate(file, 0)


CHANGES: dict[str, Callable[[Path], None]] = {
    "files that grow": _grow,
    "files that are written anew": _rewrite,
    "files that vanish": _vanish,
    "files that are emptied": _empty,
}
"""What happens to files while they are read, by their folder."""


@contextmanager
def changing(folder: Path, every: float = 0.005) -> Iterator[None]:
    """While the block runs, files of the folders in `CHANGES` change a few times, those read last first."""
    over = threading.Event()

    def work() -> None:
        for _ in range(_ROUNDS):
            for name, change in CHANGES.items():
                for file in sorted((folder / name).glob("*.csv"), reverse=True):
                    with suppress(OSError):
                        change(file)
                    if over.wait(every):
                        return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
