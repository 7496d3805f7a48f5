"""A memory is the same whoever builds it, however often it is interrupted, whatever was there before."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from collected import Collected
from fidkit import Answerer, Reader, native, precompute
from fidkit.engine.coverage import coverage
from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.runner import Runner
from fidkit.errors import CheckpointError, MemoryStoreError, UsageError
from fidkit.memory import MemoryStore, MemoryWriter
from fidkit.passages import Corpus
from fidkit.passages.token_cache import passage_key
from fidkit.precompute import MemoryReport, Options, cluster, repair
from precompute.conftest import texts

SMALL = 1  # MiB


def build(corpus: Path, *given, **more) -> MemoryReport:
    """Of what is in a directory."""
    with Corpus.open(corpus) as opened:
        return precompute.build(opened, *given, **more)


def files(corpus: Path) -> dict[str, str]:
    """Name and hash of every file of a memory, but those of SQLite and the lock."""
    memory = corpus / "memory"
    return {
        str(path.relative_to(memory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(memory.rglob("*"))
        if path.is_file() and "sqlite" not in path.name and path.name != "writer.lock"
    }


def rows(corpus: Path) -> dict[bytes, bytes]:
    """The record of every passage's memory."""
    with Corpus.open(corpus) as opened, MemoryStore.open(corpus) as store:
        keys = list(dict.fromkeys(map(passage_key, opened)))
        memory_XC = store.fetch(store.find(keys)).result().memory_XD
        parts = memory_XC.split(store.find(keys).lengths)
        return {key: part.view(torch.uint8).numpy().tobytes() for key, part in zip(keys, parts, strict=True)}


def shards(corpus: Path) -> list[str]:
    with MemoryWriter.opened(corpus) as writer:
        return [shard.name for shard in writer.shards()]


@pytest.fixture
def _exact() -> None:
    """Plain attention pads a row by those beside it, which can change the last bit."""
    if native.kernels() is None:
        pytest.skip("needs the native kernels: no compiler here")


@pytest.fixture
def many() -> list[str]:
    """Enough for some shards of a megabyte in float32."""
    return texts(700)


@pytest.mark.parametrize("codec", ["float32", "bf16", "int8", "pq"])
def test_what_is_predicted_is_what_is_on_disk(make_corpus, reader_directory, codec):
    corpus = make_corpus(texts(120))
    forecasts = []
    report = build(corpus, reader_directory, Options(codec=codec, pq_codes=64), agree=forecasts.append)
    [forecast] = forecasts
    on_disk = sum(path.stat().st_size for path in (corpus / "memory").glob("shard-*"))
    assert forecast.bytes == report.bytes == on_disk
    assert (forecast.passages, forecast.encode, forecast.kept) == (120, 108, 0)
    assert forecast.seconds > 0
    with Corpus.open(corpus) as opened, MemoryStore.open(corpus) as store:
        assert store.info.bytes == on_disk
        assert store.info.codec == codec
        assert coverage(opened, store).share == 1
    assert not (corpus / "memory" / "units").exists()


@pytest.mark.usefixtures("_exact")
def test_stored_float32_is_what_the_reader_computes(make_corpus, reader_directory):
    corpus = make_corpus(texts(60))
    build(corpus, reader_directory, Options(codec="float32", precision="float32"))
    reader = Reader.from_pretrained(reader_directory)
    with Corpus.open(corpus) as opened, MemoryStore.open(corpus, memory_fingerprint(reader)) as store:
        passages = list(opened)[7:30]
        tokens = reader.tokenizer.passages(passages)
        stored_XD, lengths = store.get([passage_key(passage) for passage in passages], torch.float32)
    assert lengths == [len(row) for row in tokens]
    ids = torch.zeros(len(tokens), max(lengths), dtype=torch.long)
    for row, of_row in zip(ids, tokens, strict=True):
        row[: len(of_row)] = torch.tensor(of_row)
    inline_XD = Runner(reader, "float32").encode_passages(ids, torch.tensor(lengths))
    assert torch.equal(stored_XD, inline_XD)


