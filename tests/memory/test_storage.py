"""Shards elsewhere: another folder, and S3 (moto's server on loopback) in bad weather."""

import time
import urllib.request
import warnings

import pytest
import torch

from fidkit.errors import MemoryStoreError, UsageError
from fidkit.memory import MemoryStore, MemoryWriter, make_codec, memory_meta, objects
from fidkit.memory.objects import Objects
from fidkit.memory.storage import Folder, open_storage
from memory.flaky import FAULTS, Flaky
from memory.toy import FINGERPRINT, WIDTH, key, row, write_shard

moto = pytest.importorskip("moto.server")
pytest.importorskip("obstore")


def keys(numbers):
    return [key(number) for number in numbers]


@pytest.fixture(scope="module")
def s3():
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    bucket = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
    urllib.request.urlopen(bucket).close()
    yield port
    server.stop()


@pytest.fixture
def weather(s3, monkeypatch):
    """The way to S3: fair, until its `share` of faults is raised."""
    flaky = Flaky(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{flaky.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(objects, "_PAUSE_SECONDS", 0.02)
    yield flaky
    flaky.close()


def begin(corpus, where, codec="float32"):
    return MemoryWriter.opened(corpus, memory_meta(FINGERPRINT, "r", make_codec(codec, WIDTH), 2, where))


@pytest.fixture(params=["file://", "path", "s3"])
def where(request, tmp_path, weather):
    """Three places for shards, each used by nobody else."""
    if request.param == "s3":
        return f"s3://bucket/{tmp_path.name}/shards"
    return ("file://" if request.param == "file://" else "") + str(tmp_path / "else%20where"[:9])


def test_a_memory_lives_elsewhere(where, tmp_path):
    corpus = tmp_path / "corpus"
    with begin(corpus, where) as writer:
        for numbers in (range(10), range(10, 20)):
            writer.commit(write_shard(writer, numbers))
    assert not list(corpus.glob("memory/shard-*"))
    storage = open_storage(where, corpus)
    with MemoryStore.open(corpus) as store:
        assert storage.list() == sorted(place.shard for place in store.find(keys([0, 10])).places)
        memory, _ = store.get(keys([19, 0, 3]))
        assert torch.equal(memory, torch.cat([row(19), row(0), row(3)]))
        assert store.check() == []
        assert store.info.shards_at == where
        located = store.find(keys([1, 12]))
        with MemoryWriter.opened(corpus) as writer:
            writer.keep_only(keys([1, 12]))
            assert writer.compact()[:2] == (2, 1)
        assert len(storage.list()) == 1
        fetched = store.fetch(located).result()
        assert (fetched.lost, len(fetched.memory_XD)) == ([], len(row(1)) + len(row(12)))
    other = memory_meta("e" * 64, "other", make_codec("float32", WIDTH), 2, where)
    with MemoryWriter.opened(corpus, other, replace=True):
        assert storage.list() == []


def test_damage_elsewhere_is_found_and_mended(where, tmp_path):
    corpus = tmp_path / "corpus"
    with begin(corpus, where) as writer:
        writer.commit(write_shard(writer, range(10)))
        writer.commit(write_shard(writer, range(10, 20)))
    storage = open_storage(where, corpus)
    first, second = storage.list()
    storage.delete(first)
    cut = tmp_path / second
    packed = memoryview(bytearray(storage.size(second)))
    storage.read(second, 0, packed)
    cut.write_bytes(packed[:-1])
    storage.put(second, cut)
    with MemoryStore.open(corpus) as store:
        assert [name for name, _ in store.check()] == sorted([first, second], key=[
            place.shard for place in store.find(keys([0, 10])).places].index)  # fmt: skip
        with pytest.warns(RuntimeWarning, match="fidkit memory check") as warned:
            fetched = store.fetch(store.find(keys(range(20)))).result()
        assert len(warned) == 2
        assert len(fetched.lost) == 11  # ten rows of the one, the last of the other
    with MemoryWriter.opened(corpus) as writer:
        assert len(writer.repair()) == 2
        assert storage.list() == []
        writer.commit(write_shard(writer, writer_missing(writer)))
    with MemoryStore.open(corpus) as store:
        assert store.check() == []
        assert torch.equal(store.get(keys(range(20)))[0], torch.cat([row(n) for n in range(20)]))


def writer_missing(writer):
    return [int.from_bytes(found, "big") for found in writer.missing(keys(range(20)))]


def interrupted(*_):
    raise KeyboardInterrupt


def test_what_was_uploaded_but_not_committed_is_swept(where, tmp_path, monkeypatch):
    corpus = tmp_path / "corpus"
    storage = open_storage(where, corpus)
    with begin(corpus, where) as writer:
        writer.commit(write_shard(writer, range(10)))
        path = write_shard(writer, range(10, 20))
        with monkeypatch.context() as patch:
            patch.setattr(writer.manifest, "add", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.commit(path)
        assert len(storage.list()) == 2
        assert path.exists()
        assert path.name in writer.sweep()
        assert len(storage.list()) == 1
        assert not path.exists()
        writer.commit(write_shard(writer, range(10, 20)))
    with MemoryStore.open(corpus) as store:
        assert store.check() == []
        assert store.info.rows == 20


def test_another_memory_in_the_same_place_is_not_swept(where, tmp_path):
    with begin(tmp_path / "one", where) as writer:
        writer.commit(write_shard(writer, range(10)))
    with begin(tmp_path / "two", where) as writer:
        writer.commit(write_shard(writer, range(10, 20)))
        assert writer.sweep() == []
    with MemoryStore.open(tmp_path / "one") as store:
        assert store.check() == []


# Bad weather


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_survived(weather, tmp_path, fault):
    """A third of all requests fail in this way; no call may notice, and nothing may come back wrong."""
    where = f"s3://bucket/{tmp_path.name}"
    storage = Objects(where, read_seconds=0.3, write_seconds=0.3)
    shard = tmp_path / "shard-1.safetensors"
    shard.write_bytes(bytes(range(256)) * 8)
    weather.share, weather.faults = 0.33, (fault,)
    storage.put(shard.name, shard)
    for start in range(0, 2000, 200):
        packed = memoryview(bytearray(70))
        storage.read(shard.name, start, packed)
        assert bytes(packed) == (bytes(range(256)) * 8)[start : start + 70]
    assert storage.size(shard.name) == 2048
    assert storage.list() == [shard.name]
    storage.delete(shard.name)
    weather.share = 0
    assert storage.list() == []
    assert weather.met[fault] >= 2


def test_a_memory_is_built_and_read_in_bad_weather(weather, tmp_path, monkeypatch):
    """A fifth of all requests fail or stall: every row that comes back is right, and almost all do."""
    monkeypatch.setattr(objects, "READ_SECONDS", 0.3)
    monkeypatch.setattr(objects, "WRITE_SECONDS", 0.3)
    corpus = tmp_path / "corpus"
    weather.share = 0.2
    with begin(corpus, f"s3://bucket/{tmp_path.name}", "bf16") as writer:
        for first in range(0, 60, 20):
            writer.commit(write_shard(writer, range(first, first + 20)))
    lost = 0
    with warnings.catch_warnings(), MemoryStore.open(corpus) as store:
        warnings.simplefilter("ignore", RuntimeWarning)
        for seed in range(5):
            numbers = torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:20].tolist()
            located = store.find(keys(numbers))
            fetched = store.fetch(located, torch.float32).result()
            parts = fetched.memory_XD.split(located.lengths)
            for at, number in enumerate(numbers):
                if at not in fetched.lost:
                    assert torch.equal(parts[at], row(number).bfloat16().float())
            lost += len(fetched.lost)
        assert lost <= 1
        weather.share = 0
        assert store.check() == []
    assert sum(weather.met.values()) > 10


def test_a_store_that_is_away_loses_rows_but_no_answer(weather, tmp_path):
    corpus = tmp_path / "corpus"
    with begin(corpus, f"s3://bucket/{tmp_path.name}") as writer:
        writer.commit(write_shard(writer, range(10)))
    with MemoryStore.open(corpus) as store:
        weather.share, weather.faults = 1.0, ("hang up",)
        with pytest.warns(RuntimeWarning, match=r"failed [2-5] times"):
            fetched = store.fetch(store.find(keys([1, 2]))).result()
        assert fetched.lost == [0, 1]
        # Nobody knows whether they are damaged, so nothing is deleted.
        with pytest.raises(MemoryStoreError, match="can't be reached"):
            store.check()
        with (
            MemoryWriter.opened(corpus) as writer,
            pytest.raises(MemoryStoreError, match="can't be reached"),
        ):
            writer.repair()
        weather.share = 0
        assert torch.equal(store.get(keys([1, 2]))[0], torch.cat([row(1), row(2)]))


def test_a_place_that_is_empty_is_no_reason_to_forget_everything(where, tmp_path):
    """More likely a disk that is not mounted."""
    corpus = tmp_path / "corpus"
    with begin(corpus, where) as writer:
        writer.commit(write_shard(writer, range(10)))
        writer.commit(write_shard(writer, range(10, 20)))
        storage = open_storage(where, corpus)
        for name in storage.list():
            storage.delete(name)
        with pytest.raises(
            MemoryStoreError, match=r"none of the 2 shards of its memory is at .*mount or mend"
        ):
            writer.repair()
        assert len(writer.shards()) == 2


def test_a_store_that_can_not_be_written_is_said_and_nothing_is_lost(weather, tmp_path):
    corpus = tmp_path / "corpus"
    with begin(corpus, "s3://no-such-bucket/x") as writer:
        path = write_shard(writer, range(10))
        with pytest.raises(MemoryStoreError, match=r"can't be written \(s3://.*404 Not Found.*\); mend that"):
            writer.commit(path)
        assert path.exists()
        assert writer.shards() == []


def test_a_stall_costs_no_more_than_its_limit(weather, tmp_path):
    storage = Objects(f"s3://bucket/{tmp_path.name}", read_seconds=0.2)
    weather.share, weather.faults = 1.0, ("stall",)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"failed [2-5] times"):
        storage.size("shard-1.safetensors")
    assert time.monotonic() - began < 3


def test_larger_shards_come_in_parts(weather, tmp_path, monkeypatch):
    where = f"s3://bucket/{tmp_path.name}"
    shard = tmp_path / "shard-2.safetensors"
    shard.write_bytes(torch.arange(2_000_000, dtype=torch.int64).numpy().tobytes())
    monkeypatch.setattr(objects, "_PART_BYTES", 5 << 20)
    storage = Objects(where)
    weather.share, weather.faults = 0.2, ("busy", "hang up")
    storage.put(shard.name, shard)
    weather.share = 0
    assert weather.passed > 5  # parts, their beginning and their end
    packed = memoryview(bytearray(800))
    storage.read(shard.name, 8 * 1_500_000, packed)
    assert torch.frombuffer(packed, dtype=torch.int64).tolist() == list(range(1_500_000, 1_500_100))
    assert storage.size(shard.name) == 16_000_000
    with pytest.raises(EOFError):
        storage.read(shard.name, 16_000_000 - 8, packed)
    with pytest.raises(FileNotFoundError):
        storage.read("shard-3.safetensors", 0, packed)


# Places that can't be


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("some/folder", "expected an absolute path, such as /"),
        ("ftp://host/x", "expected a URL such as s3://bucket/prefix"),
        ("s3:///x", "expected a URL such as s3://bucket/prefix"),
    ],
)
def test_impossible_places_are_said(tmp_path, where, message):
    with pytest.raises(UsageError, match=message):
        begin(tmp_path, where).__enter__()
    with begin(tmp_path, "") as writer:  # nothing was begun
        assert writer.meta.shards_at == ""


def test_shards_do_not_move_by_asking(tmp_path):
    with begin(tmp_path / "corpus", str(tmp_path / "here")):
        pass
    with begin(tmp_path / "corpus", "") as writer:
        assert writer.meta.shards_at == str(tmp_path / "here")
    with pytest.raises(MemoryStoreError, match=f"lie at {tmp_path}/here, not at {tmp_path}/there"):
        begin(tmp_path / "corpus", str(tmp_path / "there")).__enter__()


def test_without_the_extra_the_command_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(UsageError, match=r"need the extra `s3`; run `pip install 'fidkit\[s3\]'`"):
        open_storage("s3://bucket/x", None)


def test_the_own_folder_has_no_name(tmp_path):
    assert open_storage("", tmp_path).where == ""
    assert isinstance(open_storage(f"file://{tmp_path}", tmp_path), Folder)
