"""Vectors on disk: refreshed equals fresh, whatever was done before; what is damaged is refused by name."""

import json
import os
import random
import signal
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fidkit.errors import CorpusError
from fidkit.passages.search import vector_writer
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vector_writer import VectorWriter
from fidkit.passages.search.vectors import INDEX, Vectors, entries, write_shard
from word_vectors import DIMENSION, WORDS, encoder, text


def written(directory: Path, passages: dict[int, str], base: Path | None = None, gone=()) -> VectorWriter:
    writer = VectorWriter(directory, encoder(), base)
    writer.remove(gone)
    writer.add((row, "", content) for row, content in passages.items())
    writer.finish()
    return writer


def content(directory: Path) -> dict[int, tuple[bytes, float, bytes, bytes]]:
    """Everything that is searched, by row."""
    found = {}
    for shard in Vectors(directory).shards:
        places = shard.live_places()
        shard.require(places)
        some = shard.entries.take(places)
        for at, row in enumerate(some.rows.tolist()):
            assert row not in found
            found[row] = (
                some.vectors[at].tobytes(), float(some.scales[at]), some.codes[:, at].tobytes(),
                some.keys[at].tobytes(),
            )  # fmt: skip
    return found


changes = st.lists(
    st.tuples(st.lists(st.integers(0, 59), max_size=30), st.lists(st.integers(0, 40), max_size=25)),
    min_size=1,
    max_size=4,
)


@given(changes, st.randoms(use_true_random=False))
def test_refreshed_equals_fresh_in_any_order(tmp_path_factory, steps, chance):
    """Removing, adding, taking back, adding under the same rows again; shards are joined and cut as well."""
    folder = tmp_path_factory.mktemp("vectors")
    kept: dict[int, str] = {}
    base = None
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_BATCH": 3, "_PART_ROWS": 7, "_SHARD_ROWS": 16}.items():
            patch.setattr(vector_writer, name, value)
        for number, (added, removed) in enumerate(steps):
            directory = folder / f"vectors-{number}"
            writer = VectorWriter(directory, encoder(), base)
            gone = set(removed) | set(added)
            writer.remove(gone)
            kept = {row: kept[row] for row in kept if row not in gone}
            for row in dict.fromkeys(added):
                kept[row] = text(row * (number + 1) % 50)
                writer.add([(row, "", "taken back")])
                writer.remove([row])
                writer.add([(row, "", kept[row])])
            writer.finish()
            base = directory
        order = list(kept)
        chance.shuffle(order)
        written(folder / "fresh", {row: kept[row] for row in order})
    assert base is not None
    assert content(base) == content(folder / "fresh")
    assert len(Vectors(base)) == len(kept)


def test_a_small_change_writes_little_and_encodes_only_what_is_new(tmp_path):
    passages = {row: text(row) for row in range(3000)}
    first = written(tmp_path / "a", passages)
    assert first.encoded == len(set(passages.values()))
    moved = {5000 + row: passages[row] for row in range(20)}
    second = written(tmp_path / "b", moved | {6000: "new words"}, tmp_path / "a", gone=range(20))
    assert second.encoded == 1
    assert written(tmp_path / "twice", {1: text(1), 2: text(1)}).encoded == 1
    [large, small] = Vectors(tmp_path / "b").shards
    assert (len(large), len(small)) == (2980, 21)
    assert large.path.stat().st_nlink == 2, "the large shard is the same file"
    assert small.path.stat().st_size < large.path.stat().st_size / 20
    assert len(content(tmp_path / "a")) == 3000, "the state before is as it was"


def test_finishing_takes_the_memory_of_a_few_shards_whatever_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_writer, "_PART_ROWS", 1024)
    monkeypatch.setattr(vector_writer, "_SHARD_ROWS", 200)
    writer = VectorWriter(tmp_path / "a", encoder(dimension=512))
    rows = [at * 7 % 5000 for at in range(5000)]  # parts have rows of all shards
    writer.add((row, "", text(row)) for row in rows)
    tracemalloc.start()
    writer.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    vectors = Vectors(tmp_path / "a")
    assert [len(shard) for shard in vectors.shards] == [200] * 25
    assert np.concatenate([shard.entries.rows for shard in vectors.shards]).tolist() == list(range(5000))
    assert peak < sum(shard.entries.vectors.nbytes for shard in vectors.shards) / 2


def test_many_small_changes_make_few_shards(tmp_path):
    base = None
    for number in range(40):
        written(tmp_path / str(number), {number * 5 + at: text(number * 5 + at) for at in range(5)}, base)
        base = tmp_path / str(number)
    assert len(Vectors(base).shards) <= 6


