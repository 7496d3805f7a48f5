from fractions import Fraction

import pytest
import torch
from hypothesis import given

from fidkit.config import RerankConfig
from fidkit.convert import reshape
from fidkit.errors import CheckpointError, ConfigError
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from oracles import batch_of, questions, quick, random_reader, small, stack

FID = small(decoder=stack(4))


def parameters(reader: Reader) -> dict[str, torch.Tensor]:
    return dict(reader.named_parameters())


def test_nothing_asked_nothing_changed() -> None:
    reader = random_reader(FID)
    again, notes = reshape(reader)
    ours, theirs = parameters(reader), parameters(again)
    assert again.config == reader.config
    assert notes.lines() == []
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
    # Weights of its own: training one leaves the other as it is.
    assert not {p.data_ptr() for p in ours.values()} & {p.data_ptr() for p in theirs.values()}


def test_dropped_cross_attention_is_listed() -> None:
    reader, notes = reshape(random_reader(FID), cross_attention_every=2)
    matrices = ["cross_attention_norm", *(f"cross_attention.{m}" for m in ("query", "key", "value", "out"))]
    assert set(notes.dropped) == {f"decoder.layers.{n}.{m}.weight" for n in (0, 2) for m in matrices}
    assert reader.config.cross_layers == (False, True, False, True)
    assert not set(notes.dropped) & parameters(reader).keys()


def test_what_is_left_of_cross_attention_may_be_the_mean() -> None:
    fid = random_reader(FID)
    own, _ = reshape(fid, cross_attention_every=2, cross_attention_from="own")
    mean, notes = reshape(fid, cross_attention_every=2, cross_attention_from="mean")
    assert notes.remarks == ("each cross-attention that is left is the mean of those it stands for",)
    source, left, averaged = parameters(fid), parameters(own), parameters(mean)
    assert left.keys() == averaged.keys()
    for name, p in averaged.items():
        if "cross_attention" not in name:
            assert torch.equal(p, left[name])
            continue
        layer = int(name.split(".")[2])
        below = source[name.replace(f"layers.{layer}", f"layers.{layer - 1}")]
        torch.testing.assert_close(p, (below + source[name]) / 2)
        assert torch.equal(left[name], source[name])


def test_the_mean_is_over_layers_that_had_any() -> None:
    fido, _ = reshape(random_reader(FID), cross_attention_every=2)
    same, notes = reshape(fido, cross_attention_every=2, cross_attention_from="mean")
    assert notes.lines() == []
    assert all(map(torch.equal, fido.parameters(), same.parameters()))
    last, _ = reshape(fido, cross_attention_every=4, cross_attention_from="mean")
    name = "decoder.layers.{}.cross_attention.query.weight"
    wanted = (parameters(fido)[name.format(1)] + parameters(fido)[name.format(3)]) / 2
    torch.testing.assert_close(parameters(last)[name.format(3)], wanted)


@pytest.mark.parametrize("live", range(4))
def test_a_split_encoder_fits_together_again(live: int) -> None:
    fid = random_reader(FID)
    again, _ = reshape(reshape(fid, live_layers=live)[0], live_layers=3)
    assert again.config.replace(question_in_context="each") == fid.config
    assert all(torch.equal(p, parameters(again)[name]) for name, p in parameters(fid).items())


@pytest.mark.parametrize("live", range(4))
def test_copies_are_listed(live: int) -> None:
    lumen, notes = reshape(random_reader(FID), live_layers=live)
    copied = {name for name in parameters(lumen) if name.startswith("memory_encoder.")}
    if 0 < live < 3:
        copied.add("live_encoder.relative_bias.weight")
    assert set(notes.copied) == copied


def test_a_split_reader_starts_as_the_preset_would() -> None:
    fid = random_reader(FID)
    lumen, _ = reshape(fid, live_layers=1)
    source, split = parameters(fid), parameters(lumen)
    for layer in range(2):
        name = f"layers.{layer}.attention.query.weight"
        assert torch.equal(split[f"question_encoder.{name}"], source[f"live_encoder.{name}"])
        assert torch.equal(split[f"memory_encoder.encoder.{name}"], source[f"live_encoder.{name}"])
    name = "attention.query.weight"
    assert torch.equal(split[f"live_encoder.layers.0.{name}"], source[f"live_encoder.layers.2.{name}"])
    table = source["live_encoder.relative_bias.weight"]
    for part in ("question_encoder", "memory_encoder.encoder", "live_encoder"):
        assert torch.equal(split[f"{part}.relative_bias.weight"], table)
    copies = [p.data_ptr() for p in split.values()]
    assert len(copies) == len(set(copies))
    assert not any(p.requires_grad for n, p in split.items() if n.startswith("memory_encoder."))


