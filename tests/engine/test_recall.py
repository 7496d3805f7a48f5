"""Memory of passages comes in the order asked, from wherever it is."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine.fingerprint import memory_fingerprint
from fidkit.engine.recall import Recall
from fidkit.engine.runner import Runner
from fidkit.memory import MemoryStore, MemoryWriter, ShardWriter, make_codec, memory_meta
from fidkit.passages.token_cache import passage_key
from fidkit.reader import Reader
from fidkit.types import Passage
from oracles import quick

PASSAGES = [Passage(str(n), f"Title {n}", " ".join(["word"] * (n % 5) + [str(n)])) for n in range(12)]


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(Reader.from_preset("tiny-lumen"))


def tokens(runner: Runner, passages: Sequence[Passage]) -> list[list[int]]:
    assert runner.reader.tokenizer is not None
    return runner.reader.tokenizer.passages(passages)


def encoded(runner: Runner, passages: Sequence[Passage]) -> torch.Tensor:
    ids = tokens(runner, passages)
    rows = [runner.encode_passages(torch.tensor([row]), torch.tensor([len(row)])) for row in ids]
    return torch.cat(rows)


def stored(corpus: Path, runner: Runner, passages: Sequence[Passage], codec: str = "float32") -> MemoryStore:
    """A memory of these passages alone."""
    chosen = make_codec(codec, runner.config.memory_width)
    meta = memory_meta(memory_fingerprint(runner.reader), "tiny-lumen", chosen, runner.config.memory_layers)
    lengths = [len(ids) for ids in tokens(runner, passages)]
    with MemoryWriter.opened(corpus, meta, replace=True) as writer:
        keys = [passage_key(passage) for passage in passages]
        with ShardWriter(writer.directory, keys, lengths, chosen, meta.fingerprint) as shard:
            for at, row in enumerate(encoded(runner, passages).split(lengths)):
                shard.put(at, chosen.encode(row))
            writer.commit(shard.finish())
    return MemoryStore.open(corpus, meta.fingerprint)


@pytest.fixture(scope="module")
def half(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    """A memory of every other passage."""
    return stored(tmp_path_factory.mktemp("corpus"), runner, PASSAGES[::2])


def recall(runner: Runner, store: MemoryStore | None, asked: Sequence[Passage]) -> Recall:
    def tokenize(chosen: list[int]) -> list[list[int]]:
        return tokens(runner, [asked[at] for at in chosen])

    return Recall(runner, store, [passage_key(passage) for passage in asked], tokenize)


@quick
@given(asked=st.lists(st.sampled_from(PASSAGES), min_size=1, max_size=8))
def test_stored_or_not_in_the_order_asked(runner: Runner, half: MemoryStore, asked: list[Passage]) -> None:
    found = recall(runner, half, asked)
    assert found.lengths == [len(ids) for ids in tokens(runner, asked)]
    assert found.encoded == sum(passage not in PASSAGES[::2] for passage in asked)
    torch.testing.assert_close(found.result(), encoded(runner, asked), rtol=1e-5, atol=1e-5)


def test_without_a_store_everything_is_encoded(runner: Runner) -> None:
    found = recall(runner, None, PASSAGES)
    assert found.encoded == len(PASSAGES)
    torch.testing.assert_close(found.result(), encoded(runner, PASSAGES), rtol=1e-5, atol=1e-5)


def test_what_is_damaged_is_encoded_into_its_place(runner: Runner, tmp_path: Path) -> None:
    with stored(tmp_path, runner, PASSAGES) as store:
        [shard] = (tmp_path / "memory").glob("shard-*")
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1  # of the last row
        shard.write_bytes(content)
        asked = [PASSAGES[-1], PASSAGES[0], PASSAGES[-1], PASSAGES[4]]
        with pytest.warns(RuntimeWarning, match="memory check"):
            found = recall(runner, store, asked).result()
    torch.testing.assert_close(found, encoded(runner, asked), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("codec", "near"), [("float32", 0), ("bf16", 2**-8), ("int8", 1 / 252)])
def test_precisions_of_what_is_stored(runner: Runner, tmp_path: Path, codec: str, near: float) -> None:
    wanted = encoded(runner, PASSAGES)
    with stored(tmp_path, runner, PASSAGES, codec) as store:
        found = recall(runner, store, PASSAGES).result()
    assert found.dtype == wanted.dtype
    largest = wanted.abs().amax(1, keepdim=True)
    assert ((found - wanted).abs() <= near * largest + 1e-6 * (codec != "float32")).all()