def test_past_a_share_of_removed_passages_a_shard_is_written_afresh(tmp_path):
    passages = {row: text(row) for row in range(100)}
    written(tmp_path / "a", passages)
    written(tmp_path / "b", {}, tmp_path / "a", gone=range(20))
    [patched] = Vectors(tmp_path / "b").shards
    assert len(patched.entries) == 100
    written(tmp_path / "c", {}, tmp_path / "b", gone=range(21))
    [fresh] = Vectors(tmp_path / "c").shards
    assert len(fresh.entries) == 79
    written(tmp_path / "d", {}, tmp_path / "c", gone=range(100))
    assert len(Vectors(tmp_path / "d")) == 0


KILLED = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from word_vectors import encoder, text
from fidkit.passages.search import vector_writer
vector_writer._PART_ROWS = 500
writer = vector_writer.VectorWriter(Path(sys.argv[1]), encoder(), Path(sys.argv[2]))
print("begun", flush=True)
writer.remove(range(0, 400))
writer.add((10_000 + n, "", text(3000 + n)) for n in range(6000))
writer.finish()
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 25))])
def test_a_kill_leaves_the_older_state_and_what_was_made(tmp_path, seed):
    written(tmp_path / "vectors-1", {row: text(row) for row in range(2000)})
    before, files = content(tmp_path / "vectors-1"), sorted((tmp_path / "vectors-1").iterdir())
    new = tmp_path / "vectors-2"
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(new),
        str(tmp_path / "vectors-1"),
        str(Path(__file__).parents[2]),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.wait(random.Random(seed).random() * 0.3)  # about what it takes
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.wait()
    assert content(tmp_path / "vectors-1") == before
    assert sorted((tmp_path / "vectors-1").iterdir()) == files
    if not (new / INDEX).exists():
        left = len(list(new.glob("shard-*")))
        writer = VectorWriter(new, encoder(), tmp_path / "vectors-1")
        writer.remove(range(400))
        writer.add((10_000 + n, "", text(3000 + n)) for n in range(6000))
        writer.finish()
        assert writer.encoded <= 6000 - 500 * left
    assert set(content(new)) == {*range(400, 2000), *range(10_000, 16_000)}
    assert {path.name for path in new.iterdir()} == {
        INDEX, *(shard.path.name for shard in Vectors(new).shards)
    }  # fmt: skip


def test_what_a_build_left_is_used_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_writer, "_BATCH", 10)
    monkeypatch.setattr(vector_writer, "_PART_ROWS", 50)
    ended = VectorWriter(tmp_path / "v", encoder())
    ended.add((n, "", text(n)) for n in range(170))
    shard = sorted((tmp_path / "v").glob("shard-*"))[0]
    flip(shard, -1)  # of no use any more, and no harm
    (tmp_path / "v" / "shard-half.part").write_bytes(b"half")
    following = written(tmp_path / "v", {1000 + n: text(n) for n in range(170)})
    assert following.encoded == 170 - 100
    assert set(content(tmp_path / "v")) == set(range(1000, 1170))
    with pytest.raises(FileExistsError):
        VectorWriter(tmp_path / "v", encoder())


def test_what_a_build_with_another_encoder_left_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_writer, "_PART_ROWS", 5)
    VectorWriter(tmp_path / "v", encoder(fingerprint="other")).add((n, "", text(n)) for n in range(9))
    assert list((tmp_path / "v").glob("shard-*"))
    assert written(tmp_path / "v", {n: text(n) for n in range(9)}).encoded == 9


def test_a_key_is_compared_whole(tmp_path):
    content = entries([1], [b"a" * 16], np.ones((1, 8), np.float32))
    known = vector_writer._Known([write_shard(tmp_path, "f", content)])
    assert known.find([b"a" * 8 + b"b" * 8, b"b" * 8 + b"a" * 8]) == ([], [0, 1])
    [(found, places)], missing = known.find([b"b" * 16, b"a" * 16])
    assert (found.vectors == content.vectors).all()
    assert (places.tolist(), missing) == ([1], [0])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_every_flipped_bit_is_noticed(tmp_path):
    """Where opening doesn't, looking at the vector does; all but what says nothing, as the order of types."""
    written(tmp_path / "v", {row: text(row) for row in range(12)})
    written(tmp_path / "w", {}, tmp_path / "v", gone=[1, 2])
    before, told = content(tmp_path / "w"), set()
    for path in (tmp_path / "w").iterdir():
        whole = path.read_bytes()
        path.unlink()  # a file of its own, not that of the other directory
        for at in range(0, len(whole), 1 if path.name == INDEX else 7):
            path.write_bytes(whole)
            flip(path, at)
            try:
                found = content(tmp_path / "w")
            except CorpusError as error:
                told.add(str(error))
                continue
            assert found == before, at
        path.write_bytes(whole)
    assert len(told) > 5
    assert all(("delete" in one or "upgrade" in one) and "\n" not in one for one in told)


