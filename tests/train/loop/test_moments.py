"""Second moments out of one run and into the next, whatever their optimisers."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from fidkit.checkpoint.moments import FILE, Moments, load_moments, save_moments
from fidkit.cli.app import run
from fidkit.errors import CheckpointError, ConfigError
from fidkit.reader import Reader
from fidkit.train.loop.moments import carry, moments_of
from fidkit.train.loop.training import Trainer
from fidkit.train.optimisers.make import make_optimiser
from fidkit.train.specs import OptimiserSpec
from oracles import batch_of, random_reader, small
from train.toy import world

KINDS = ["adamw", "adamw-scaled", "hybrid", "adafactor"]
EXAMPLES = [([3, 4], [[5, 6, 7], [8, 9]], [10, 11, 1]), ([7], [[4, 5]], [6, 1])]


def optimiser_for(reader: Reader, kind: str, **settings) -> torch.optim.Optimizer:
    return make_optimiser(OptimiserSpec(kind=kind, rate=1e-3, **settings), reader, nn.Linear(2, 2))


def train(reader: Reader, optimiser: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        reader(batch_of(EXAMPLES)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Reader, Moments]:
    """A reader that was trained with the hybrid, and its moments beside it."""
    reader = random_reader(small())
    optimiser = optimiser_for(reader, "hybrid")
    train(reader, optimiser, 5)
    moments = moments_of(optimiser, reader)
    reader.save_pretrained(tmp_path / "start")
    save_moments(moments, tmp_path / "start")
    return tmp_path / "start", reader, moments


@pytest.mark.parametrize("kind", KINDS)
def test_a_moment_is_the_mean_square_of_the_gradient(kind: str) -> None:
    # The same gradient in every step, of rank 1 so that factors can hold its squares.
    reader = random_reader(small())
    optimiser = optimiser_for(reader, kind)
    for _ in range(3):
        for p in reader.parameters():
            factors = [torch.linspace(0.5, 2, size) for size in p.shape]
            p.grad = factors[0] if p.ndim == 1 else torch.outer(*factors)
        optimiser.step()
    moments = moments_of(optimiser, reader)
    assert moments.steps == 3
    for name, p in reader.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(moments.tensors[name], p.grad.square(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, KINDS)))
def test_moments_go_from_any_optimiser_to_any(one: str, other: str, tmp_path: Path) -> None:
    reader = random_reader(small())
    first = optimiser_for(reader, one)
    train(reader, first, 5)
    given = moments_of(first, reader)
    reader.save_pretrained(tmp_path)
    save_moments(given, tmp_path)
    second = optimiser_for(reader, other)
    assert carry(second, reader, str(tmp_path)) == []
    found = moments_of(second, reader)
    for name, moment in given.tensors.items():
        if other == "adafactor" and moment.ndim > 1:
            for side in (-1, -2):
                torch.testing.assert_close(found.tensors[name].mean(side), moment.mean(side))
        else:
            torch.testing.assert_close(found.tensors[name], moment)


def test_a_carried_run_takes_the_steps_of_one_that_never_stopped(trained) -> None:
    # With the mean settled and no first moment, the moments are all there is to an optimiser.
    start, _, _ = trained
    whole = random_reader(small())
    optimiser = optimiser_for(whole, "hybrid", decay=0.1)
    train(whole, optimiser, 20)
    whole.save_pretrained(start)
    save_moments(moments_of(optimiser, whole), start)
    again = Reader.from_pretrained(start)
    other = optimiser_for(again, "hybrid", decay=0.1)
    assert carry(other, again, str(start)) == []
    train(whole, optimiser, 3)
    train(again, other, 3)
    for name, p in whole.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[name], p, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_carried_moments_are_used(kind: str, trained) -> None:
    start, reader, moments = trained
    larger = {name: 100 * t for name, t in moments.tensors.items()}
    save_moments(Moments(larger, moments.steps), start)
    carried, fresh = (Reader.from_pretrained(start) for _ in range(2))
    optimiser = optimiser_for(carried, kind, weight_decay=0.0)
    carry(optimiser, carried, str(start))
    train(carried, optimiser, 1)
    train(fresh, optimiser_for(fresh, kind, weight_decay=0.0), 1)
    name = "decoder.layers.0.feed_forward.out.weight"
    was = dict(reader.named_parameters())[name].detach()
    steps = [(dict(r.named_parameters())[name].detach() - was).norm() for r in (carried, fresh)]
    assert 0 < steps[0] < 0.5 * steps[1]


@pytest.mark.parametrize("way", ["svd", "mean"])
def test_moments_survive_saving_converting_and_loading(trained, way: str, tmp_path: Path) -> None:
    start, _, moments = trained
    knobs = ["--cross-attention-every", "2", "--kv-heads", "1", "--kv-heads-from", way, "--live-layers", "1"]
    assert run(["convert", str(start), str(tmp_path / "lumen-fido"), *knobs]) == 0
    reader = Reader.from_pretrained(tmp_path / "lumen-fido")
    optimiser = optimiser_for(reader, "hybrid")
    assert carry(optimiser, reader, str(tmp_path / "lumen-fido")) == []
    found, trained_names = (
        moments_of(optimiser, reader),
        {n for n, p in reader.named_parameters() if p.requires_grad},
    )
    assert found.tensors.keys() == trained_names
    head = moments.tensors["decoder.layers.1.cross_attention.key.weight"].view(4, 6, 16).mean(0)
    if way == "svd":
        head = head.mean(0, keepdim=True).expand(6, 16)
    torch.testing.assert_close(found.tensors["decoder.layers.1.cross_attention.key.weight"], head)
    table = moments.tensors["live_encoder.relative_bias.weight"]
    torch.testing.assert_close(found.tensors["question_encoder.relative_bias.weight"], table)
    train(reader, optimiser, 1)


def test_a_grown_decoder_begins_anew_where_it_is_new(trained, tmp_path: Path, capsys) -> None:
    start, _, _ = trained
    assert run(["convert", str(start), str(tmp_path / "large"), "--decoder", "small"]) == 0
    said = capsys.readouterr().err
    assert "the decoder has grown from 2 layers of width 16" in said
    assert "carried the second moments of" in said
    reader = Reader.from_pretrained(tmp_path / "large")
    assert reader.config.decoder.width == 512
    fresh = carry(optimiser_for(reader, "hybrid"), reader, str(tmp_path / "large"))
    assert fresh
    assert all(name.startswith(("decoder.", "head.")) for name in fresh)


def test_no_moments_to_carry(tmp_path: Path) -> None:
    reader = random_reader(small())
    reader.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r'no second moments to carry on .* optimiser.moments = "fresh"'
    ):
        carry(optimiser_for(reader, "hybrid"), reader, str(tmp_path))


def test_moments_of_another_reader(trained) -> None:
    start, _, moments = trained
    wrong = {name: t[:-1] for name, t in moments.tensors.items()}
    save_moments(Moments(wrong, 1), start)
    reader = Reader.from_pretrained(start)
    with pytest.raises(CheckpointError, match=rf"{FILE} does not fit .* expected"):
        carry(optimiser_for(reader, "adamw"), reader, str(start))
    assert load_moments(start) is not None


# Through runs


HYBRID = ["optimiser.kind=hybrid", "optimiser.rate=0.003"]


@pytest.mark.slow
def test_a_run_goes_on_from_the_moments_of_another(tmp_path: Path) -> None:
    Trainer(world(tmp_path / "first", *HYBRID)).run()
    folders = [tmp_path / "first" / "run" / name for name in ("last", "best")]
    saved = [load_moments(folder) for folder in folders]
    assert [m.steps if m else None for m in saved] == [6, 4]  # evaluated after 4 steps and after 6
    start = [f"reader={{ start = '{folders[0]}' }}", *HYBRID]
    rows: list[dict] = []
    second = Trainer(world(tmp_path / "second", *start, "optimiser.moments=carry"), rows.append)
    second.run()
    Trainer(world(tmp_path / "third", *start)).run()
    assert rows[0] == {**rows[0], "kind": "moments", "step": 0, "fresh": []}
    weights = [Reader.from_pretrained(tmp_path / name / "run" / "last") for name in ("second", "third")]
    assert not all(map(torch.equal, *(reader.parameters() for reader in weights)))


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "hybrid" else pytest.mark.slow) for k in KINDS]
)
def test_a_converted_reader_is_trained_on_from_its_moments(kind: str, tmp_path: Path, capsys) -> None:
    Trainer(world(tmp_path / "first", f"optimiser.kind={kind}")).run()
    last, fido = (str(tmp_path / name) for name in ("first/run/last", "fido"))
    assert run(["convert", last, fido, "--cross-attention-every", "3", "--kv-heads", "1"]) == 0
    assert "carried the second moments of" in capsys.readouterr().err
    changes = [f"reader={{ start = '{fido}' }}", "optimiser.moments=carry", f"optimiser.kind={kind}"]
    changes += [f"data={tmp_path / 'first'}", f"output={tmp_path / 'second'}"]
    words = [word for change in changes for word in ("--set", change)]
    assert run(["train", str(tmp_path / "first" / "recipe.toml"), *words]) == 0
    assert "step 0: second moments carried on\n" in capsys.readouterr().err
    saved = load_moments(tmp_path / "second" / "last")
    assert saved is not None
    assert saved.steps > 6  # those of the first run count


@pytest.mark.slow
def test_a_carried_run_that_is_killed_goes_on_bit_by_bit(tmp_path: Path) -> None:
    Trainer(world(tmp_path / "first", *HYBRID)).run()
    changes = [f"reader={{ start = '{tmp_path / 'first' / 'run' / 'last'}' }}", *HYBRID]
    changes.append("optimiser.moments=carry")

    def kill(row: dict) -> None:
        if row["step"] == 3 and row["kind"] == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(world(tmp_path / "killed", *changes), kill).run()
    Trainer(world(tmp_path / "killed", *changes)).run()
    Trainer(world(tmp_path / "whole", *changes)).run()
    readers = [Reader.from_pretrained(tmp_path / name / "run" / "last") for name in ("killed", "whole")]
    assert all(map(torch.equal, *(reader.parameters() for reader in readers)))


def test_random_weights_have_none_to_carry(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"random weights have no second moments; give reader\.start"):
        world(tmp_path, "optimiser.moments=carry")


def test_a_run_says_what_it_misses(tmp_path: Path) -> None:
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "start")
    recipe = world(
        tmp_path / "run", f"reader={{ start = '{tmp_path / 'start'}' }}", "optimiser.moments=carry"
    )
    with pytest.raises(CheckpointError, match="no second moments to carry on"):
        Trainer(recipe).run()
