"""Damage: found, named, mended, and never read."""

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import warnings

import pytest
import torch

from fidkit.errors import MemoryStoreError
from fidkit.memory import MemoryStore, MemoryWriter
from fidkit.memory.pq import train_pq
from forked import forked
from memory.toy import WIDTH, key, row, write_shard

ROWS = 10
INDEX, RECORDS = 1024, 1024 + 28 * ROWS


def keys(numbers):
    return [key(number) for number in numbers]


def flip(at):
    def change(path):
        packed = bytearray(path.read_bytes())
        packed[at] ^= 1
        path.write_bytes(packed)

    return change


def truncate(path):
    os.truncate(path, path.stat().st_size - 9)


DAMAGES = {
    "a bit of a row": (flip(RECORDS + 4), "the checksum of 1 of its 10 rows is wrong"),
    "a bit of the checksums": (flip(INDEX), "the checksum of its index is wrong"),
    "a bit of the keys": (flip(RECORDS - 1), "the checksum of its index is wrong"),
    "a bit of the header": (flip(30), "its header"),
    "truncated": (truncate, "bytes, not as many as its header says"),
    "empty": (lambda path: os.truncate(path, 0), "is no shard, or cut short"),
    "deleted": (lambda path: path.unlink(), "there is no such file"),
    "another file": (lambda path: path.write_bytes(b"{}" * 5000), "is no shard"),
    "newer": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'version":"1"', b'version":"2"')),
        "format version 2, this fidkit reads up to 1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_its_shard_alone_is_made_again(build, damage):
    corpus = build(range(ROWS), range(10, 20))
    change, reason = DAMAGES[damage]
    with MemoryStore.open(corpus) as store:
        name = store.find([key(3)]).places[0].shard
        change(corpus / "memory" / name)
        seen = []
        ((shard, said),) = store.check(lambda *at: seen.append(at))
        assert (shard, seen) == (name, [(0, 2), (1, 2), (2, 2)])
        assert reason in said
    with MemoryWriter.opened(corpus) as writer:
        assert [shard for shard, _ in writer.repair()] == [name]
        assert not (writer.directory / name).exists()
        missing = list(writer.missing(keys(range(20))))
        assert missing == keys(range(10))
        writer.commit(write_shard(writer, range(10)))
        assert (writer.directory / name).exists()
    with MemoryStore.open(corpus) as store:
        assert store.check() == []
        assert torch.equal(store.get(keys(range(20)))[0], torch.cat([row(n) for n in range(20)]))


@pytest.mark.parametrize("damage", ["a bit of a row", "truncated", "deleted"])
def test_damaged_rows_are_lost_and_named_once(build, damage):
    """Row 0 is damaged by a flipped bit, row 9 by truncation, and all ten when their shard is gone."""
    corpus = build(range(ROWS), range(10, 20))
    with MemoryStore.open(corpus) as store:
        name = store.find([key(3)]).places[0].shard
        DAMAGES[damage][0](corpus / "memory" / name)
        lost = {"a bit of a row": [0], "truncated": [9], "deleted": list(range(10))}[damage]
        numbers = [15, *range(10), 16]
        located = store.find(keys(numbers))
        with pytest.warns(RuntimeWarning, match=f"{name}.*fidkit memory check .* --repair") as warned:
            fetched = store.fetch(located, torch.float32).result()
        assert len(warned) == 1
        assert fetched.lost == [1 + number for number in lost]
        expected = [torch.zeros_like(row(n)) if n in lost else row(n) for n in numbers]
        assert torch.equal(fetched.memory_XD, torch.cat(expected))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it was said once
            memory, lengths = store.get(keys(numbers))
        assert [n for n, length in zip(numbers, lengths, strict=True) if not length] == lost
        assert torch.equal(memory, torch.cat([row(n) for n in numbers if n not in lost]))