def test_nothing_to_do_does_nothing(make_corpus, reader_directory):
    corpus = make_corpus(texts(40))
    build(corpus, reader_directory)
    before = files(corpus)

    def refuse(forecast):
        raise AssertionError("asked for nothing")

    report = build(corpus, reader_directory, agree=refuse)
    assert (report.encoded, report.removed, report.shards) == (0, 0, 0)
    assert files(corpus) == before


@pytest.mark.usefixtures("_exact")
def test_only_what_changed_is_built(make_corpus, reader_directory):
    """Edited, removed and added passages; what is left equals a memory built afresh."""
    old = texts(200)
    corpus = make_corpus(old)
    build(corpus, reader_directory, Options(codec="float32"))
    new = [*old[2:50], "quite another text", *old[51:], "something new", old[7]]
    make_corpus(new)
    report = build(corpus, reader_directory)
    assert report.encoded == len(set(new) - set(old)) == 2
    assert report.removed == len(set(old) - set(new)) == 3
    fresh = make_corpus(new, "fresh.corpus")
    build(fresh, reader_directory, Options(codec="float32"))
    assert rows(corpus) == rows(fresh)
    with MemoryStore.open(corpus) as store:
        assert store.info.rows == len(set(new))


@pytest.mark.usefixtures("_exact")
def test_shards_mostly_dead_are_compacted(make_corpus, reader_directory, many):
    corpus = make_corpus(many)
    build(corpus, reader_directory, Options(codec="float32", shard_mb=SMALL))
    before = shards(corpus)
    assert len(before) >= 3
    make_corpus(many[: len(many) // 8])
    report = build(corpus, reader_directory, Options(shard_mb=SMALL))
    assert (report.encoded, report.compacted) == (0, len(before))
    assert len(shards(corpus)) == 1
    fresh = make_corpus(many[: len(many) // 8], "fresh.corpus")
    build(fresh, reader_directory, Options(codec="float32"))
    assert rows(corpus) == rows(fresh)


@pytest.fixture
def built(make_corpus, reader_directory, many) -> dict[str, str]:
    corpus = make_corpus(many, "one.corpus")
    build(corpus, reader_directory, Options(codec="float32", precision="float32", shard_mb=SMALL))
    return files(corpus)


@pytest.mark.slow
def test_torchrun_writes_the_bytes_of_one(make_corpus, reader_directory, many, built):
    corpus = make_corpus(many)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fidkit", "memory", "build", str(corpus), "--reader", str(reader_directory)]
    command += ["--codec", "float32", "--precision", "float32", "--shard-mb", str(SMALL), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert files(corpus) == built


@pytest.mark.slow
def test_ray_writes_the_bytes_of_one(make_corpus, reader_directory, many, built):
    pytest.importorskip("ray")
    corpus = make_corpus(many)
    options = Options(codec="float32", precision="float32", shard_mb=SMALL, workers=2, by="ray")
    report = build(corpus, reader_directory, options)
    assert report.shards == len(built)
    assert files(corpus) == built


@pytest.mark.slow
def test_what_a_worker_of_ray_fails_of_is_said(make_corpus, reader_directory, many, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    options = Options(workers=1, by="ray")

    class Worker:
        def __init__(self, job):
            raise CheckpointError("the reader is gone; give another one")

        def build(self, unit):
            raise AssertionError(unit)

    monkeypatch.setattr(cluster, "Worker", Worker)
    with pytest.raises(MemoryStoreError, match=r"lost a worker \(the reader is gone; give another one\)"):
        build(make_corpus(many), reader_directory, options)


@pytest.mark.slow
def test_torchrun_ends_when_the_first_process_fails(tmp_path, reader_directory):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fidkit", "memory", "build", str(tmp_path / "none"), "--reader", str(reader_directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert "does not exist" in done.stderr


def test_two_workers_write_the_bytes_of_one(make_corpus, reader_directory, many, built):
    corpus, done = make_corpus(many), []
    options = Options(codec="float32", precision="float32", shard_mb=SMALL, workers=2)
    report = build(corpus, reader_directory, options, tell=lambda what, more: done.append((what, more)))
    assert files(corpus) == built
    assert len(built) >= 2
    assert sum(more for what, more in done if what == "encoding passages") == report.encoded


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_build_and_the_next_goes_on(make_corpus, reader_directory, many, built):
    corpus, killed = make_corpus(many), []

    def kill(what: str, more: int) -> None:
        if what == "encoding passages" and not killed:
            children = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
            )
            workers = [int(pid) for pid in children.stdout.split() if _is_worker(int(pid))]
            killed.append(workers[0])
            os.kill(workers[0], 9)

    options = Options(codec="float32", precision="float32", shard_mb=SMALL, workers=2)
    with pytest.raises(MemoryStoreError, match=r"a worker died \(exit code -9.*run the build again"):
        build(corpus, reader_directory, options, tell=kill)
    assert killed
    build(corpus, reader_directory, options)
    assert files(corpus) == built


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_an_ended_build_goes_on(make_corpus, reader_directory, many, built):
    corpus = make_corpus(many)
    options = Options(codec="float32", precision="float32", shard_mb=SMALL)

    class Ended(Exception):
        pass

    def end(what: str, more: int) -> None:
        if what == "encoding passages" and shards_there(corpus):
            raise Ended

    with pytest.raises(Ended):
        build(corpus, reader_directory, options, tell=end)
    assert 0 < len(shards(corpus)) < len(built)
    heard, forecasts = [], []
    again = Options()  # which keeps codec, precision and plan
    build(corpus, reader_directory, again, agree=forecasts.append, tell=lambda what, more: heard.append(what))
    assert forecasts[0].resumed
    assert set(heard) == {"encoding passages"}
    assert files(corpus) == built


def shards_there(corpus: Path) -> bool:
    with MemoryStore.open(corpus) as store:
        return store.info.shards > 0


def test_a_plan_that_was_not_agreed_to_is_kept(make_corpus, reader_directory):
    corpus = make_corpus(texts(30))

    class Declined(Exception):
        pass

    def decline(forecast):
        raise Declined

    with pytest.raises(Declined):
        build(corpus, reader_directory, agree=decline)
    forecasts = []
    assert build(corpus, reader_directory, agree=forecasts.append).encoded == 27
    assert forecasts[0].resumed


def test_finished_shards_that_were_not_committed_are_checked(make_corpus, reader_directory, many, built):
    """Whole ones are taken, what is damaged or unknown is made again or deleted."""
    corpus, other = make_corpus(many), make_corpus(many, "one.corpus")
    options = Options(codec="float32", precision="float32", shard_mb=SMALL)

    def decline(forecast):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(corpus, reader_directory, options, agree=decline)
    for name in built:
        (corpus / "memory" / name).write_bytes((other / "memory" / name).read_bytes())
    damaged = corpus / "memory" / next(iter(built))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    (corpus / "memory" / ("shard-" + "0" * 32 + ".safetensors")).write_bytes(b"garbage")
    build(corpus, reader_directory, options)
    assert files(corpus) == built


@pytest.mark.usefixtures("_exact")
def test_damaged_shards_are_built_again_alone(make_corpus, reader_directory, many, built):
    corpus = make_corpus(many, "one.corpus")
    memory = corpus / "memory"
    with MemoryWriter.opened(corpus) as writer:
        built_rows = {shard.name: shard.rows for shard in writer.shards()}
    cut, flipped, *_ = sorted(built)
    os.truncate(memory / cut, (memory / cut).stat().st_size - 5)
    content = bytearray((memory / flipped).read_bytes())
    content[len(content) // 2] ^= 16
    (memory / flipped).write_bytes(content)
    assert sorted(damage.shard for damage in repair(corpus)) == [cut, flipped]
    assert repair(corpus) == []
    report = build(corpus, reader_directory, Options(shard_mb=SMALL))
    lost = sum(built_rows[name] for name in (cut, flipped))
    assert report.encoded == lost < report.contents
    fresh = make_corpus(many, "fresh.corpus")
    build(fresh, reader_directory, Options(codec="float32", precision="float32"))
    assert rows(corpus) == rows(fresh)


def test_another_reader_or_codec_is_refused_until_it_is_to_replace(make_corpus, reader_directory, tmp_path):
    corpus = make_corpus(texts(50))
    build(corpus, reader_directory, Options(codec="bf16", precision="float32"))
    before = rows(corpus)
    other = tmp_path / "other"
    Reader.from_preset("tiny-lumen", seed=1).save_pretrained(other)
    ours, theirs = (memory_fingerprint(Reader.from_pretrained(path)) for path in (reader_directory, other))
    with pytest.raises(MemoryStoreError) as refused:
        build(corpus, other)
    assert all(part in str(refused.value) for part in (ours, theirs, "--replace"))
    with pytest.raises(MemoryStoreError, match="--replace"):
        build(corpus, reader_directory, Options(codec="int8"))
    with pytest.raises(MemoryStoreError, match="--replace"):
        build(corpus, reader_directory, Options(precision="bfloat16"))
    assert rows(corpus) == before

    def decline(forecast):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(corpus, other, Options(replace=True), agree=decline)
    assert rows(corpus) == before
    build(corpus, other, Options(replace=True, codec="float32", precision="float32"))
    fresh = make_corpus(texts(50), "fresh.corpus")
    build(fresh, other, Options(codec="float32", precision="float32"))
    assert files(corpus) == files(fresh)
    with MemoryStore.open(corpus, theirs) as store:
        assert store.info.codec == "float32"


def test_codebooks_are_of_this_reader_and_corpus(make_corpus, reader_directory, tmp_path):
    """Trained once, the same each time; those of another memory are not taken over."""
    options = Options(codec="pq", pq_codes=32, precision="float32")
    first, second = make_corpus(texts(80), "a.corpus"), make_corpus(texts(80), "b.corpus")
    build(first, reader_directory, options)
    foreign = make_corpus(texts(80, seed=5), "c.corpus")
    build(foreign, reader_directory, options)
    (second / "memory").mkdir()
    (second / "memory" / "codec.safetensors").write_bytes(
        (foreign / "memory" / "codec.safetensors").read_bytes()
    )
    build(second, reader_directory, options)
    assert shards(first) == shards(second) != shards(foreign)
    assert rows(first) == rows(second)
    books = files(first)["codec.safetensors"]
    make_corpus([*texts(80), "one more"], "a.corpus")
    assert build(first, reader_directory).encoded == 1
    assert files(first)["codec.safetensors"] == books


def test_a_reader_without_memory_layers_is_refused(make_corpus, tmp_path):
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "fid")
    with pytest.raises(UsageError, match=r"all 3 encoder layers .*`fidkit convert .* --live-layers 1"):
        build(make_corpus(texts(3)), tmp_path / "fid")


@pytest.mark.parametrize(
    "options",
    [
        Options(workers=0),
        Options(shard_mb=0),
        Options(by="spark"),
        Options(precision="int8"),
        Options(device="tpu"),
        Options(codec="gzip"),
    ],
)
def test_impossible_options_are_wrong_use(make_corpus, reader_directory, options):
    with pytest.raises(UsageError):
        build(make_corpus(texts(3)), reader_directory, options)


def test_two_builders_at_once(make_corpus, reader_directory):
    corpus = make_corpus(texts(30))
    refused = []

    def second(forecast):
        with pytest.raises(MemoryStoreError, match="another process is building") as error:
            build(corpus, reader_directory)
        refused.append(error)

    assert build(corpus, reader_directory, agree=second).encoded == 27
    assert refused


def test_a_full_disk_is_said_before_anything_is_encoded(make_corpus, reader_directory, monkeypatch):
    corpus = make_corpus(texts(30))
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and _Usage())
    with pytest.raises(MemoryStoreError, match=r"needs .* GB more and 0\.00 GB are free; .* smaller --codec"):
        build(corpus, reader_directory)


class _Usage:
    free = 1000


def test_a_corpus_that_changes_during_a_build_is_noticed(make_corpus, reader_directory):
    corpus = make_corpus(texts(30))
    report = build(corpus, reader_directory, agree=lambda forecast: make_corpus(texts(40)) and None)
    assert report.corpus_changed
    assert build(corpus, reader_directory).encoded == 9


@pytest.mark.usefixtures("_exact")
def test_a_corpus_that_changed_since_the_plan_is_planned_anew(make_corpus, reader_directory, many):
    corpus = make_corpus(many)
    options = Options(codec="float32", precision="float32", shard_mb=SMALL)

    class Ended(Exception):
        pass

    def end(what: str, more: int) -> None:
        if what == "encoding passages" and shards_there(corpus):
            raise Ended

    with pytest.raises(Ended):
        build(corpus, reader_directory, options, tell=end)
    new = [*many[300:], "one more"]
    make_corpus(new)
    forecasts = []
    build(corpus, reader_directory, agree=forecasts.append)
    assert not forecasts[0].resumed
    fresh = make_corpus(new, "fresh.corpus")
    build(fresh, reader_directory, options)
    assert rows(corpus) == rows(fresh)


def test_shards_may_lie_in_another_folder(make_corpus, reader_directory, many, built, tmp_path):
    corpus, elsewhere = make_corpus(many), tmp_path / "elsewhere"
    options = Options(codec="float32", precision="float32", shard_mb=SMALL, shards_at=str(elsewhere))
    build(corpus, reader_directory, options)
    assert not files(corpus)
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in elsewhere.rglob("shard-*")}
    assert there == built
    assert build(corpus, reader_directory, Options(shards_at=str(elsewhere))).encoded == 0
    with pytest.raises(MemoryStoreError, match="the shards of its memory lie at"):
        build(corpus, reader_directory, Options(shards_at=str(tmp_path / "third")))


def test_shards_elsewhere_are_changed_only_where_the_place_is_named(
    make_corpus, reader_directory, many, tmp_path
):
    corpus, elsewhere = make_corpus(many), tmp_path / "elsewhere"
    options = Options(codec="float32", precision="float32", shard_mb=SMALL, shards_at=str(elsewhere))
    build(corpus, reader_directory, options)
    one, *_ = sorted(elsewhere.iterdir())
    one.write_bytes(b"damaged")
    make_corpus(many[:2])
    before = sorted(path.name for path in elsewhere.iterdir())
    for change in (
        lambda: build(corpus, reader_directory),
        lambda: build(corpus, reader_directory, Options(codec="int8", replace=True)),
        lambda: repair(corpus),
    ):
        with pytest.raises(MemoryStoreError, match=f"--shards-at {elsewhere}"):
            change()
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert [damage.shard for damage in repair(corpus, shards_at=str(elsewhere))] == [one.name]


def test_a_build_killed_in_its_first_moment_is_no_obstacle(make_corpus, reader_directory):
    corpus = make_corpus(texts(10))
    (corpus / "memory").mkdir()
    (corpus / "memory" / "manifest.sqlite").touch()  # SQLite creates it empty
    assert build(corpus, reader_directory).encoded == 9


def test_passages_without_a_directory_have_the_same_memory(make_corpus, reader_directory, tmp_path):
    some = texts(30)
    directory = make_corpus(some)
    build(directory, reader_directory, Options(codec="float32"))
    passages = Collected(some, tmp_path / "derived")
    report = precompute.build(passages, reader_directory, Options(codec="float32"))
    assert (report.encoded, report.corpus_changed) == (27, False)
    assert files(tmp_path / "derived") == files(directory)
    with MemoryStore.open(passages.derived) as store:
        assert coverage(passages, store).share == 1
    passages.change(texts(40))
    assert precompute.build(passages, reader_directory).encoded == 9
    with Answerer(reader_directory, passages, precision="float32") as qa:
        assert len(qa.answer("harbour lamp", k=3, max_new_tokens=2).evidence) == 3
        assert qa.memory is not None


def test_a_path_is_no_corpus(reader_directory, tmp_path):
    with pytest.raises(UsageError, match=r"expected an open one, such as Corpus\.open"):
        precompute.build(tmp_path, reader_directory)
