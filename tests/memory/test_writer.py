"""Changes of a memory: commits, removals, compaction, and what an ended process leaves behind."""

import pytest
import torch

from fidkit.errors import MemoryStoreError
from fidkit.memory import MemoryStore, MemoryWriter, make_codec, manifest, memory_meta, shard
from fidkit.memory.compact import mostly_dead
from forked import die, forked
from memory.toy import FINGERPRINT, WIDTH, key, row, write_shard


def keys(numbers):
    return [key(number) for number in numbers]


def files(corpus):
    return sorted(path.name for path in (corpus / "memory").glob("shard-*"))


def holds(corpus, numbers, among=range(100)):
    """Whether exactly these rows are stored, with their own memory, in shards without damage."""
    with MemoryStore.open(corpus) as store:
        memory, lengths = store.get(keys(among), torch.float32)
        wanted = set(numbers)
        assert [length > 0 for length in lengths] == [number in wanted for number in among]
        expected = [row(number) for number in among if number in wanted]
        assert torch.equal(memory, torch.cat([torch.empty(0, WIDTH), *expected]))
        assert store.check() == []
        assert store.info.rows == len(wanted)
        assert store.info.tokens == sum(len(row(number)) for number in wanted)
    return True


def test_missing_keys_come_in_their_order(build):
    with MemoryWriter.opened(build(range(1200))) as writer:
        asked = [*range(1500, 0, -3), 1500]
        assert list(writer.missing(map(key, asked))) == keys([n for n in asked if n >= 1200])


def test_rows_that_are_stored_already_stay_where_they_are(build):
    corpus = build(range(10))
    with MemoryWriter.opened(corpus) as writer:
        writer.commit(write_shard(writer, range(5, 15)))
        assert [shard.live_rows for shard in writer.shards()] == [10, 5]
    assert holds(corpus, range(15))


def test_a_shard_committed_twice_is_there_once(build):
    corpus = build(range(10))
    with MemoryWriter.opened(corpus) as writer:
        writer.commit(write_shard(writer, range(10)))
        assert len(writer.shards()) == 1
    assert holds(corpus, range(10))


def test_removed_rows_come_back_with_their_shard(build):
    corpus = build(range(10), range(10, 20))
    with MemoryWriter.opened(corpus) as writer:
        assert writer.remove(keys([1, 2, 11, 77])) == 3
        assert [shard.live_rows for shard in writer.shards()] == [8, 9]
    assert holds(corpus, {*range(20)} - {1, 2, 11})
    with MemoryWriter.opened(corpus) as writer:
        writer.commit(corpus / "memory" / files(corpus)[0], check=True)
        writer.commit(corpus / "memory" / files(corpus)[1], check=True)
    assert holds(corpus, range(20))
    assert len(files(corpus)) == 2


def test_only_what_is_to_be_kept_stays(build):
    corpus = build(range(10), range(10, 20))
    with MemoryWriter.opened(corpus) as writer:
        assert writer.keep_only(map(key, range(3, 30))) == 3
        assert writer.keep_only(map(key, range(3, 30))) == 0
    assert holds(corpus, range(3, 20))


# Compaction


def test_compaction_rewrites_only_what_is_mostly_dead(build):
    corpus = build(range(10), range(10, 20), range(20, 30), range(30, 40))
    kept = {*range(3), *range(10, 18), *range(20, 23)}
    before = files(corpus)
    with MemoryWriter.opened(corpus) as writer:
        writer.keep_only(keys(kept))
        untouched = [shard.name for shard in writer.shards() if 2 * shard.live_tokens >= shard.tokens]
        used = sum(shard.bytes for shard in writer.shards())
        seen = []
        compaction = writer.compact(progress=lambda *at: seen.append(at))
        assert compaction.shards_deleted == 3
        assert compaction.shards_written == 1
        assert compaction.bytes_freed == used - sum(shard.bytes for shard in writer.shards())
        assert seen == [(0, 3), (3, 3)]
        assert writer.compact() == (0, 0, 0)
    assert len(untouched) == 1
    assert set(files(corpus)) & set(before) == set(untouched)
    assert holds(corpus, kept)


def test_half_of_a_shard_is_worth_keeping():
    half, less = (manifest.ShardRecord(1, "shard", 1000, 10, 100, 5, live, 0, 4) for live in (50, 49))
    assert mostly_dead([half, less], 1000) == [[less]]


def test_compaction_leaves_rows_in_their_order(build):
    """However their keys are ordered: what was written together is read together."""
    numbers = [9, 2, 7, 1, 8, 3, 6, 0, 5, 4]
    corpus = build(numbers)
    with MemoryWriter.opened(corpus) as writer:
        writer.keep_only(keys([7, 1, 3]))
        assert writer.compact()[:2] == (1, 1)
    [name] = files(corpus)
    assert shard.read_index(corpus / "memory" / name).key_list() == keys([7, 1, 3])
    assert holds(corpus, [7, 1, 3])


def test_compaction_makes_shards_of_about_the_wanted_size(build):
    corpus = build(*(range(first, first + 10) for first in range(0, 100, 10)))
    kept = [number for number in range(100) if number % 10 < 3]
    with MemoryWriter.opened(corpus) as writer:
        writer.keep_only(keys(kept))
        compaction = writer.compact(shard_bytes=50 * WIDTH * 4)
        assert compaction.shards_deleted == 10
        assert 2 < compaction.shards_written < 10
        assert all(shard.live_rows == shard.rows for shard in writer.shards())
        assert all(shard.tokens <= 50 for shard in writer.shards())
    assert holds(corpus, kept)


