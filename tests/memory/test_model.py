"""Any sequence of changes, against a set of numbers."""

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fidkit.memory import MemoryStore, MemoryWriter, make_codec, memory_meta
from fidkit.memory.shard import read_index
from memory.toy import FINGERPRINT, WIDTH, key, row, write_shard

MOST = 25
numbers = st.lists(st.integers(0, MOST - 1), min_size=1, max_size=8, unique=True)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), numbers),
        st.tuples(st.just("orphan"), numbers),
        st.tuples(st.just("remove"), numbers),
        st.tuples(st.just("keep"), numbers),
        st.tuples(st.just("compact"), st.integers(1, 20)),
        st.tuples(st.just("sweep"), st.none()),
        st.tuples(st.just("damage"), st.integers(0, 5)),
        st.tuples(st.just("open again"), st.none()),
    ),
    min_size=1,
    max_size=12,
)


def change(writer: MemoryWriter, what: str, how, model: set[int]) -> set[int]:
    if what == "commit":
        writer.commit(write_shard(writer, how))
        return model | set(how)
    if what == "orphan":
        write_shard(writer, how)
    if what == "remove":
        assert writer.remove(map(key, how)) == len(model & set(how))
        return model - set(how)
    if what == "keep":
        assert writer.keep_only(map(key, how)) == len(model - set(how))
        return model & set(how)
    if what == "compact":
        writer.compact(shard_bytes=how * 4 * WIDTH)
        assert all(2 * shard.live_tokens >= shard.tokens > 0 for shard in writer.shards())
    if what == "sweep":
        writer.sweep()
        there = {path.name for path in writer.directory.glob("shard-*")}
        assert there == {shard.name for shard in writer.shards()}
    if what == "damage" and writer.shards():
        name = writer.shards()[how % len(writer.shards())].name
        inside = writer.manifest.rows_of(read_index(writer.directory / name))
        packed = bytearray((writer.directory / name).read_bytes())
        packed[-1] ^= 1
        (writer.directory / name).write_bytes(packed)
        assert [shard for shard, _ in writer.repair()] == [name]
        return model - {int.from_bytes(lost, "big") for lost in inside}
    return model


@settings(max_examples=25, deadline=None, derandomize=True)
@given(changes)
def test_a_memory_holds_what_it_should_after_any_changes(steps):
    with tempfile.TemporaryDirectory() as folder:
        corpus, model = Path(folder), set()
        meta = memory_meta(FINGERPRINT, "r", make_codec("float32", WIDTH), 2)
        opened = MemoryWriter.opened(corpus, meta)
        writer = opened.__enter__()
        try:
            with MemoryStore.open(corpus) as store:
                for what, how in steps:
                    if what == "open again":
                        opened.__exit__(None, None, None)
                        opened = MemoryWriter.opened(corpus)
                        writer = opened.__enter__()
                    model = change(writer, what, how, model)
                    memory, lengths = store.get([key(number) for number in range(MOST)])
                    assert [length > 0 for length in lengths] == [n in model for n in range(MOST)]
                    expected = [row(number) for number in sorted(model)]
                    assert torch.equal(memory, torch.cat([torch.empty(0, WIDTH), *expected]))
                    assert store.info.rows == len(model)
                    assert store.info.tokens == sum(map(len, expected))
                assert store.check() == []
        finally:
            opened.__exit__(None, None, None)