@pytest.mark.parametrize("codec", ["bf16", "int8", "pq"])
def test_lost_rows_are_zeros_in_every_codec(build, tmp_path, codec):
    train_pq(torch.randn(100, WIDTH), codes=50).save(tmp_path / "corpus" / "memory")
    corpus = build(range(ROWS), codec=codec)
    with MemoryStore.open(corpus) as store:
        flip(RECORDS)(corpus / "memory" / store.find([key(3)]).places[0].shard)
        whole = store.fetch(store.find(keys([1, 2])), torch.float32).result()
        with pytest.warns(RuntimeWarning, match="checksum"):
            fetched = store.fetch(store.find(keys([1, 99, 0, 2])), torch.float32).result()
        assert fetched.lost == [2]
        records = store.fetch(store.find([key(0)])).result()
        assert not records.memory_XD.view(torch.uint8).any()
        expected = whole.memory_XD.split([len(row(1)), len(row(2))])
        assert torch.equal(fetched.memory_XD, torch.cat([expected[0], torch.zeros_like(row(0)), expected[1]]))


def test_a_shard_mended_under_a_reader_is_read_again(build):
    """The new file has the same name; the reader had the damaged one open."""
    corpus = build(range(ROWS))
    with MemoryStore.open(corpus) as store:
        path = corpus / "memory" / store.find([key(0)]).places[0].shard
        flip(RECORDS + 4)(path)
        with pytest.warns(RuntimeWarning):
            assert store.get([key(0)])[1] == [0]
        with MemoryWriter.opened(corpus) as writer:
            writer.repair()
            writer.commit(write_shard(writer, range(ROWS)))
        assert torch.equal(store.get([key(0)])[0], row(0))


def test_a_row_found_before_a_compaction_is_found_again(build):
    corpus = build(range(ROWS), range(10, 20))
    with MemoryStore.open(corpus) as store:
        located = store.find(keys([1, 12]))
        with MemoryWriter.opened(corpus) as writer:
            writer.keep_only(keys([1, 12]))
            assert writer.compact().shards_deleted == 2
        fetched = store.fetch(located).result()
        assert fetched.lost == []
        assert torch.equal(fetched.memory_XD, torch.cat([row(1), row(12)]))


def test_deleted_shards_give_their_space_back_while_a_reader_is_open(build):
    corpus = build(range(ROWS))
    with MemoryStore.open(corpus) as store:
        store.get(keys(range(ROWS)))
        with MemoryWriter.opened(corpus) as writer:
            writer.keep_only(keys([1]))
            writer.compact()
        store.find([key(1)])
        links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{name}")]  # fmt: skip
        assert not [link for link in links if link.startswith(str(corpus)) and link.endswith("(deleted)")]


def test_rows_that_the_manifest_does_not_agree_with_are_damage(build):
    corpus = build(range(ROWS))
    with sqlite3.connect(corpus / "memory" / "manifest.sqlite") as sql:
        sql.execute("UPDATE rows SET crc = crc + 1 WHERE key = ?", (key(4),))
    sql.close()
    with MemoryStore.open(corpus) as store:
        assert [reason for _, reason in store.check()] == ["its rows are not those that the manifest knows"]


def test_a_newer_memory_is_refused_with_both_versions(build):
    corpus = build(range(3))
    with sqlite3.connect(corpus / "memory" / "manifest.sqlite") as sql:
        sql.execute("UPDATE meta SET value = '7' WHERE key = 'format_version'")
    sql.close()
    for use in (MemoryStore.open, lambda corpus: MemoryWriter.opened(corpus).__enter__()):
        with pytest.raises(MemoryStoreError, match="format version 7, this fidkit reads up to 1; upgrade"):
            use(corpus)


@pytest.mark.parametrize("damage", [b"no database at all" * 300, b""])
def test_a_damaged_manifest_is_said(build, damage):
    corpus = build(range(3))
    for path in corpus.glob("memory/manifest.sqlite*"):
        path.unlink()
    (corpus / "memory" / "manifest.sqlite").write_bytes(damage)
    with pytest.raises(MemoryStoreError, match=r"(delete the directory and|it with `fidkit memory) build"):
        MemoryStore.open(corpus)


# Disks


def fill(path):
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def test_a_full_disk_is_said_before_anything_is_encoded_and_costs_nothing(small_disk, build):
    corpus = shutil.copytree(build(range(ROWS)), small_disk / "corpus")
    with MemoryWriter.opened(corpus) as writer:
        with pytest.raises(
            MemoryStoreError,
            match=r"the disk is full .* MB free, .* MB are needed for the next shard.*free some",
        ):
            write_shard(writer, range(100, 500), width=960)
        assert not list(writer.directory.glob("*.part"))
        writer.commit(write_shard(writer, range(10, 20)))
    with MemoryStore.open(corpus) as store:
        assert store.info.rows == 20
        assert store.check() == []