def rewritten(path: Path, change) -> None:
    with safe_open(path, framework="np") as file:
        facts = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, facts)
    save_file(tensors, path, facts)


def test_damage_is_refused_by_name(tmp_path):
    def refused(message: str, change) -> None:
        directory = tmp_path / message.replace(" ", "-")
        written(directory, {row: text(row) for row in range(5)})
        change(directory)
        with pytest.raises(CorpusError, match=message):
            Vectors(directory)

    def shard(directory: Path) -> Path:
        return next(directory.glob("shard-*"))

    def newer(directory: Path) -> None:
        rewritten(directory / INDEX, lambda _, facts: facts.update(format_version="2"))

    def cut(directory: Path) -> None:
        os.truncate(shard(directory), shard(directory).stat().st_size - 10)

    def linked(directory: Path) -> None:
        path = shard(directory)
        path.symlink_to(path.rename(tmp_path / "elsewhere.safetensors"))

    def of_other(directory: Path) -> None:
        rewritten(directory / INDEX, lambda tensors, facts: lie(tensors, facts, dimension="99"))

    def outside(directory: Path) -> None:
        def change(tensors, facts):
            lie(tensors, facts, shards=json.dumps(["../x.safetensors"]))

        rewritten(directory / INDEX, change)

    def beyond(directory: Path) -> None:
        def change(tensors, facts):
            tensors[shard(directory).name] = np.array([1, 5], np.int64)
            lie(tensors, facts)

        rewritten(directory / INDEX, change)

    def short(directory: Path) -> None:
        rewritten(shard(directory), lambda tensors, _: tensors.update(scales=tensors["scales"][:-1]))

    refused("format version 2, this fidkit reads up to 1; upgrade", newer)
    refused("can't be read .*delete .* and build the corpus again", cut)
    refused("is a link or no file", linked)
    refused("shard-.* is missing", lambda directory: shard(directory).unlink())
    refused("are of another encoder", of_other)
    refused("says what can't be", outside)
    refused("doesn't have what was removed", beyond)
    refused("not of one length", short)
    with pytest.raises(FileNotFoundError):
        Vectors(tmp_path / "nowhere")


def lie(tensors, facts, **told: str) -> None:
    """What a stranger can do as well: another index with the right check."""
    facts.update(told)
    of = {key: facts[key] for key in sorted(facts) if key not in ("check", "format", "format_version")}
    check = zlib.crc32(json.dumps(of).encode())
    for name in sorted(tensors):
        check = zlib.crc32(tensors[name].tobytes(), zlib.crc32(name.encode(), check))
    facts["check"] = f"{check:08x}"


def test_another_encoder_or_dimension_is_refused(tmp_path):
    written(tmp_path / "v", {1: text(1)})
    for other, said in (
        (encoder(fingerprint="other"), "holds vectors of 'words' .* but the encoder is 'words'"),
        (encoder(dimension=32), rf"\({DIMENSION} numbers.*\(32 numbers"),
    ):
        with pytest.raises(CorpusError, match=said):
            VectorWriter(tmp_path / "w", other, tmp_path / "v")


@pytest.mark.parametrize(
    "made", [np.zeros((1, 3)), np.zeros((2, DIMENSION)), np.full((1, DIMENSION), np.nan)]
)
def test_what_an_encoder_gives_is_looked_at(tmp_path, made):
    broken = VectorEncoder("broken", "f", DIMENSION, lambda texts: made, lambda texts: made)
    with pytest.raises(CorpusError, match="encoder 'broken': expected 1 vectors"):
        VectorWriter(tmp_path / "v", broken).add([(1, "", WORDS[0])])


def test_a_vector_of_zeros_is_kept_as_it_is(tmp_path):
    nothing = VectorEncoder("zeros", "z", 3, *[lambda texts: np.zeros((len(texts), 3), np.float32)] * 2)
    writer = VectorWriter(tmp_path / "v", nothing)
    writer.add([(4, "a", "b")])
    writer.finish()
    [shard] = Vectors(tmp_path / "v").shards
    assert not shard.entries.vectors.any()
    assert shard.entries.scales[0] == 1
