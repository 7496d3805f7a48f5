import errno
import mmap
import os
import stat
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from fidkit.errors import MemoryStoreError
from fidkit.memory import CODECS, ShardWriter, make_codec, shard_bytes, shard_name
from fidkit.memory.pq import PQ
from fidkit.memory.shard import DamagedShard, read_index, verify
from fidkit.memory.storage import Folder
from memory.toy import FINGERPRINT, key, largest_file, open_files
from oracles import quick

LENGTHS = [3, 1, 4]
KEYS = [key(number) for number in range(3)]


def codec_named(name, width, directory):
    if name == "pq":
        PQ(torch.randn(-(-width // 16), 9, 16), width).save(directory)
    return make_codec(name, width, directory)


def write(directory, codec, lengths=LENGTHS, keys=KEYS):
    rows = [codec.encode(torch.randn(length, codec.width)) for length in lengths]
    with ShardWriter(directory, keys, lengths, codec, FINGERPRINT) as shard:
        for number, row in enumerate(rows):
            shard.put(number, row)
        return shard.finish(), rows


@pytest.mark.parametrize("name", CODECS)
def test_a_shard_is_a_safetensors_file(tmp_path, name):
    codec = codec_named(name, 24, tmp_path)
    path, rows = write(tmp_path, codec)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format_version"] == "1"
        assert file.metadata()["fingerprint"] == FINGERPRINT
        assert file.get_tensor("keys").numpy().tobytes() == b"".join(KEYS)
        assert file.get_tensor("lengths").tolist() == LENGTHS
        assert torch.equal(file.get_tensor("memory"), torch.cat(rows))
        checks = [zlib.crc32(row.view(torch.uint8).numpy().tobytes()) for row in rows]
        assert file.get_tensor("checks").tolist() == checks
    index = read_index(path)
    assert (index.key_list(), index.lengths.tolist(), index.checks.tolist()) == (KEYS, LENGTHS, checks)


@quick
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 50), st.sampled_from(CODECS[:3])
)
def test_bytes_are_predicted(tmp_path_factory, lengths, width, name):
    directory = tmp_path_factory.mktemp("shard")
    codec = make_codec(name, width)
    path, _ = write(directory, codec, lengths, [key(number) for number in range(len(lengths))])
    assert path.stat().st_size == shard_bytes(lengths, codec) == read_index(path).size
    assert path.name == shard_name(
        FINGERPRINT, codec, [key(number) for number in range(len(lengths))], lengths
    )


def test_the_name_tells_readers_codecs_rows_and_lengths_apart(tmp_path):
    bf16, int8 = make_codec("bf16", 8), make_codec("int8", 8)
    pq = [codec_named("pq", 8, tmp_path) for _ in range(2)]
    names = {
        shard_name(FINGERPRINT, bf16, KEYS, LENGTHS),
        shard_name("e" * 64, bf16, KEYS, LENGTHS),
        shard_name(FINGERPRINT, int8, KEYS, LENGTHS),
        shard_name(FINGERPRINT, pq[0], KEYS, LENGTHS),
        shard_name(FINGERPRINT, pq[1], KEYS, LENGTHS),
        shard_name(FINGERPRINT, bf16, KEYS[::-1], LENGTHS),
        shard_name(FINGERPRINT, bf16, KEYS, [3, 1, 5]),
        shard_name(FINGERPRINT, bf16, KEYS[:2], LENGTHS[:2]),
    }
    assert len(names) == 8
    assert shard_name(FINGERPRINT, bf16, KEYS, np.array(LENGTHS)) in names


def test_the_order_of_writing_changes_nothing(tmp_path):
    codec = make_codec("int8", 24)
    path, rows = write(tmp_path / "a", codec)
    with ShardWriter(tmp_path / "b", KEYS, LENGTHS, codec, FINGERPRINT) as shard:
        for number in (2, 0, 1):
            shard.put(number, rows[number])
        assert shard.finish().read_bytes() == path.read_bytes()
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@quick
@given(st.data())
def test_one_flipped_bit_anywhere_is_found(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("shard")
    path, _ = write(directory, make_codec("bf16", 5))
    packed = bytearray(path.read_bytes())
    # Every byte of the header's text, of the index and of the rows: the space after the text is much larger.
    text_ends = packed.index(b"  ")
    at = data.draw(st.integers(0, text_ends) | st.integers(1024, len(packed) - 1) | st.just(1023))
    packed[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(packed)
    with pytest.raises((DamagedShard, MemoryStoreError)):
        verify(Folder(directory), path.name)


def test_every_truncation_is_found(tmp_path):
    path, _ = write(tmp_path, make_codec("bf16", 5))
    packed = path.read_bytes()
    for size in (*range(0, 1100, 7), len(packed) - 1):
        path.write_bytes(packed[:size])
        with pytest.raises(DamagedShard):
            read_index(path)
    path.write_bytes(packed + b"\0")
    with pytest.raises(DamagedShard, match="bytes, not as many as its header says"):
        read_index(path)
    path.write_bytes(packed)
    assert verify(Folder(tmp_path), path.name).rows == 3


def test_a_newer_format_is_said_with_both_versions(tmp_path):
    path, _ = write(tmp_path, make_codec("bf16", 5))
    path.write_bytes(path.read_bytes().replace(b'"format_version":"1"', b'"format_version":"9"'))
    with pytest.raises(MemoryStoreError, match="format version 9, this fidkit reads up to 1; upgrade fidkit"):
        read_index(path)


def test_what_was_not_finished_leaves_nothing_behind(tmp_path):
    codec = make_codec("bf16", 5)
    with ShardWriter(tmp_path, KEYS, LENGTHS, codec, FINGERPRINT) as shard:
        shard.put(0, codec.encode(torch.ones(3, 5)))
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(ValueError, match=r"2 rows .* were never put"):
            shard.finish()
    assert not list(tmp_path.iterdir())


def test_rows_of_many_writes_are_all_there(tmp_path):
    codec, paths = make_codec("bf16", 500), []
    lengths = [1 + 97 * number % 400 for number in range(60)]
    keys = [key(number) for number in range(60)]
    rows = [codec.encode(torch.randn(length, 500)) for length in lengths]
    for name, order in (("a", range(60)), ("b", [*range(30, 60), *range(29, -1, -1)])):
        with ShardWriter(tmp_path / name, keys, lengths, codec, FINGERPRINT) as shard:
            for number in order:
                shard.put(number, rows[number])
            paths.append(shard.finish())
        assert verify(Folder(tmp_path / name), paths[-1].name).rows == 60
    packed = paths[0].read_bytes()
    assert packed == paths[1].read_bytes()
    assert packed.endswith(torch.cat(rows).view(torch.uint8).numpy().tobytes())


def put_and_finish(shard, codec):
    for number, length in enumerate(LENGTHS):
        shard.put(number, codec.encode(torch.ones(length, codec.width)))
    return shard.finish()


def test_what_could_not_be_written_is_said_at_the_latest_by_finish(tmp_path):
    codec, before = make_codec("bf16", 500), open_files()
    with ShardWriter(tmp_path, KEYS, LENGTHS, codec, FINGERPRINT) as shard:
        said = pytest.raises(MemoryStoreError, match="the disk is full or the file too large")
        with largest_file(2048), said:
            put_and_finish(shard, codec)
    assert not list(tmp_path.iterdir())
    assert open_files() == before


@pytest.mark.parametrize(
    ("module", "call"), [(os, "posix_fallocate"), (mmap, "mmap"), (os, "fsync"), (os, "close")]
)
def test_whatever_fails_leaves_no_file_and_no_descriptor(tmp_path, monkeypatch, module, call):
    codec, before, real_close = make_codec("bf16", 5), open_files(), os.close

    def fail(*given, **_):
        if call == "close":
            real_close(*given)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write():
        with monkeypatch.context() as patch:
            if call in ("posix_fallocate", "mmap"):
                patch.setattr(module, call, fail)
            shard = ShardWriter(tmp_path, KEYS, LENGTHS, codec, FINGERPRINT)
        with shard, monkeypatch.context() as patch:
            patch.setattr(module, call, fail)
            put_and_finish(shard, codec)

    with pytest.raises(MemoryStoreError, match=os.strerror(errno.EIO)):
        write()
    assert not list(tmp_path.iterdir())
    assert open_files() == before


def test_rows_of_the_wrong_size_are_refused(tmp_path):
    with ShardWriter(tmp_path, KEYS, LENGTHS, make_codec("bf16", 5), FINGERPRINT) as shard:
        for wrong in (torch.ones(2, 5).bfloat16(), torch.ones(3, 6).bfloat16(), torch.ones(3, 5)):
            with pytest.raises(ValueError, match=r"expected \(3, 5\) of BF16"):
                shard.put(0, wrong)


@pytest.mark.parametrize(
    ("keys", "lengths"), [([], []), (KEYS, [1, 2]), (KEYS, [1, 0, 1]), ([b"a"] * 2, [1, 1])]
)
def test_rows_that_can_be_no_shard_are_refused(tmp_path, keys, lengths):
    with pytest.raises(ValueError, match="different keys"):
        ShardWriter(tmp_path, keys, lengths, make_codec("bf16", 5), FINGERPRINT)


def test_a_directory_that_can_not_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MemoryStoreError, match="can't be written"):
        ShardWriter(tmp_path / "file" / "memory", KEYS, LENGTHS, make_codec("bf16", 5), FINGERPRINT)


def test_folders_keep_only_some_files_open_and_close_all(tmp_path):
    for number in range(300):
        (tmp_path / f"shard-{number}.safetensors").write_bytes(bytes([number % 256]))
    before = len(os.listdir("/proc/self/fd"))
    folder, byte = Folder(tmp_path), memoryview(bytearray(1))
    for number in (*range(300), *range(299, -1, -1)):
        folder.read(f"shard-{number}.safetensors", 0, byte)
        assert byte[0] == number % 256
    assert before < len(os.listdir("/proc/self/fd")) <= before + 129
    folder.forget(keep={"shard-0.safetensors"})
    assert len(os.listdir("/proc/self/fd")) == before + 1
    folder.forget()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        folder.read("shard-300.safetensors", 0, byte)


@pytest.mark.parametrize("lacking", ["posix_fallocate", "posix_fadvise", "preadv", "O_DIRECT", "O_CLOEXEC"])
def test_systems_that_lack_a_call_write_and_read_the_same(tmp_path, monkeypatch, lacking):
    codec = make_codec("bf16", 5)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        with ShardWriter(tmp_path / name, KEYS, LENGTHS, codec, FINGERPRINT) as shard:
            put_and_finish(shard, codec)
        monkeypatch.delattr(os, lacking, raising=False)
    [one], [other] = (list((tmp_path / name).iterdir()) for name in ("with", "without"))
    assert one.read_bytes() == other.read_bytes()
    assert read_index(other, check=True).rows == len(KEYS)


def test_without_a_call_that_reserves_a_full_disk_is_still_said_at_once(small_disk, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    codec = make_codec("float32", 1 << 20)
    with pytest.raises(MemoryStoreError, match="the disk is full"):
        ShardWriter(small_disk, KEYS, LENGTHS, codec, FINGERPRINT)
