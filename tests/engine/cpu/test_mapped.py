"""Weights that are mapped, and the room that others take: what goes wrong is said."""

import contextlib
import gc
import math
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from fidkit.checkpoint import WEIGHTS
from fidkit.checkpoint.files import locate, open_directory
from fidkit.checkpoint.shapes import shapes_of
from fidkit.checkpoint.stored import Weight, stored_weights
from fidkit.engine.cpu.reader import NativeReader
from fidkit.engine.cpu.weights import LaidOut, laid_out_bytes, to_int8
from fidkit.engine.schedule import room
from fidkit.errors import CheckpointError, UsageError
from fidkit.native import kernels
from forked import forked
from oracles import random_reader, small, stack

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


def saved(directory: Path) -> None:
    config = small(encoder=stack(head_width=16), decoder=stack(2, head_width=16))
    random_reader(config).save_pretrained(directory, dtype="int8")


def opened(directory: Path) -> NativeReader:
    saved(directory)
    return NativeReader.from_pretrained(open_directory(directory), kernels())


def read(made: NativeReader) -> np.ndarray:
    with made.at_work():
        return made.encode_passages(np.arange(2, 8).reshape(1, 6), np.array([6]))


@pytest.mark.parametrize("change", ["written to", "cut", "longer", "longer, as of before"])
def test_weights_that_change_while_they_are_mapped(tmp_path: Path, change: str) -> None:
    """In a child: what was cut ends a process that looks at it."""
    made = opened(tmp_path)
    with made.at_work():
        pass
    path = tmp_path / WEIGHTS
    before = path.stat()
    with path.open("r+b") as file:
        if change == "cut":
            file.truncate(4096)
        else:
            file.seek(-4 if change == "written to" else 0, os.SEEK_END)
            file.write(b"1234")
    if change == "longer, as of before":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def ask() -> None:
        with pytest.raises(CheckpointError, match="it was written to while a reader had it open"):
            read(made)

    assert forked(ask) == 0


def test_weights_that_change_while_a_question_is_answered(tmp_path: Path) -> None:
    made = opened(tmp_path)
    file = tmp_path / WEIGHTS
    with (
        pytest.raises(CheckpointError, match="it was written to while"),
        made.at_work(),
        file.open("ab") as end,
    ):
        end.write(b"1")


def test_weights_that_others_take_the_place_of_stay_as_they_were(tmp_path: Path) -> None:
    made = opened(tmp_path)
    before = read(made)
    saved(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert np.array_equal(read(made), before)


def test_files_of_a_reader_are_let_go_of_with_it(tmp_path: Path) -> None:
    made = opened(tmp_path)
    assert list(held(tmp_path / WEIGHTS))
    del made
    gc.collect()
    assert not list(held(tmp_path / WEIGHTS))


def held(path: Path) -> Iterator[int]:
    """What this process has open of a file."""
    for file in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file), path.stat()):
                yield file


def test_weights_without_room_say_how_much_they_need(tmp_path: Path, monkeypatch) -> None:
    """Known beforehand where it is much, else when memory ends."""
    saved(tmp_path)
    directory = open_directory(tmp_path)
    config = directory.config
    laid_out = sum(
        math.prod(shape)
        for name, shape in shapes_of(config).items()
        if name.startswith("live_encoder.layers")
        or "cross_attention.key" in name
        or "attention.value" in name
        if len(shape) == 2 and ".self_attention." not in name
    )
    weights = stored_weights(directory)
    assert laid_out_bytes(weights, "always") == laid_out
    assert laid_out_bytes(weights, "never") == 4 * laid_out
    floats = {name: Weight(weight.floats()) for name, weight in weights.items()}
    one = next(name for name in weights if name.endswith("cross_attention.key.weight"))
    mixed = floats | {one: to_int8(floats[one].values)}
    assert laid_out_bytes(floats, "lossless") == 4 * laid_out
    assert laid_out_bytes(mixed, "lossless") == 4 * laid_out - 3 * math.prod(weights[one].shape)
    monkeypatch.setattr(room, "_SMALL", 0)
    monkeypatch.setattr(room, "available_bytes", lambda: laid_out - 1)
    with pytest.raises(
        UsageError, match=r"there is no memory left for its weights, which need \d+ MB besides"
    ):
        NativeReader.from_pretrained(directory, kernels(), "int8")
    monkeypatch.setattr(room, "available_bytes", lambda: laid_out)
    NativeReader.from_pretrained(directory, kernels(), "int8")

    def full(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(LaidOut, "of", full)
    with pytest.raises(UsageError, match="there is no memory left for its weights"):
        NativeReader.from_pretrained(directory, kernels(), "int8")


@pytest.mark.parametrize("left", [0, 1.5], ids=["not once", "but for its header"])
def test_files_without_room_to_be_mapped(left: float) -> None:
    directory = open_directory(locate("pocket"))
    kernels()

    def limited() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + int(left * directory.weights.stat().st_size)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with pytest.raises(UsageError, match="there is no memory left to map it"):
            NativeReader.from_pretrained(directory, kernels())

    assert forked(limited) == 0
