"""Second moments stay with their weights through changes of shape."""

from pathlib import Path

import pytest
import torch

from fidkit.checkpoint.moments import FILE, Moments, load_moments, save_moments
from fidkit.config import RerankConfig
from fidkit.convert import carry_moments, reshape
from fidkit.convert.moments import reshape_moments
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from oracles import random_reader, small, stack

FID = small(decoder=stack(4))


def moments_for(reader: Reader) -> Moments:
    """Different numbers for every entry of every trained parameter."""
    generator = torch.Generator().manual_seed(5)
    trained = {name: p for name, p in reader.named_parameters() if p.requires_grad}
    return Moments({n: torch.rand(p.shape, generator=generator) for n, p in trained.items()}, steps=123)


def carried(before: Reader, **knobs) -> tuple[Moments, Moments, Reader]:
    given = moments_for(before)
    return given, reshape_moments(before.config, given, **knobs), reshape(before, **knobs)[0]


def assert_fits(moments: Moments, reader: Reader) -> None:
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    assert all(shapes[name] == t.shape for name, t in moments.tensors.items())
    assert moments.steps == 123


def test_nothing_asked_nothing_changed() -> None:
    given, found, reader = carried(random_reader(FID))
    assert found.tensors.keys() == given.tensors.keys() == dict(reader.named_parameters()).keys()
    assert all(torch.equal(t, found.tensors[name]) for name, t in given.tensors.items())


@pytest.mark.parametrize("way", ["mean", "svd"])
def test_dropped_layers_lose_theirs_and_merged_heads_have_the_mean(way: str) -> None:
    given, found, reader = carried(random_reader(FID), cross_attention_every=2, kv_heads=2, kv_heads_from=way)
    assert found.tensors.keys() == dict(reader.named_parameters()).keys()
    assert_fits(found, reader)
    for name in ("self_attention.key", "cross_attention.value"):
        wanted = given.tensors[f"decoder.layers.3.{name}.weight"].view(2, 2, 6, 16).mean(1)
        if way == "svd":
            wanted = wanted.mean(1, keepdim=True).expand(2, 6, 16)
        torch.testing.assert_close(found.tensors[f"decoder.layers.3.{name}.weight"], wanted.reshape(12, 16))
    query, out = (f"decoder.layers.3.cross_attention.{name}.weight" for name in ("query", "out"))
    if way == "mean":
        assert torch.equal(found.tensors[query], given.tensors[query])
        assert torch.equal(found.tensors[out], given.tensors[out])
        return
    of_heads = given.tensors[query].view(4, 6, 16).mean(1, keepdim=True).expand(4, 6, 16)
    torch.testing.assert_close(found.tensors[query], of_heads.reshape(24, 16))
    of_heads = given.tensors[out].view(16, 4, 6).mean(2, keepdim=True).expand(16, 4, 6)
    torch.testing.assert_close(found.tensors[out], of_heads.reshape(16, 24))


def test_the_mean_of_dropped_layers_is_that_of_their_moments() -> None:
    given, found, _ = carried(random_reader(FID), cross_attention_every=2, cross_attention_from="mean")
    name = "decoder.layers.{}.cross_attention.out.weight"
    wanted = (given.tensors[name.format(2)] + given.tensors[name.format(3)]) / 2
    torch.testing.assert_close(found.tensors[name.format(3)], wanted)


@pytest.mark.parametrize("live", range(4))
def test_a_split_encoder_has_copies(live: int) -> None:
    given, found, reader = carried(random_reader(FID), live_layers=live)
    assert found.tensors.keys() == dict(reader.named_parameters()).keys()
    assert_fits(found, reader)
    for layer in range(3):
        source = given.tensors[f"live_encoder.layers.{layer}.feed_forward.out.weight"]
        rest = "layers.{}.feed_forward.out.weight"
        parts = ("question_encoder.", "memory_encoder.encoder.") if layer < 3 - live else ("live_encoder.",)
        place = layer if layer < 3 - live else layer - 3 + live
        for part in parts:
            assert torch.equal(found.tensors[part + rest.format(place)], source)


