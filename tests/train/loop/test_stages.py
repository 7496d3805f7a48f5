"""Stages of different kinds in one run: what each trains and says, and that all goes on exactly."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fidkit.errors import ConfigError
from fidkit.reader import Reader
from fidkit.train.loop.checkpoints import OPTIMISER
from fidkit.train.loop.schedule import rate, rate_at
from fidkit.train.loop.state import read
from fidkit.train.loop.training import Trainer
from train.loop.test_training import Killed, assert_same_run, killed_after, log_of
from train.toy import world

POINT = "{ steps = 3, questions = 4, mix = { facts = 1.0 }, answer = 0.0, auxiliary = { pointer = 1.0 } }"
WRITE = (
    "{ steps = 3, questions = 4, mix = { facts = 1.0 }, rate = 0.5, "
    "auxiliary = { guide = 0.5, pointer = 1.0 } }"
)
RATES = "optimiser={ rate = 1e-2, rates = { embedding = 0, encoder = 0.1 }, span = 'stage', warmup = 2 }"
CHANGES = [
    f"stages=[{POINT}, {WRITE}]", RATES, "average=0.8", "guide={ layers = 1, heads = 'all' }",
    "evaluation.every=2", "tasks.facts.verbatim=true",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    Trainer(world(folder, *CHANGES)).run()
    return folder


@pytest.mark.parametrize("step", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5))])
def test_a_killed_run_goes_on_bit_by_bit(whole: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(Killed):
        Trainer(world(tmp_path, *CHANGES), killed_after(step)).run()
    torch.manual_seed(step)
    Trainer(world(tmp_path, *CHANGES)).run()
    assert_same_run(whole, tmp_path)


def test_only_the_encoder_and_the_pointer_learn_to_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(world(tmp_path, *CHANGES))
    monkeypatch.setattr(trainer.reader.decoder, "forward", None)  # nothing of it is run
    before = {name: p.clone() for name, p in trainer._parameters().items()}
    losses, _ = trainer.train_step()
    assert losses.keys() == {"pointer", "norm"}
    trainer.evaluate()  # nobody has learnt to write yet, so the pointer answers
    [row] = log_of(tmp_path)
    assert (row["kind"], row["facts"].keys(), trainer.best) == ("pointing", {"em", "f1"}, -1)
    moved = {name for name, p in trainer._parameters().items() if not torch.equal(p, before[name])}
    still = ("decoder.", "head.", "embedding.", "memory_encoder.", "auxiliary.overlap")
    assert moved == {name for name in before if not name.startswith(still)}
    assert {"auxiliary.pointer.weight", "live_encoder.norm.weight"} <= moved


def test_the_log_has_what_each_stage_learns_and_the_rates_of_its_parts(whole: Path) -> None:
    train = [row for row in log_of(whole) if row["kind"] == "train"]
    named = [row.keys() & {"loss", "guide", "pointer", "overlap"} for row in train]
    assert named == [{"pointer"}] * 3 + [{"loss", "guide", "pointer"}] * 3
    spec = world(whole, *CHANGES).optimiser
    expected = [factor * rate(step, 3, spec) for factor in (1.0, 0.5) for step in range(3)]
    assert [row["rate"] for row in train] == pytest.approx(expected)
    assert train[0]["rate"] == 0.5 * train[1]["rate"] == train[3]["rate"] / 0.5  # each warms up
    assert all(
        row["rates"] == {"embedding": 0.0, "encoder": pytest.approx(0.1 * row["rate"])} for row in train
    )
    # Nothing is written before.
    asked = [(row["kind"], row["step"]) for row in log_of(whole) if row["kind"] != "train"]
    assert asked == [("pointing", 2), ("evaluation", 4), ("evaluation", 6)]


def test_heads_that_point_are_kept_from_stage_to_stage(tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, *CHANGES))
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    trainer.checkpoints.finish()
    kept = read(tmp_path / "run" / "last" / OPTIMISER, {}, None)
    for name, tensor in trainer.auxiliary.state_dict().items():
        assert torch.equal(kept[f"auxiliary/{name}"], tensor)
    trainer.train_step()
    assert not torch.equal(kept["auxiliary/pointer.weight"], trainer.auxiliary.pointer.weight)


def test_a_run_is_one_schedule_unless_stages_have_their_own(tmp_path: Path) -> None:
    recipe = world(tmp_path, f"stages=[{POINT}, {WRITE}]", "optimiser.warmup=2")
    rates = [rate_at(step, recipe) for step in range(6)]
    assert rates == [
        factor * rate(step, 6, recipe.optimiser) for step, factor in enumerate([1.0] * 3 + [0.5] * 3)
    ]


@pytest.mark.parametrize("losses", ["auxiliary = 0.0", "auxiliary = { pointer = 0.0 }", "rerank = 0.0"])
def test_a_stage_that_learns_nothing_is_refused(tmp_path: Path, losses: str) -> None:
    with pytest.raises(ConfigError, match="all 0, so that nothing would be learnt"):
        world(tmp_path, f"stages=[{{ steps = 1, mix = {{ facts = 1 }}, answer = 0.0, {losses} }}]")


def test_a_batch_with_nothing_to_point_at_does_no_harm(tmp_path: Path) -> None:
    trainer = Trainer(
        world(tmp_path, *CHANGES, "tasks.facts.verbatim=false", "tasks.facts.unanswerable=['foreign']")
    )
    losses, _ = trainer.train_step()
    assert losses == {"pointer": 0.0, "norm": 0.0}


# Means of weights


def test_the_mean_is_what_is_saved_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(world(tmp_path, *CHANGES))
    seen: list[dict[str, torch.Tensor]] = []

    def look(reader: Reader) -> dict[str, dict[str, float]]:
        seen.append({name: p.detach().clone() for name, p in reader.named_parameters()})
        return {"facts": {"em": 0.0, "f1": 0.0}}

    monkeypatch.setattr(trainer.development, "scores", look)
    mean = {name: p.detach().clone() for name, p in trainer.reader.named_parameters()}
    for step in range(1, 7):
        trainer.train_step()
        decay = min(0.8, (1 + step) / (10 + step))
        for name, p in trainer.reader.named_parameters():
            mean[name] = decay * mean[name] + (1 - decay) * p.detach()
    own = {name: p.detach().clone() for name, p in trainer.reader.named_parameters()}
    trainer.evaluate()
    trainer.save()
    trainer.checkpoints.finish()
    for found in (
        *seen,
        *(load_file(tmp_path / "run" / at / "model.safetensors") for at in ("best", "last")),
    ):
        torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-6)
    # Training goes on with the weights as they are.
    assert all(torch.equal(p, own[name]) for name, p in trainer.reader.named_parameters())
    assert not torch.equal(own["decoder.norm.weight"], mean["decoder.norm.weight"])
    again = Trainer(world(tmp_path, *CHANGES))
    again.resume()
    assert all(torch.equal(p, own[name]) for name, p in again.reader.named_parameters())
