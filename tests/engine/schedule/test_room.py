"""Answers that can't fit are refused before anything is allocated."""

import re

import pytest
import torch

from fidkit.context import Context, collate
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.engine.schedule import room
from fidkit.engine.schedule.room import available_bytes, check_room
from fidkit.errors import UsageError
from fidkit.preset import PRESETS
from fidkit.reader import Reader

CPU = torch.device("cpu")


def read(questions: int = 1) -> tuple[Reader, Context]:
    reader = Reader(PRESETS["tiny-fid"]).eval()
    with torch.inference_mode():
        return reader, reader.read(collate([[5, 6]] * questions, [[[7, 8, 9]]] * questions))


@pytest.mark.parametrize(
    "decoding", [Decoding(beams=10**9), Decoding(temperature=1.0, n_best=10**9), Decoding(max_tokens=10**12)]
)
def test_refused_before_anything_is_allocated(decoding: Decoding) -> None:
    with pytest.raises(UsageError, match=r"GB more than the .* GB that are free; the (most|longest)"):
        generate(*read(questions=3), decoding)


@pytest.mark.parametrize("questions", [1, 3])
def test_the_most_that_fit(questions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_bytes", lambda device: 10**9)
    reader, context = read(questions)
    most = said(reader, context, Decoding(beams=10**9))
    check_room(reader.config, context, Decoding(beams=most))
    assert said(reader, context, Decoding(beams=most + 1)) == most
    longest = said(reader, context, Decoding(max_tokens=10**12))
    check_room(reader.config, context, Decoding(max_tokens=longest))
    assert said(reader, context, Decoding(max_tokens=longest + 1)) == longest


def said(reader: Reader, context: Context, decoding: Decoding) -> int:
    """The most that fit, as the error has it."""
    with pytest.raises(UsageError) as error:
        check_room(reader.config, context, decoding)
    [number] = re.findall(r"that fit (?:are|have) ([\d,]+)", str(error.value))
    return int(number.replace(",", ""))


def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_bytes", lambda device: 1000)
    for questions, remedy in ((2, "fewer questions"), (1, "fewer passages")):
        reader, context = read(questions)
        with pytest.raises(UsageError, match=remedy):
            check_room(reader.config, context, Decoding(beams=10**6))


def test_available_memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes(CPU) > 0
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(room, "_MEMORY", meminfo)
    monkeypatch.setattr(room, "_GROUP_LIMIT", limit)
    assert available_bytes(CPU) > 0  # neither file: all memory there is
    meminfo.write_text("MemTotal:  4000 kB\nMemAvailable:   2000 kB\n", encoding="utf-8")
    assert available_bytes(CPU) == int(2000 * 1024 * 0.95)
    limit.write_text("max\n", encoding="utf-8")
    assert available_bytes(CPU) == int(2000 * 1024 * 0.95)
    limit.write_text("1024000\n", encoding="utf-8")
    assert available_bytes(CPU) == int(1000 * 1024 * 0.95)
