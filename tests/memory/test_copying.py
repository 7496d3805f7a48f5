"""A memory begun as a copy of another corpus's."""

import os

import pytest
import torch

from fidkit.errors import MemoryStoreError
from fidkit.memory import MemoryStore, MemoryWriter, make_codec, memory_meta
from fidkit.memory.copying import begin_as_copy
from fidkit.memory.layout import writer_lock
from memory.toy import FINGERPRINT, WIDTH, key, row, write_shard


def rows_of(corpus, numbers):
    with MemoryStore.open(corpus, FINGERPRINT) as store:
        memory_XD, lengths = store.get([key(number) for number in numbers])
    return memory_XD, lengths


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_a_copy_has_the_same_rows_in_the_same_files(build, tmp_path, codec):
    corpus, copy = build(range(5), range(5, 9), codec=codec), tmp_path / "copy"
    (corpus / "memory" / "units" / "left").mkdir(parents=True)
    begin_as_copy(copy, corpus)
    (mine_XD, mine), (theirs_XD, theirs) = rows_of(copy, range(10)), rows_of(corpus, range(10))
    assert mine == theirs
    assert mine[9] == 0 < min(mine[:9])
    assert torch.equal(mine_XD, theirs_XD)
    for shard in (corpus / "memory").glob("shard-*"):
        assert os.path.samefile(shard, copy / "memory" / shard.name)
    assert not (copy / "memory" / "units" / "left").exists()


def test_what_is_removed_from_one_stays_in_the_other(build, tmp_path):
    corpus, copy = build(range(5), range(5, 9)), tmp_path / "copy"
    begin_as_copy(copy, corpus)
    with MemoryWriter.opened(copy) as writer:
        writer.keep_only([key(0)])
        assert writer.compact().bytes_freed > 0
        writer.commit(write_shard(writer, [20]))
        writer.sweep()
    memory_XD, lengths = rows_of(corpus, range(9))
    assert min(lengths) > 0
    assert torch.equal(memory_XD, torch.cat([row(number) for number in range(9)]))
    assert rows_of(copy, [0, 1, 20])[1] == [len(row(0)), 0, len(row(20))]


def test_codebooks_come_along(tmp_path):
    made = make_codec("float32", WIDTH, tmp_path)
    with MemoryWriter.opened(tmp_path / "corpus", memory_meta(FINGERPRINT, "tiny-lumen", made, 2)):
        (tmp_path / "corpus" / "memory" / "codec.safetensors").write_bytes(b"codes")
    begin_as_copy(tmp_path / "copy", tmp_path / "corpus")
    assert (tmp_path / "copy" / "memory" / "codec.safetensors").read_bytes() == b"codes"


def test_a_memory_that_is_there_stays(build):
    corpus, other = build(range(5)), build(range(7), name="other")
    begin_as_copy(other, corpus)
    with writer_lock(other / "memory"):  # by whoever goes on building it
        begin_as_copy(other, corpus)
    assert rows_of(other, [6])[1] == [len(row(6))]


def test_shards_elsewhere_stay_with_one_memory(build, tmp_path):
    codec = make_codec("float32", WIDTH, tmp_path)
    meta = memory_meta(FINGERPRINT, "tiny-lumen", codec, 2, shards_at=str(tmp_path / "shards"))
    with MemoryWriter.opened(tmp_path / "corpus", meta) as writer:
        writer.commit(write_shard(writer, range(3)))
    with pytest.raises(MemoryStoreError, match=r"its shards lie in .*shards, so the memory isn't copied"):
        begin_as_copy(tmp_path / "copy", tmp_path / "corpus")
    assert not (tmp_path / "copy" / "memory" / "manifest.sqlite").exists()


def test_one_that_is_being_built_is_not_copied(build, tmp_path):
    corpus = build(range(5))
    with writer_lock(corpus / "memory"), pytest.raises(MemoryStoreError, match="building this memory"):
        begin_as_copy(tmp_path / "copy", corpus)
    begin_as_copy(tmp_path / "copy", corpus)
    assert rows_of(tmp_path / "copy", [0])[1] == [len(row(0))]


@pytest.mark.parametrize("harm", ["missing", "a link"])
def test_of_a_damaged_one_there_is_no_copy(build, tmp_path, harm):
    corpus, kept = build(range(5)), tmp_path / "kept"
    [shard] = (corpus / "memory").glob("shard-*")
    shard.rename(kept)
    if harm == "a link":
        shard.symlink_to(kept)
    with pytest.raises(MemoryStoreError, match=r"can't be linked|is a link"):
        begin_as_copy(tmp_path / "copy", corpus)
    assert not (tmp_path / "copy" / "memory" / "manifest.sqlite").exists()
    shard.unlink(missing_ok=True)
    kept.rename(shard)
    (tmp_path / "copy" / "memory" / shard.name).write_bytes(b"of an attempt that was ended")
    begin_as_copy(tmp_path / "copy", corpus)
    assert rows_of(tmp_path / "copy", [0])[1] == [len(row(0))]
