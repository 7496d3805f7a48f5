import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.errors import ForeignMemoryError, MemoryStoreError
from fidkit.memory import MemoryStore, MemoryWriter, make_codec, memory_meta
from fidkit.memory.pq import train_pq
from memory.toy import FINGERPRINT, WIDTH, key, row, write_shard
from oracles import quick


def keys(numbers):
    return [key(number) for number in numbers]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """200 rows in three shards; float32."""
    corpus = tmp_path_factory.mktemp("corpus")
    with MemoryWriter.opened(
        corpus, memory_meta(FINGERPRINT, "tiny-lumen", make_codec("float32", WIDTH), 2)
    ) as writer:
        for numbers in (range(10), range(10, 11), range(11, 200)):
            writer.commit(write_shard(writer, numbers))
    with MemoryStore.open(corpus) as store:
        yield store


@quick
@given(st.lists(st.integers(0, 220), max_size=60))
def test_what_was_stored_comes_back_bit_for_bit(stored, numbers):
    """In any order, some twice, some not stored."""
    memory, lengths = stored.get(keys(numbers))
    assert lengths == [len(row(number)) if number < 200 else 0 for number in numbers]
    expected = [row(number) for number in numbers if number < 200]
    assert torch.equal(memory, torch.cat([torch.empty(0, WIDTH), *expected]))


def test_lengths_and_missing_rows_are_known_before_anything_is_read(stored):
    located = stored.find(keys([7, 500, 8]))
    assert located.lengths == [1, 0, 2]
    assert located.missing == [1]
    assert located.bytes == 3 * WIDTH * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("codec", ["float32", "bf16", "int8"])
def test_what_is_fetched_is_what_the_codec_makes_of_it(build, codec, dtype):
    coder = make_codec(codec, WIDTH)
    with MemoryStore.open(build(range(40), codec=codec)) as store:
        memory, _ = store.get(keys([30, 2, 2]), dtype)
        expected = [coder.decode(coder.encode(row(number)), dtype) for number in (30, 2, 2)]
        assert torch.equal(memory, torch.cat(expected))
        records = store.fetch(store.find(keys([5]))).result().memory_XD
        assert torch.equal(records, coder.encode(row(5)))


def test_product_quantisation_from_end_to_end(tmp_path):
    codec = train_pq(torch.cat([row(number) for number in range(100)]), codes=64)
    codec.save(tmp_path / "memory")
    with MemoryWriter.opened(tmp_path, memory_meta(FINGERPRINT, "r", codec, 2)) as writer:
        writer.commit(write_shard(writer, range(100)))
    with MemoryStore.open(tmp_path) as store:
        memory, _ = store.get(keys([30, 2]), torch.bfloat16)
        records = codec.encode(torch.cat([row(30), row(2)]))
        assert torch.equal(memory, codec.decode(records, torch.bfloat16))
    train_pq(torch.randn(100, WIDTH), codes=64).save(tmp_path / "memory")  # of another corpus
    with pytest.raises(MemoryStoreError, match=f"codebooks {codec.fingerprint}, but those that are there"):
        MemoryStore.open(tmp_path)
    (tmp_path / "memory" / "codec.safetensors").unlink()
    with pytest.raises(MemoryStoreError, match="found none"):
        MemoryStore.open(tmp_path)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_many_fetches_share_few_threads(build, threads):
    with MemoryStore.open(build(range(100)), threads=threads) as store:
        fetches = []
        for first in range(60):
            numbers = range(first, first + 40)
            fetches.append((numbers, store.fetch(store.find(keys(numbers)), torch.float32)))
        for numbers, fetch in fetches:
            assert torch.equal(fetch.result().memory_XD, torch.cat([row(number) for number in numbers]))
            assert fetch.result().lost == []


def test_threads_may_share_a_store(stored):
    def read(seed):
        numbers = torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:20].tolist()
        memory, _ = stored.get(keys(numbers), torch.float32)
        return torch.equal(memory, torch.cat([row(number) for number in numbers]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(60)))


