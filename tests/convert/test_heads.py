import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fidkit.checkpoint.moments import Moments
from fidkit.convert import reshape
from fidkit.convert.heads import _context
from fidkit.convert.moments import reshape_moments
from fidkit.errors import ConfigError
from fidkit.reader import Reader
from oracles import batch_of, questions, quick, random_reader, small, stack

# Encoder and decoder of different widths, and several layers.
FID = small(encoder=stack(2, width=20), decoder=stack(3, width=16), shared_embedding=False)
WAYS = ["svd", "mean"]


def parameters(reader: Reader) -> dict[str, torch.Tensor]:
    return dict(reader.named_parameters())


def products(reader: Reader, layer: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each query head: what its scores and its output are made with, of vectors that norms have scaled."""
    weights, config = parameters(reader), reader.config
    attention = f"decoder.layers.{layer}.{kind}_attention"
    query, key, value, out = (
        weights[f"{attention}.{name}.weight"].detach().double() for name in ("query", "key", "value", "out")
    )
    asking = weights[f"{attention}_norm.weight"].detach()
    reading = asking if kind == "self" else weights["live_encoder.norm.weight"].detach()
    heads, width = config.decoder.heads, config.decoder.head_width
    repeat = heads * width // len(key)
    q = (query * asking).view(heads, width, -1)
    k, v = ((x * reading).view(-1, width, len(reading)).repeat_interleave(repeat, 0) for x in (key, value))
    o = out.view(-1, heads, width).transpose(0, 1)
    return q.mT @ k, o @ v


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_are_averaged_group_by_group(heads: int) -> None:
    fid = random_reader(FID)
    reader, notes = reshape(fid, kv_heads=heads, kv_heads_from="mean")
    assert reader.config.kv_heads == (heads, heads)
    merged = {
        f"decoder.layers.{n}.{kind}_attention.{m}.weight"
        for n in range(3) for kind in ("self", "cross") for m in ("key", "value")
    }  # fmt: skip
    assert set(notes.merged) == (set() if heads == 4 else merged)
    source, found = parameters(fid), parameters(reader)
    for name, old in source.items():
        wanted = old.view(heads, 4 // heads, 6, -1).mean(1).flatten(0, 1) if name in merged else old
        torch.testing.assert_close(found[name], wanted)


@pytest.mark.parametrize("way", WAYS)
@quick
@given(examples=questions())
def test_merging_equal_heads_changes_nothing(way: str, examples) -> None:
    fid = random_reader(FID)
    with torch.no_grad():
        for name, p in fid.named_parameters():
            if "decoder" in name and name.endswith(("key.weight", "value.weight")):
                heads = p.view(2, 2, 6, -1)  # 0 = 1 and 2 = 3
                heads[:, 1] = heads[:, 0]
    shared, _ = reshape(fid, kv_heads=2, kv_heads_from=way)
    batch = batch_of(examples)
    torch.testing.assert_close(shared(batch).logits, fid(batch).logits, atol=1e-4, rtol=1e-4)


BERT = stack(2).replace(family="bert")
COPIES = {
    "t5": small(token_skip=True),
    "apart": small(token_skip=True, encoder=stack(2, width=20), shared_embedding=False),
    "bert": small(token_skip=True, standardised_embedding=True, encoder=BERT),
    "nothing live": small(encoder=BERT, live_layers=0),
}


@pytest.mark.parametrize("name", COPIES)
def test_how_large_a_context_is_follows_from_the_weights(name: str) -> None:
    """Of every family, and with tokens beside states: what heads read is what they are compared by."""
    reader = random_reader(COPIES[name])
    ids = [list(range(2, 30)), list(range(5, 37))]
    context = reader.read(batch_of([(ids[0], ids, [3])]))
    measured = context.states_BMD.detach().square().mean((0, 1)).sqrt().double()
    found = _context(reader.config, parameters(reader))
    assert found.shape == (reader.config.context_width,)
    width = reader.config.encoder.width if reader.config.live else 0
    for part in (slice(0, width), slice(width, None)) if width else ():
        assert float(found[part].norm()) == pytest.approx(float(measured[part].norm()), rel=0.2)


@pytest.mark.parametrize("name", COPIES)
@quick
@given(examples=questions())
def test_merging_equal_heads_changes_no_decoder_that_copies(name: str, examples) -> None:
    reader = random_reader(COPIES[name])
    with torch.no_grad():
        for key, p in reader.named_parameters():
            if "decoder" in key and key.endswith(("key.weight", "value.weight")):
                heads = p.view(4, 6, -1)
                heads[1:] = heads[:1]
    batch = batch_of(examples)
    shared, _ = reshape(reader, kv_heads=1)
    torch.testing.assert_close(shared(batch).logits, reader(batch).logits, atol=1e-4, rtol=1e-4)


@quick
@given(examples=questions())
def test_heads_that_read_one_subspace_are_merged_without_loss(examples) -> None:
    # Different keys and values in every head, but all of them in 6 dimensions.
    fid = random_reader(FID)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in fid.named_parameters():
            if "decoder" in name and name.endswith(("key.weight", "value.weight")):
                mixed = torch.randn(24, 6, generator=generator)
                p.copy_(mixed @ torch.randn(6, p.shape[1], generator=generator) / 10)
    batch = batch_of(examples)
    wanted = fid(batch).logits
    shared, averaged = (reshape(fid, kv_heads=1, kv_heads_from=way)[0] for way in WAYS)
    torch.testing.assert_close(shared(batch).logits, wanted, atol=1e-3, rtol=1e-3)
    assert (averaged(batch).logits - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["self", "cross"])
@pytest.mark.parametrize("heads", [1, 2])
@quick
@given(seed=st.integers(0, 10**6))
def test_no_rank_changes_the_products_of_heads_less(kind: str, heads: int, seed: int) -> None:
    fid = random_reader(FID, seed)
    merged, _ = reshape(fid, kv_heads=heads)
    averaged, _ = reshape(fid, kv_heads=heads, kv_heads_from="mean")
    found = zip(*(products(reader, 1, kind) for reader in (fid, merged, averaged)), strict=True)
    for old, new, mean in found:
        error = (new - old).square().sum()
        # Eckart and Young: of a group, what lies outside of its h leading singular vectors.
        grouped = old.unflatten(0, (heads, -1)).flatten(1, 2)
        least = torch.linalg.svdvals(grouped)[:, 6:].square().sum()
        torch.testing.assert_close(error, least, rtol=1e-4, atol=1e-8)
        assert error < (mean - old).square().sum()


@pytest.mark.parametrize("heads", [1, 2])
def test_a_merged_head_is_as_large_as_its_heads_were(heads: int) -> None:
    """Scaled by what it reads: steps of training are small beside weights of the usual size."""
    fid = random_reader(FID)
    merged, _ = reshape(fid, kv_heads=heads)
    scale = parameters(fid)["live_encoder.norm.weight"]
    for matrix in ("key", "value"):
        old, new = (
            (parameters(reader)[f"decoder.layers.1.cross_attention.{matrix}.weight"] * scale)
            .unflatten(0, (heads, -1))
            .square()
            .mean((1, 2))
            for reader in (fid, merged)
        )
        torch.testing.assert_close(new, old)


def test_merging_in_steps_and_merging_what_is_shared_already() -> None:
    fid = random_reader(FID)
    halved, _ = reshape(fid, kv_heads=2)
    again, notes = reshape(halved, kv_heads=2)
    assert notes.merged == ()
    assert all(map(torch.equal, halved.parameters(), again.parameters()))
    one, _ = reshape(halved, kv_heads=1)
    old, new = products(halved, 2, "cross"), products(one, 2, "cross")
    for before, after in zip(old, new, strict=True):
        least = torch.linalg.svdvals(before.flatten(0, 1))[6:].square().sum()
        torch.testing.assert_close((after - before).square().sum(), least, rtol=1e-4, atol=1e-8)


def test_keys_and_values_stay_as_large() -> None:
    # The rate of relative updates and of Adam's is chosen for weights of their usual size.
    fid = random_reader(FID)
    source, found = parameters(fid), parameters(reshape(fid, kv_heads=1)[0])
    for name in ("self_attention.key", "cross_attention.value"):
        old, new = (weights[f"decoder.layers.0.{name}.weight"].detach() for weights in (source, found))
        assert 0.5 < float(new.square().mean() / old.square().mean()) < 2


def test_heads_wider_than_what_they_read_norms_of_zero_and_silent_heads() -> None:
    fid = random_reader(small(encoder=stack(2, width=4), decoder=stack(2, width=4), vocabulary_size=40))
    with torch.no_grad():
        fid.live_encoder.norm.weight[1] = 0
        fid.decoder.layers[0].self_attention.out.weight.zero_()
    merged, _ = reshape(fid, kv_heads=1)
    assert all(p.isfinite().all() for p in merged.parameters())
    torch.testing.assert_close(products(merged, 1, "cross"), products(fid, 1, "cross"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("live", [0, 1, 2])
def test_with_layers_that_are_not_live(live: int) -> None:
    lumen, _ = reshape(random_reader(FID), live_layers=live)
    merged, _ = reshape(lumen, kv_heads=1)
    other, _ = reshape(random_reader(FID), live_layers=live, kv_heads=1)
    assert all(map(torch.equal, merged.parameters(), other.parameters()))


@pytest.mark.parametrize("way", WAYS)
def test_heads_that_do_not_divide(way: str) -> None:
    fid = random_reader(FID)
    grouped, _ = reshape(fid, kv_heads=2)
    for change in (
        lambda: reshape(grouped, kv_heads=4, kv_heads_from=way),
        lambda: reshape_moments(grouped.config, Moments({}, 1), kv_heads=4, kv_heads_from=way),
    ):
        with pytest.raises(ConfigError, match="must divide the 2 that self-attention has"):
            change()