def test_a_disk_too_full_for_the_manifest(small_disk, build):
    corpus = shutil.copytree(build(range(ROWS)), small_disk / "corpus")
    with MemoryWriter.opened(corpus) as writer:
        path = write_shard(writer, range(10, 1000))
        fill(small_disk / "filler")
        with pytest.raises(MemoryStoreError, match="the disk is full"):
            writer.commit(path)
        assert [shard.rows for shard in writer.shards()] == [10]
        (small_disk / "filler").unlink()
        writer.commit(path)
    with MemoryStore.open(corpus) as store:
        assert store.info.rows == 1000
        assert store.check() == []


def test_file_size_limits_count_as_full(build, capfd):
    corpus = build(range(3))

    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with MemoryWriter.opened(corpus) as writer:
            write_shard(writer, range(1000))

    assert forked(child) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert "MemoryStoreError" in last
    assert "the disk is full or the file too large" in last


def test_a_read_only_memory_can_be_read(small_disk, build):
    corpus = shutil.copytree(build(range(ROWS)), small_disk / "corpus")
    for path in corpus.glob("memory/manifest.sqlite-*"):
        path.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with MemoryStore.open(corpus) as store:
        assert torch.equal(store.get([key(3)])[0], row(3))
        assert store.check() == []
    with pytest.raises(MemoryStoreError, match="can't be written"):
        MemoryWriter.opened(corpus).__enter__()


# Readers while a writer is at work


def churn(corpus, stop, seed=0):
    """Commits, removes and compacts until told to stop; never a row of the first ten."""
    generator = torch.Generator().manual_seed(seed)
    rounds = 0
    with MemoryWriter.opened(corpus) as writer:
        while not stop.is_set():
            first = 10 + int(torch.randint(0, 80, (), generator=generator))
            writer.commit(write_shard(writer, [*range(rounds % 10), *range(first, first + 10)]))
            kept = torch.randperm(90, generator=generator)[:30].tolist()
            writer.keep_only(keys([*range(10), *(10 + number for number in kept)]))
            writer.compact(shard_bytes=2000)
            rounds += 1
    return rounds


def test_every_row_is_what_its_key_says_whatever_a_writer_does(build):
    corpus = build(*([number] for number in range(10)), range(10, 60))
    stop, problems, fetched = threading.Event(), [], [0]

    def read(seed):
        generator = torch.Generator().manual_seed(seed)
        with warnings.catch_warnings(), MemoryStore.open(corpus, threads=4) as store:
            while not stop.is_set():
                numbers = torch.randperm(100, generator=generator)[:30].tolist()
                located = store.find(keys(numbers))
                result = store.fetch(located, torch.float32).result()
                parts = result.memory_XD.split([length for length in located.lengths if length])
                found = [at for at, place in enumerate(located.places) if place]
                for at, part in zip(found, parts, strict=True):
                    if at not in result.lost and not torch.equal(part, row(numbers[at])):
                        problems.append(f"row {numbers[at]} is another's")
                    if at in result.lost and numbers[at] < 10:
                        problems.append(f"row {numbers[at]}, which was never removed, is lost")
                problems.extend(f"{numbers[at]} is missing" for at in located.missing if numbers[at] < 10)
                fetched[0] += 1

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    timer = threading.Timer(3.0, stop.set)
    with warnings.catch_warnings():
        # A row may be removed between being found and being fetched.
        warnings.simplefilter("ignore", RuntimeWarning)
        for thread in (*readers, timer):
            thread.start()
        rounds = churn(corpus, stop)
        for thread in readers:
            thread.join()
    assert problems == []
    assert rounds > 5
    assert fetched[0] > 20
    with MemoryStore.open(corpus) as store:
        assert store.check() == []
        info = store.info
        assert info.bytes == sum(path.stat().st_size for path in corpus.glob("memory/shard-*"))
        assert info.rows == 40 - len(store.find(keys(range(100))).missing) + 60