@quick
@given(examples=questions())
def test_all_layers_live_gives_the_same_answers(examples) -> None:
    fid, batch = random_reader(FID), batch_of(examples)
    for live in (3, "3/3"):
        lumen, notes = reshape(fid, live_layers=live)
        assert torch.equal(lumen(batch).logits, fid(batch).logits)
        assert notes.lines() == []


@pytest.mark.parametrize(("given_live", "live"), [("1/3", 1), (Fraction(2, 3), 2), ("2", 2), ("0/1", 0)])
def test_live_layers_as_a_proportion(given_live, live: int) -> None:
    assert reshape(random_reader(FID), live_layers=given_live)[0].config.live == live


def test_a_proportion_that_is_no_number_of_layers_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"1/2 of 3 .* nearest are 1 \(1/3\) and 2 \(2/3\)"):
        reshape(random_reader(FID), live_layers="1/2")


# Memory encoders of their own


LARGE = small(encoder=stack(5, width=24, heads=2), decoder=stack(2, width=24))


@quick
@given(examples=questions())
def test_another_encoder_as_the_memory_encoder(examples) -> None:
    fid, large = random_reader(FID), random_reader(LARGE, seed=1)
    lumen, notes = reshape(fid, live_layers=1, memory_encoder=large)
    batch = batch_of(examples)
    found = lumen.encode_passages(batch.passage_ids, batch.passage_lengths)
    rows = Rows(batch.passage_lengths)
    wanted = EncoderLayers.__call__(large.live_encoder, large.embedding(rows.pack(batch.passage_ids)), rows)
    assert torch.equal(found, wanted)
    assert lumen.config.memory_encoder == large.config.encoder
    assert not any(p.requires_grad for p in lumen.memory_encoder.parameters())
    assert notes.remarks == (
        "memory is 24 wide, the encoder 16: the projection between them is random and has to be trained",
    )
    again, _ = reshape(fid, live_layers=1, memory_encoder=large)
    assert torch.equal(lumen(batch).logits, again(batch).logits)