def test_a_new_shard_may_have_the_name_of_a_dead_one(build):
    """Rows 0 to 2 are first in a shard of their own, then in a larger one, then alone again."""
    corpus = build(range(3))
    alone = files(corpus)
    with MemoryWriter.opened(corpus) as writer:
        writer.remove(keys(range(3)))
        writer.commit(write_shard(writer, range(10)))
        writer.keep_only(keys(range(3)))
        writer.compact()
    assert files(corpus) == alone
    assert holds(corpus, range(3))


def test_an_emptied_memory_has_no_shards(build):
    corpus = build(range(3), codec="int8")
    with MemoryWriter.opened(corpus) as writer:
        writer.keep_only([])
        assert writer.compact()[:2] == (1, 0)
    assert files(corpus) == []


def test_what_is_damaged_is_not_compacted_away(build):
    corpus = build(range(10))
    path = corpus / "memory" / files(corpus)[0]
    packed = bytearray(path.read_bytes())
    packed[1024 + 28 * 10 + 2] ^= 1  # the first row
    path.write_bytes(packed)
    with MemoryWriter.opened(corpus) as writer:
        writer.keep_only(keys(range(3)))
        with pytest.raises(MemoryStoreError, match=r"can't be compacted .*checksum.*check .* --repair"):
            writer.compact()
        assert [shard.live_rows for shard in writer.shards()] == [3]
        writer.remove([key(0)])
        assert writer.compact().shards_written == 1  # what is damaged is dead now
    assert holds(corpus, [1, 2])


# What an ended process leaves behind


def killed(corpus, before):
    """A child with an open writer, killed while it does `before`."""

    def child():
        with MemoryWriter.opened(corpus) as opened:
            before(opened)

    assert forked(child) == -9


def test_killed_before_the_rename(build):
    corpus = build(range(5))

    def before(opened):
        shard.put_in_place = die
        write_shard(opened, range(5, 9))

    killed(corpus, before)
    assert sorted(name.endswith(".part") for name in files(corpus)) == [False, True]
    assert holds(corpus, range(5))
    with MemoryWriter.opened(corpus) as writer:
        assert len(writer.sweep()) == 1
    assert len(files(corpus)) == 1
    assert holds(corpus, range(5))


@pytest.mark.parametrize("adopt", [True, False])
def test_killed_between_rename_and_commit(build, adopt):
    corpus = build(range(5))

    def before(opened):
        manifest.Manifest.add = die
        opened.commit(write_shard(opened, range(5, 9)))

    killed(corpus, before)
    assert len(files(corpus)) == 2
    assert holds(corpus, range(5))
    with MemoryWriter.opened(corpus) as writer:
        known = {shard.name for shard in writer.shards()}
        (orphan,) = set(files(corpus)) - known
        if adopt:
            assert writer.sweep(keep=[orphan]) == []
            writer.commit(writer.directory / orphan, check=True)
        else:
            assert writer.sweep() == [orphan]
    assert holds(corpus, range(9 if adopt else 5))
    assert len(files(corpus)) == (2 if adopt else 1)


def test_killed_in_the_middle_of_a_transaction(build):
    corpus = build(range(5))

    def before(opened):
        manifest.Manifest._fill_some = die
        opened.commit(write_shard(opened, range(5, 9)))

    killed(corpus, before)
    assert holds(corpus, range(5))
    with MemoryWriter.opened(corpus) as writer:
        writer.commit(write_shard(writer, range(5, 9)))
    assert holds(corpus, range(9))


def test_killed_after_the_commit_of_a_compaction(build):
    corpus = build(range(10), range(10, 20))

    def before(opened):
        opened.keep_only(map(key, range(3)))
        MemoryWriter._delete = die
        opened.compact()

    killed(corpus, before)
    assert len(files(corpus)) == 3
    assert holds(corpus, range(3))
    with MemoryWriter.opened(corpus) as writer:
        assert len(writer.sweep()) == 2
    assert holds(corpus, range(3))
    assert len(files(corpus)) == 1


def test_a_damaged_orphan_is_not_adopted(build):
    corpus = build(range(5))
    with MemoryWriter.opened(corpus) as writer:
        path = write_shard(writer, range(5, 9))
        packed = bytearray(path.read_bytes())
        packed[-1] ^= 1
        path.write_bytes(packed)
        with pytest.raises(
            MemoryStoreError, match=r"can't be used .*checksum.*; delete it and run the build"
        ):
            writer.commit(path, check=True)
    assert holds(corpus, range(5))


def test_a_shard_of_another_reader_is_not_committed(build):
    corpus = build(range(5))
    other = memory_meta("e" * 64, "other", make_codec("float32", WIDTH), 2)
    with MemoryWriter.opened(corpus.with_name("other"), other) as writer:
        path = write_shard(writer, range(5, 9))
    with (
        MemoryWriter.opened(corpus) as writer,
        pytest.raises(MemoryStoreError, match=f"expected .*{FINGERPRINT}.* got {'e' * 64}"),
    ):
        writer.commit(path)
    assert holds(corpus, range(5))


# Who may write


def test_two_builders_at_once(build):
    corpus = build(range(5))
    with (
        MemoryWriter.opened(corpus),
        pytest.raises(MemoryStoreError, match="another process is building this memory; wait until"),
        MemoryWriter.opened(corpus),
    ):
        pass
    with MemoryWriter.opened(corpus):
        pass


def test_rows_computed_in_another_precision_do_not_mix(build):
    meta = memory_meta(FINGERPRINT, "r", make_codec("float32", WIDTH), 2, precision="bfloat16")
    with (
        pytest.raises(MemoryStoreError, match=r"in float32 from float32 .* in float32 from bfloat16"),
        MemoryWriter.opened(build(range(5)), meta),
    ):
        pass