def test_a_trained_split_reader_can_be_split_elsewhere() -> None:
    # Its memory encoder is frozen, so that it has no moments.
    given, found, reader = carried(random_reader(FID.replace(live_layers=1)), live_layers=2)
    assert not any(name.startswith("memory_encoder") for name in given.tensors)
    assert_fits(found, reader)
    assert {n for n, p in reader.named_parameters() if p.requires_grad} <= found.tensors.keys()


def test_what_is_drawn_has_none() -> None:
    large = random_reader(small(encoder=stack(5, width=24), decoder=stack(2, width=24)), seed=1)
    knobs = {"live_layers": 1, "memory_encoder": large, "rerank": RerankConfig(after=1, keep=2)}
    _, found, reader = carried(random_reader(FID), **knobs)
    assert_fits(found, reader)
    without = {name for name, p in reader.named_parameters() if p.requires_grad} - found.tensors.keys()
    assert without == {"memory_projection.weight", "reranker.norm.weight", "reranker.weight"}
    again = reshape_moments(reader.config, moments_for(reader), rerank=RerankConfig(after=1, keep=3))
    assert {"reranker.norm.weight", "reranker.weight"} <= again.tensors.keys()  # they stay where they were
    ranking = random_reader(small(live_layers=2, rerank={"after": 1, "keep": 2}))
    again = reshape_moments(ranking.config, moments_for(ranking), rerank=RerankConfig(after=2, keep=2))
    assert not any(name.startswith("reranker") for name in again.tensors)


def test_layers_take_theirs_along_when_a_decoder_grows(tmp_path: Path) -> None:
    before = random_reader(FID.replace(cross_attention_every=2))
    given = moments_for(before)
    save_moments(given, tmp_path / "small")
    before.save_pretrained(tmp_path / "small")
    after, _ = reshape(before, decoder=stack(8))
    notes = carry_moments(tmp_path / "small", after, tmp_path / "large", decoder=stack(8))
    found = load_moments(tmp_path / "large")
    assert found is not None
    assert_fits(found, after)
    name = "decoder.layers.{}.cross_attention.key.weight"
    assert torch.equal(found.tensors[name.format(5)], given.tensors[name.format(3)])
    fresh = {n for n, _ in after.named_parameters()} - found.tensors.keys()
    assert {n.split(".")[2] for n in fresh} == {"2", "3", "6", "7"}
    total = len(dict(after.named_parameters()))
    assert notes.lines() == [
        f"carried the second moments of {len(found.tensors)} tensors; {len(fresh)} of {total} start without"
    ]


def test_a_wider_decoder_starts_without() -> None:
    _, found, reader = carried(random_reader(FID), decoder=stack(4, width=20, heads=8))
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    fitting = {name for name, t in found.tensors.items() if shapes.get(name) == t.shape}
    assert {name for name in shapes if not name.startswith(("decoder.", "head."))} <= fitting


def test_no_moments_no_note(tmp_path: Path) -> None:
    reader = random_reader(FID)
    reader.save_pretrained(tmp_path / "a")
    assert carry_moments(tmp_path / "a", reader, tmp_path / "b").lines() == []
    assert not (tmp_path / "b" / FILE).exists()


def test_moments_of_another_reader(tmp_path: Path) -> None:
    reader = random_reader(FID)
    reader.save_pretrained(tmp_path)
    save_moments(moments_for(random_reader(small(decoder=stack(4, feed_forward=24)))), tmp_path)
    with pytest.raises(CheckpointError, match=r"feed_forward.gate.weight is \[24, 16\], expected \[20, 16\]"):
        carry_moments(tmp_path, reader, tmp_path / "b")
    save_moments(Moments({"decoder.nonsense": torch.ones(1)}, 1), tmp_path)
    with pytest.raises(CheckpointError, match=r"unexpected decoder\.nonsense; delete it to go on without"):
        carry_moments(tmp_path, reader, tmp_path / "b")