@pytest.mark.parametrize("live", range(4))
def test_a_memory_encoder_of_its_own_stays_where_the_split_moves(live: int) -> None:
    fid = random_reader(FID)
    deep = random_reader(small(encoder=stack(5), decoder=stack(2)), seed=1)
    first, notes = reshape(fid, memory_encoder=deep)
    assert first.config.live == 3  # in front of the whole encoder
    assert notes.remarks == ()  # of the same width
    moved, _ = reshape(first, live_layers=live)
    assert (moved.config.question_layers, moved.config.memory_layers) == (3 - live, 5)
    source, found = parameters(deep), parameters(moved)
    for name, p in found.items():
        if name.startswith("memory_encoder.encoder."):
            inner = name.removeprefix("memory_encoder.encoder.")
            assert torch.equal(p, source[f"live_encoder.{inner}"])
    back, _ = reshape(moved, live_layers=3)
    assert all(torch.equal(p, parameters(first)[name]) for name, p in parameters(back).items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocabulary_size": 40}, "vocabulary_size is 40, expected 37"),
        ({"relative_buckets": 16}, "relative_buckets is 16, expected 8"),
        ({"live_layers": 1}, "it has a memory encoder itself"),
    ],
)
def test_encoders_that_do_not_suit(change: dict, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        reshape(random_reader(FID), memory_encoder=random_reader(LARGE.replace(**change)))


# Reranking


@quick
@given(examples=questions())
def test_scores_start_at_zero_and_the_first_passages_are_kept(examples) -> None:
    fid, batch = random_reader(FID), batch_of(examples)
    ranking, notes = reshape(fid, rerank=RerankConfig(after=2, keep=2))
    assert notes.lines() == []
    first = batch_of([(q, passages[:2], t) for q, passages, t in examples])
    torch.testing.assert_close(ranking(batch).logits, fid(first).logits, atol=1e-5, rtol=1e-5)
    assert (ranking.read(batch).scores_BN.clamp(min=-1) <= 0).all()


def test_another_place_for_the_scores_starts_them_anew() -> None:
    ranking, _ = reshape(random_reader(FID), rerank=RerankConfig(after=3, keep=2))
    with torch.no_grad():
        ranking.reranker.weight.normal_()
        ranking.reranker.norm.weight.normal_()
    kept, _ = reshape(ranking, kv_heads=1)
    assert torch.equal(kept.reranker.weight, ranking.reranker.weight)
    moved, _ = reshape(ranking, rerank=RerankConfig(after=2, keep=4))
    assert moved.config.rerank == RerankConfig(after=2, keep=4)
    assert moved.reranker.weight.abs().sum() == 0
    assert (moved.reranker.norm.weight == 1).all()
    with pytest.raises(ConfigError, match=r"rerank\.after is 3, more than the live layers"):
        reshape(ranking, live_layers=1)


def test_scores_in_the_same_place_stay() -> None:
    ranking, _ = reshape(random_reader(FID), rerank=RerankConfig(after=3, keep=2))
    with torch.no_grad():
        ranking.reranker.weight.normal_()
        ranking.reranker.norm.weight.normal_()
    for knobs in (
        {"rerank": RerankConfig(after=3, keep=1)},
        {"live_layers": 1, "rerank": RerankConfig(after=1, keep=4)},
    ):
        same, _ = reshape(ranking, **knobs)
        assert same.config.rerank == knobs["rerank"]
        assert torch.equal(same.reranker.weight, ranking.reranker.weight)
        assert torch.equal(same.reranker.norm.weight, ranking.reranker.norm.weight)


def test_no_live_layers_put_the_question_once_into_the_context() -> None:
    reader, notes = reshape(random_reader(FID), live_layers=0)
    assert reader.config.question_in_context == "once"
    assert len(notes.remarks) == 1


def test_all_at_once_and_on() -> None:
    fido, _ = reshape(random_reader(FID), cross_attention_every=2, kv_heads=2, live_layers=2)
    smaller, notes = reshape(fido, cross_attention_every=4, kv_heads=1, live_layers=1)
    assert (smaller.config.cross_attention_every, smaller.config.kv_heads) == (4, (1, 1))
    assert smaller.config.live == 1
    assert {name.split(".")[2] for name in notes.dropped} == {"1"}


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({}, {"cross_attention_every": 5}, "decoder has 4 layers"),
        ({"cross_attention_every": 2}, {"cross_attention_every": 1}, "layers 0, 2 .* choose a multiple of 2"),
        ({}, {"kv_heads": 3}, "must divide the decoder's 4 heads"),
        ({"kv_heads": 1}, {"kv_heads": 2}, "must divide the 1 that self-attention has"),
        ({}, {"live_layers": 4}, "encoder has 3 layers"),
        ({}, {"live_layers": -1}, "live_layers: expected 0 or more, got -1"),
    ],
)
def test_shapes_that_cannot_be_made(first: dict, then: dict, message: str) -> None:
    reader, _ = reshape(random_reader(FID), **first)
    with pytest.raises(ConfigError, match=message):
        reshape(reader, **then)


def test_encoders_trained_apart_keep_their_split() -> None:
    reader = random_reader(FID.replace(live_layers=1), apart=True)
    with pytest.raises(CheckpointError, match="trained apart"):
        reshape(reader, live_layers=2)
    assert reshape(reader, kv_heads=1)[0].config.live == 1


def test_a_memory_encoder_of_another_family() -> None:
    other = random_reader(LARGE.replace(block="t5"), seed=3)
    moved, _ = reshape(random_reader(FID), memory_encoder=other)
    assert (moved.config.encoder.family, moved.config.memory_stack.family) == ("t5-v1.1", "t5")
    batch = batch_of([([3, 4], [[5, 6, 7], [8]], [9, 1])])
    rows = Rows(batch.passage_lengths)
    expected = EncoderLayers.forward(other.live_encoder, other.embedding(rows.pack(batch.passage_ids)), rows)
    assert torch.equal(moved.encode_passages(batch.passage_ids, batch.passage_lengths), expected)
