"""Loaders that do what they shouldn't: a file's first word says what. For tests of what is read apart."""

import ctypes
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.document import Box, Document, Writer
from fidkit.passages.load.members import Members


def read(stream: BinaryIO, name: str) -> Iterator[Document]:
    """`paged` files have pages divided by form feeds; the other words are what goes wrong."""
    word, _, rest = stream.read().decode().partition(" ")
    yield from ODD[word](rest, name)


def paged(rest: str, _: str) -> Iterator[Document]:
    """A box a word, 10 by 6 points, on lines of ten words."""
    writer = Writer()
    for number, page in enumerate(rest.split("\f"), start=1):
        writer.begin("page", str(number))
        start = len(writer)
        writer.block(page)
        at = 0
        for word, text in enumerate(page.split()):
            at = page.index(text, at)
            left, top = 12.0 * (word % 10), 20.0 * (word // 10)
            bounds = (start + at, start + at + len(text))
            writer.boxes.append(Box(*bounds, number, left, top, left + 10, top + 6))
            at += len(text)
        writer.end()
    yield writer.document("A report", facts={"author": "Ada"}, notes=("page 9 has no text",))


def several(rest: str, _: str) -> Iterator[Document]:
    for part in rest.split("|"):
        member, _, text = part.partition("=")
        yield Document("", text, member=member)


def members(rest: str, _: str) -> Iterator[Document]:
    """Members by name, each with a word of this file and what follows it."""
    held = Members(io.BytesIO(rest.encode()), lambda name: read)
    for part in rest.split("|"):
        name, _, content = part.partition("=")
        yield from held.documents(name, read, content.encode)
    yield Document("", "", notes=held.notes("files"))


def crash(*_: str) -> Iterator[Document]:
    yield Document("", "what came before")
    ctypes.string_at(0)


def once(rest: str, _: str) -> Iterator[Document]:
    """Killed the first time; the first word is the path that tells."""
    path, _, text = rest.partition(" ")
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    yield Document("", text)


def hang(*_: str) -> Iterator[Document]:
    time.sleep(3600)
    yield Document("", "")


def drip(*_: str) -> Iterator[Document]:
    """No document takes long, and all of them do."""
    for number in range(100):
        time.sleep(0.1)
        yield Document("", f"text {number}", member=str(number))


def spin(*_: str) -> Iterator[Document]:
    while True:
        pass
    yield Document("", "")


def compute(rest: str, _: str) -> Iterator[Document]:
    """Takes as much processor time as the first word says, in seconds."""
    seconds, _, text = rest.partition(" ")
    until = time.process_time() + float(seconds)
    while time.process_time() < until:
        pass
    yield Document("", text)


def slow(rest: str, _: str) -> Iterator[Document]:
    """Hangs unless the file is there that the first word names."""
    path, _, text = rest.partition(" ")
    if not os.path.exists(path):
        time.sleep(3600)
    yield Document("", text)


def allocate(*_: str) -> Iterator[Document]:
    taken = []
    while True:
        taken.append(bytearray(10_000_000))
    yield Document("", "")


def fail(*_: str) -> Iterator[Document]:
    raise ZeroDivisionError("of nothing")
    yield Document("", "")


def leave(*_: str) -> Iterator[Document]:
    sys.exit(3)
    yield Document("", "")


def end(*_: str) -> Iterator[Document]:
    os._exit(3)
    yield Document("", "")


def kill(*_: str) -> Iterator[Document]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield Document("", "")


def noise(rest: str, _: str) -> Iterator[Document]:
    print("noise", flush=True)
    os.write(1, b"noise")
    os.write(2, b"noise")
    os.read(0, 10)
    yield Document("", rest)


def big(rest: str, _: str) -> Iterator[Document]:
    yield Document("", "".join(f"word{n} " for n in range(int(rest))))


def many(rest: str, _: str) -> Iterator[Document]:
    for number in range(int(rest)):
        yield Document("", f"text {number}", member=str(number))


def torn(*_: str) -> Iterator[Document]:
    yield Document("", "short", boxes=(Box(3, 99, 1, 0, 0, 1, 1),))


def missing(*_: str) -> Iterator[Document]:
    import no_such_package  # noqa: F401

    yield Document("", "")


def who(*_: str) -> Iterator[Document]:
    yield Document("", f"{os.getpid()}")


def heavy(*_: str) -> Iterator[Document]:
    """Takes 300 MB for a moment."""
    bytearray(300_000_000)[::4096] = bytes(73_243)
    yield from who()


_HOARD = []


def hoard(*_: str) -> Iterator[Document]:
    """Keeps 600 MB."""
    _HOARD.append(bytearray(600_000_000))
    yield from who()


def large(*_: str) -> Iterator[Document]:
    """Takes 600 MB for a moment."""
    bytearray(600_000_000)
    yield from who()


def growing(rest: str, name: str) -> Iterator[Document]:
    """The file changes while it is read, as often as its first word says."""
    times, _, path = rest.partition(" ")
    if int(times):
        with open(path, "w") as file:
            file.write(f"growing {int(times) - 1} {path}")
    yield Document("", f"changes left {times}")


def half(*_: str) -> Iterator[Document]:
    yield Document("", "a \ud800 half")


ODD = {name: function for name, function in globals().items() if callable(function)}
