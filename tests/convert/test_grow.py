"""A grown decoder is the same function, and all of what is new can be trained."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.config import StackConfig
from fidkit.convert import reshape
from fidkit.convert.grow import decoder_stack, layer_places
from fidkit.errors import ConfigError, UsageError
from fidkit.preset import PRESETS, SIZES
from fidkit.reader import Reader
from oracles import batch_of, questions, quick, random_reader, small, stack

EXAMPLES = [([3, 4], [[5, 6, 7], [8, 9]], [10, 11, 1]), ([7], [[4, 5]], [6, 1])]
GROWTHS = {
    "deeper": stack(7),
    "wider": stack(2, width=27),
    "more feed-forward": stack(2, feed_forward=33),
    "more heads": stack(2, heads=8),
    "wider heads": stack(2, head_width=9),
    "all of it": stack(6, width=40, heads=8, head_width=8, feed_forward=48),
}
SOURCES = {
    "fid": {},
    "fid, separate embeddings": {"shared_embedding": False},
    "tied head": {"tied_head": True},
    "relu": {"block": "t5"},
    "fido": {"cross_attention_every": 2, "self_kv_heads": 1, "cross_kv_heads": 1},
    "grouped heads": {"self_kv_heads": 2, "cross_kv_heads": 2},
    "lumen": {"live_layers": 1},
}


def assert_same_function(before: Reader, after: Reader, batch) -> None:
    torch.testing.assert_close(after(batch).logits, before(batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_grown_decoder_is_the_same_function(source: str, growth: str) -> None:
    before = random_reader(small(**SOURCES[source]))
    after, notes = reshape(before, decoder=GROWTHS[growth])
    assert after.config.decoder == GROWTHS[growth].replace(family=before.config.decoder.family)
    assert "the decoder has grown from 2 layers of width 16" in notes.remarks[0]
    assert_same_function(before, after, batch_of(EXAMPLES))


@quick
@given(examples=questions(), every=st.integers(1, 4), layers=st.integers(4, 9), more=st.integers(0, 7))
def test_any_questions_any_depth_any_width(examples, every: int, layers: int, more: int) -> None:
    before = random_reader(small(decoder=stack(4), cross_attention_every=every))
    larger = stack(layers, width=16 + more, heads=4 + more, feed_forward=20 + 3 * more)
    assert_same_function(before, reshape(before, decoder=larger)[0], batch_of(examples))


def test_what_is_new_learns_from_the_first_steps() -> None:
    before = random_reader(small(cross_attention_every=2))
    after, _ = reshape(before, decoder=GROWTHS["all of it"])
    after.train()
    parts = {name: p for name, p in after.named_parameters() if name.startswith(("decoder.", "head."))}
    start = {name: p.detach().clone() for name, p in parts.items()}
    optimiser = torch.optim.SGD(parts.values(), lr=0.05)
    for _ in range(4):  # from the outputs, which are zero, a step at a time to what they are made of
        after(batch_of(EXAMPLES)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    for name, p in parts.items():
        moved = (p.detach() - start[name]).abs()
        assert moved.sum() > 0, name
        if name.endswith(("out.weight", "gate.weight", "inner.weight", "query.weight", "head.linear.weight")):
            assert moved[-1].sum() > 0, name
            assert moved[:, -1].sum() > 0, name


def test_no_two_new_units_are_alike() -> None:
    after, _ = reshape(random_reader(small()), decoder=GROWTHS["all of it"])
    for name, p in after.named_parameters():
        if name.endswith(("query.weight", "inner.weight", "gate.weight")) and name.startswith("decoder."):
            assert len(torch.unique(p.detach(), dim=0)) == len(p), name


@quick
@given(every=st.integers(1, 6), layers=st.integers(1, 12), more=st.integers(0, 12))
def test_layers_keep_order_and_kind(every: int, layers: int, more: int) -> None:
    # K is at most the number of layers.
    every = min(every, layers)
    old, new = ([(n + 1) % every == 0 for n in range(count)] for count in (layers, layers + more))
    places = layer_places(old, new)
    assert places == sorted(set(places))
    assert [new[place] for place in places] == old


def test_layers_are_spread_evenly() -> None:
    assert layer_places([True] * 3, [True] * 6) == [0, 2, 4]
    # Groups of a layer without and one with cross-attention stay groups.
    assert layer_places([False, True] * 2, [False, True] * 4) == [0, 1, 4, 5]
    # T5-small with K = 6 has two layers behind its only cross-attention.
    every_sixth = [(n + 1) % 6 == 0 for n in range(24)]
    assert layer_places(every_sixth[:8], every_sixth) == [0, 1, 2, 3, 4, 5, 12, 13]


def test_growing_to_the_same_size_changes_nothing() -> None:
    before = random_reader(small())
    after, notes = reshape(before, decoder=before.config.decoder)
    assert after.config == before.config
    assert notes.lines() == []
    assert all(map(torch.equal, before.parameters(), after.parameters()))


def test_growth_is_always_the_same() -> None:
    before = random_reader(small())
    grown = [reshape(before, decoder=GROWTHS["all of it"])[0] for _ in range(2)]
    assert all(map(torch.equal, grown[0].parameters(), grown[1].parameters()))


def test_heads_are_merged_before_the_decoder_grows() -> None:
    before = random_reader(small())
    merged, _ = reshape(before, kv_heads=1)
    both, _ = reshape(before, kv_heads=1, decoder=GROWTHS["all of it"])
    assert both.config.kv_heads == (1, 1)
    assert_same_function(merged, both, batch_of(EXAMPLES))


def test_the_papers_pairs_can_be_grown() -> None:
    for small_size, large in (("small", "base"), ("base", "large"), ("large", "xl"), ("xl", "xxl")):
        one, other = SIZES[small_size], decoder_stack(large)
        assert all(getattr(one, name) <= getattr(other, name) for name in StackConfig.model_fields)
    assert decoder_stack("tiny-fido") == PRESETS["tiny-fido"].decoder


@pytest.mark.parametrize(
    ("knobs", "target", "message"),
    [
        ({}, stack(1), "its layers is 2, more than 1; choose a larger size"),
        ({}, stack(3, width=8, heads=2), "its width is 16, more than 8; its heads is 4, more than 2"),
        ({"self_kv_heads": 2, "cross_kv_heads": 2}, stack(2, heads=5), "2 key/value heads, which don't"),
    ],
)
def test_shapes_that_it_cannot_grow_to(knobs: dict, target: StackConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reshape(random_reader(small(**knobs)), decoder=target)


def test_an_unknown_size_names_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"no decoder size 'huge'; choose one of small, base, large, xl, xxl"
    ):
        decoder_stack("huge")
