"""What is planned: every content once, in units of the size asked for, and nothing half-valid."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from collected import Collected
from fidkit import Reader
from fidkit.errors import CorpusError
from fidkit.memory.codecs import make_codec
from fidkit.memory.shard import shard_bytes
from fidkit.passages import Corpus, Passages
from fidkit.passages.token_cache import passage_key
from fidkit.precompute.plan import BuildPlan, Nothing, Stored, discard_plan, load_plan, make_plan, state_of
from fidkit.precompute.unit import Identity, read_unit
from precompute.conftest import texts

IDENTITY = Identity("f" * 64, "bf16", "float32")
CODEC = make_codec("bf16", 32)


class Memory:
    """Keys that are stored."""

    def __init__(self, held: Iterable[bytes]) -> None:
        self.held = set(held)

    def missing(self, keys: Iterable[bytes]) -> Iterable[bytes]:
        return (key for key in keys if key not in self.held)

    def keep_only(self, keys: Iterable[bytes]) -> int:
        before = len(self.held)
        self.held &= set(keys)
        return before - len(self.held)


@pytest.fixture(scope="module")
def tokenizer():
    return Reader.from_preset("tiny-lumen").tokenizer


@pytest.fixture
def planned(tmp_path, tokenizer):
    def plan(corpus: Path | Passages, held: Iterable[bytes] | Stored = (), target=20_000):
        with Corpus.open(corpus) if isinstance(corpus, Path) else nullcontext(corpus) as opened:
            return make_plan(
                opened,
                Memory(held) if isinstance(held, Iterable) else held,
                tokenizer,
                IDENTITY,
                lambda lengths: shard_bytes(lengths, CODEC),
                tmp_path / "units",
                target_bytes=target,
                batch_tokens=4096,
                tell=lambda what, more: None,
            )

    return plan


def tokens_of(plan: BuildPlan, folder: Path) -> dict[bytes, list[int]]:
    """What units have for each key."""
    found = {}
    for unit in (read_unit(folder / "units" / unit.name) for unit in plan.units):
        ends = np.cumsum(unit.lengths)
        rows = [unit.ids[end - length : end].tolist() for end, length in zip(ends, unit.lengths, strict=True)]
        found |= zip(unit.keys, rows, strict=True)
    return found


def test_units_hold_every_new_content_once_the_longest_first(make_corpus, planned, tokenizer, tmp_path):
    directory = make_corpus(texts(100))
    with Corpus.open(directory) as corpus:
        passages = {passage_key(passage): passage for passage in corpus}
        first = list(dict.fromkeys(passage_key(passage) for passage in corpus))
    plan, removed = planned(directory, [*first[10:20], b"of another passage"])
    units = [read_unit(tmp_path / "units" / unit.name) for unit in plan.units]
    rank = {key: number for number, key in enumerate(first)}
    assert sorted((key for unit in units for key in unit.keys), key=rank.get) == first[:10] + first[20:]
    # Passages go to units in their order, and stand by length in one.
    assert all(max(map(rank.get, a.keys)) < min(map(rank.get, b.keys)) for a, b in pairwise(units))
    assert all((np.diff(unit.lengths) <= 0).all() for unit in units)
    assert removed == 1
    assert (plan.passages, plan.contents, plan.kept) == (100, 90, 10)
    for key, ids in tokens_of(plan, tmp_path).items():
        assert [ids] == tokenizer.passages([passages[key]])


def test_sizes_are_those_of_the_shards(make_corpus, planned, tmp_path):
    plan, _ = planned(make_corpus(texts(100)))
    assert len(plan.units) > 3
    for unit in plan.units:
        read = read_unit(tmp_path / "units" / unit.name)
        assert unit.bytes == shard_bytes(read.lengths.tolist(), CODEC) <= 20_000
        assert (unit.passages, unit.tokens) == (len(read.keys), read.lengths.sum())
    # As full as they can be: the next passage would not have fitted.
    for unit, after in zip(plan.units, plan.units[1:], strict=False):
        following = int(read_unit(tmp_path / "units" / after.name).lengths[0])
        lengths = read_unit(tmp_path / "units" / unit.name).lengths.tolist()
        assert shard_bytes([*lengths, following], CODEC) > 20_000


def test_a_passage_too_large_for_a_shard_has_one_of_its_own(make_corpus, planned):
    plan, _ = planned(make_corpus(texts(8)), target=1)
    assert [unit.passages for unit in plan.units] == [1] * 8


def test_passages_that_may_be_cut_are_counted(make_corpus, planned):
    plan, _ = planned(make_corpus(["short", "long " * 300]))
    assert plan.full == 1


def test_a_plan_comes_back_and_belongs_to_one_state(make_corpus, planned, tmp_path):
    directory = make_corpus(texts(30))
    plan, _ = planned(directory)
    loaded = load_plan(tmp_path / "units")
    assert isinstance(loaded, BuildPlan)
    assert loaded == plan
    with Corpus.open(directory) as corpus:
        state = state_of(corpus)
        assert loaded.fits(state, IDENTITY, None)
        assert loaded.fits(state, IDENTITY, 20_000)
        assert not loaded.fits(state, IDENTITY, 20_001)
        assert not loaded.fits(state, Identity("e" * 64, "bf16", "float32"), None)
        assert not loaded.fits(state, Identity("f" * 64, "bf16", "bfloat16"), None)
        make_corpus(texts(31))
        assert not loaded.fits(state_of(corpus), IDENTITY, None)


def test_units_without_a_plan_mean_nothing(make_corpus, planned, tmp_path):
    units = tmp_path / "units"
    plan, _ = planned(make_corpus(texts(30)))
    (units / "plan.json").unlink()
    assert load_plan(units) is None
    again, _ = planned(make_corpus(texts(30)), target=10_000)
    assert len(again.left(units)) == len(again.units) == len(list(units.glob("unit-*"))) > len(plan.units)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format_version": 2}', '{"format_version": 1, "state": {}}']
)
def test_a_plan_that_is_none_is_made_again(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    assert load_plan(tmp_path) is None


def test_a_corpus_that_changes_meanwhile_is_planned_in_one_state(make_corpus, planned, tokenizer, tmp_path):
    class Meanwhile(Nothing):
        def missing(self, keys):
            make_corpus(texts(50, seed=1))  # between the two times that passages are read
            return keys

    with Corpus.open(make_corpus(texts(50))) as corpus:
        before = state_of(corpus)
        wanted = {passage_key(passage): passage for passage in corpus}
        plan, _ = planned(corpus, Meanwhile(), 10_000)
        assert plan.state == before != state_of(corpus)
    assert tokens_of(plan, tmp_path) == dict(
        zip(wanted, tokenizer.passages(list(wanted.values())), strict=True)
    )


class Restless(Collected):
    """Other passages come just when an iteration has begun."""

    changes = 0

    def __iter__(self):
        begun = super().__iter__()
        if self.changes:
            self.changes -= 1
            self.change(texts(self.generation + 8, seed=self.generation))
        return begun


def test_a_corpus_that_changes_as_it_begins_is_begun_again(planned, tmp_path):
    passages = Restless(texts(8), tmp_path)
    passages.changes = 3  # both times of the first attempt, and the first of the second
    plan, _ = planned(passages)
    assert plan.state == state_of(passages)
    assert (plan.state.generation, plan.passages) == (4, 11)
    assert tokens_of(plan, tmp_path).keys() == {passage_key(passage) for passage in passages}


def test_a_corpus_that_never_rests_is_not_planned(planned, tmp_path):
    passages = Restless(texts(8), tmp_path)
    passages.changes = 1000
    with pytest.raises(CorpusError, match="the passages change all the time"):
        planned(passages)
    assert load_plan(tmp_path / "units") is None


def test_nothing_new_leaves_no_units(make_corpus, planned, tmp_path):
    directory = make_corpus(texts(10))
    planned(directory)
    with Corpus.open(directory) as corpus:
        held = [passage_key(passage) for passage in corpus]
    plan, _ = planned(directory, held)
    assert plan.units == ()
    assert not (tmp_path / "units").exists()
    discard_plan(tmp_path / "units")  # which may be gone


def test_the_plan_is_plain_json(make_corpus, planned, tmp_path):
    plan, _ = planned(make_corpus(texts(10)))
    record = json.loads((tmp_path / "units" / "plan.json").read_text())
    assert record["format_version"] == 1
    assert record["units"][0]["bytes"] == plan.units[0].bytes
