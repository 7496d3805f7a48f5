import pytest
import torch
from hypothesis import given

from fidkit.convert import reshape
from fidkit.errors import CheckpointError, ConfigError
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


def test_no_live_layers_put_the_question_once_into_the_context() -> None:
    reader, notes = reshape(random_reader(FID), live_layers=0)
    assert reader.config.question_in_context == "once"
    assert len(notes.remarks) == 1


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_are_averaged_group_by_group(heads: int) -> None:
    fid = random_reader(FID)
    reader, notes = reshape(fid, kv_heads=heads)
    assert reader.config.kv_heads == (heads, heads)
    expected_names = {
        f"decoder.layers.{n}.{kind}_attention.{m}.weight"
        for n in range(4) for kind in ("self", "cross") for m in ("key", "value")
    }  # fmt: skip
    assert set(notes.averaged) == (set() if heads == 4 else expected_names)
    source, found = parameters(fid), parameters(reader)
    for name in expected_names:
        parts = source[name].view(4, 6, 16)
        groups = [sum(parts[g * 4 // heads : (g + 1) * 4 // heads]) * heads / 4 for g in range(heads)]
        torch.testing.assert_close(found[name], torch.cat(groups))


@quick
@given(examples=questions())
def test_averaging_equal_heads_changes_nothing(examples) -> None:
    fid = random_reader(FID)
    with torch.no_grad():
        for name, p in fid.named_parameters():
            if "decoder" in name and name.endswith(("key.weight", "value.weight")):
                # Heads 0 = 1 and 2 = 3.
                p.view(2, 2, 6, 16)[:, 1] = p.view(2, 2, 6, 16)[:, 0]
    shared, _ = reshape(fid, kv_heads=2)
    batch = batch_of(examples)
    torch.testing.assert_close(shared(batch).logits, fid(batch).logits, atol=1e-5, rtol=1e-5)


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
        ({}, {"live_layers": -1}, "greater than or equal to 0"),
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