def test_info_counts_what_is_there(build):
    corpus = build(range(10), range(10, 20))
    with MemoryWriter.opened(corpus) as writer:
        assert writer.remove(keys([0, 1, 99])) == 2
    with MemoryStore.open(corpus, FINGERPRINT) as store:
        info = store.info
        assert (info.rows, info.shards, info.codec, info.reader) == (18, 2, "float32", "tiny-lumen")
        assert info.tokens == sum(len(row(number)) for number in range(2, 20))
        assert info.dead_bytes == 4 * WIDTH * (len(row(0)) + len(row(1)))
        on_disk = sum(path.stat().st_size for path in corpus.glob("memory/shard-*"))
        assert info.bytes == on_disk == info.to_json()["bytes"]
        assert info.generation == 4  # begun, two commits, one removal


def test_an_open_store_sees_what_is_committed_and_removed(build):
    corpus = build(range(10))
    with MemoryStore.open(corpus) as store, MemoryWriter.opened(corpus) as writer:
        assert store.find(keys([3, 12])).missing == [1]
        writer.commit(write_shard(writer, range(10, 20)))
        assert store.find(keys([3, 12])).missing == []
        located = store.find(keys([3]))
        writer.remove(keys([3]))
        assert store.find(keys([3, 12])).missing == [0]
        # What was found is still read: the bytes stay.
        assert torch.equal(store.fetch(located).result().memory_XD, row(3))


# What can't be opened


def test_a_memory_of_another_reader_is_refused_with_both_fingerprints_and_the_command(build):
    corpus = build(range(3))
    other = "e" * 64
    with pytest.raises(MemoryStoreError) as caught:
        MemoryStore.open(corpus, other, reader="my-reader")
    for part in (FINGERPRINT, other, "tiny-lumen", f"fidkit memory build {corpus} --reader my-reader"):
        assert part in str(caught.value)
    MemoryStore.open(corpus, FINGERPRINT).close()
    MemoryStore.open(corpus).close()


def test_no_memory_is_said_with_the_command(tmp_path):
    with pytest.raises(MemoryStoreError, match="has no memory; build it with `fidkit memory build"):
        MemoryStore.open(tmp_path)
    (tmp_path / "memory").mkdir()
    with pytest.raises(MemoryStoreError, match="has no memory"):
        MemoryWriter.opened(tmp_path).__enter__()


def test_a_closed_store_says_so(build):
    store = MemoryStore.open(build(range(3)))
    located = store.find(keys([1]))
    store.close()
    for use in (lambda: store.find(keys([1])), lambda: store.fetch(located)):
        with pytest.raises(MemoryStoreError, match="was closed; open it again"):
            use()


def test_closing_waits_for_fetches(build):
    store = MemoryStore.open(build(range(100)), threads=1)
    fetches = [store.fetch(store.find(keys(range(100)))) for _ in range(20)]
    store.close()
    assert all(torch.equal(fetch.result().memory_XD[:1], row(0)) for fetch in fetches)


def test_a_store_that_is_replaced_says_so(build):
    corpus = build(range(3))
    meta = memory_meta("e" * 64, "other", make_codec("float32", WIDTH), 2)
    with MemoryStore.open(corpus) as store:
        with (
            pytest.raises(MemoryStoreError, match=f"{FINGERPRINT}.*{'e' * 64}.*--reader other .*--replace"),
            MemoryWriter.opened(corpus, meta),
        ):
            pass
        assert store.find(keys([1])).missing == []
        with MemoryWriter.opened(corpus, meta, replace=True) as writer:
            assert not list(corpus.glob("memory/shard-*"))
            with pytest.raises(ForeignMemoryError, match="built anew with another reader or codec"):
                store.find(keys([1]))
            writer.commit(write_shard(writer, [1]))
    with MemoryStore.open(corpus, "e" * 64) as store:
        assert store.find(keys([1, 2])).missing == [1]


def test_opening_needs_no_model_code(build):
    code = f"""
import sys
from fidkit.memory import MemoryStore
with MemoryStore.open({str(build(range(3)))!r}) as store:
    store.get([bytes(16)])
unwanted = ["fidkit.nn", "fidkit.reader", "fidkit.engine", "fidkit.passages", "tokenizers", "faiss"]
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_buffer_is_pinned_only_where_there_is_a_gpu(build):
    with MemoryStore.open(build(range(3))) as store:
        fetched = store.fetch(store.find(keys([1])), torch.float32, pin=True).result()
        assert fetched.memory_XD.is_pinned() == torch.cuda.is_available()


def test_no_thread_is_left_behind(build):
    before = threading.active_count()
    with MemoryStore.open(build(range(30))) as store:
        store.get(keys(range(30)))
        assert threading.active_count() > before
    assert threading.active_count() == before
