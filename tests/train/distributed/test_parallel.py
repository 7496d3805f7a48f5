"""Two processes, whole or sharded, train as one process with the same batches; checkpoints fit any number."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fidkit.checkpoint.moments import FILE
from fidkit.reader import Reader
from fidkit.train.loop import state
from fidkit.train.loop.checkpoints import OPTIMISER
from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import load_recipe
from launched import group
from train.toy import write_world

STEPS = 12
STAGE = (
    f"stages=[{{ steps = {STEPS}, questions = 3, accumulate = 2, passages = 2, mix = {{ facts = 1.0 }} }}]"
)
SHORT = "stages=[{ steps = 4, questions = 1, accumulate = 2, mix = { facts = 1.0 } }]"
"""One question a batch: the second process has none, and only keeps step."""
STAGED = (
    "stages=[{ steps = 3, questions = 3, mix = { facts = 1.0 }, answer = 0.0, auxiliary = { pointer = 1 } }, "
    "{ steps = 3, questions = 3, mix = { facts = 1.0 } }]"
)
MEANS = ["average=0.8", "optimiser.rates={ embedding = 0, encoder = 0.5 }"]
"""The decoder is not run at first, some parameters have no gradient at all, and readers are means."""
PLAIN = ["dropout=0.0", "evaluation.files={}", f"save_every={STEPS}", "optimiser.rate=0.003"]


def job(folder: Path, output: str, *changes: str, steps: int | None = None) -> dict[str, Any]:
    places = [f"data={folder}", f"output={folder / output}"]
    return {"recipe": str(folder / "recipe.toml"), "changes": [*places, *PLAIN, *changes], "steps": steps}


def carried(folder: Path) -> list[str]:
    """On from what two processes left, with their second moments."""
    start = f"reader={{ start = '{folder / 'fsdp' / 'last'}' }}"
    return [start, "optimiser.moments=carry", "optimiser.kind=hybrid", "optimiser.rate=0.003"]


def together(folder: Path, *jobs: dict[str, Any]) -> None:
    group(2, work, jobs, says=folder / "said")


def work(jobs: tuple[dict[str, Any], ...]) -> None:
    """Of one of two processes."""
    for job in jobs:
        trainer = alone(job)
    trainer.group.leave()


def alone(job: dict[str, Any]) -> Trainer:
    trainer = Trainer(load_recipe(Path(job["recipe"]), job["changes"]))
    if job["steps"] is None:
        trainer.run()
        return trainer
    trainer.resume()
    for _ in range(job["steps"]):
        trainer.train_step()
    trainer.save()
    trainer.checkpoints.finish()
    return trainer


def weights(folder: Path, output: str) -> dict[str, torch.Tensor]:
    return load_file(folder / output / "last" / "model.safetensors")


def losses(folder: Path, output: str) -> list[float]:
    rows = map(json.loads, (folder / output / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["loss"] for row in rows if row["kind"] == "train"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes do, in one launch."""
    folder = tmp_path_factory.mktemp("parallel")
    write_world(folder)
    sharded = "parallel=fsdp"
    bfloat16 = ["precision=bfloat16", 'checkpointing=["encoder", "decoder"]']
    together(
        folder,
        job(folder, "ddp", STAGE),
        job(folder, "fsdp", STAGE, sharded),
        job(folder, "moved", SHORT, sharded, steps=2),
        job(folder, "carried", SHORT, *carried(folder), sharded),
        job(folder, "staged ddp", STAGED, *MEANS),
        job(folder, "staged fsdp", STAGED, *MEANS, sharded),
        job(folder, "bfloat16", SHORT, sharded, *bfloat16, "evaluation.files={ facts = 'questions.jsonl' }"),
    )
    alone(job(folder, "one", STAGE))
    return folder


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_are_one_over_many_steps(folder: Path, how: str) -> None:
    one, two = losses(folder, "one"), losses(folder, how)
    assert len(two) == STEPS
    assert two[-1] < 0.6 * two[0]
    assert two == pytest.approx(one, abs=1.01e-4)  # of the log, which has four decimals
    torch.testing.assert_close(weights(folder, how), weights(folder, "one"), rtol=1e-5, atol=1e-5)


def test_two_processes_write_second_moments_and_carry_them_on(folder: Path) -> None:
    two, one = (load_file(folder / name / "last" / FILE) for name in ("fsdp", "one"))
    assert two.keys() == one.keys()
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-9)
    alone(job(folder, "carried alone", SHORT, *carried(folder)))
    torch.testing.assert_close(
        weights(folder, "carried"), weights(folder, "carried alone"), rtol=1e-5, atol=1e-5
    )
    alone(job(folder, "fresh", SHORT, *carried(folder), "optimiser.moments=fresh"))
    name = "decoder.layers.0.feed_forward.out.weight"
    assert not torch.allclose(weights(folder, "fresh")[name], weights(folder, "carried")[name], atol=1e-4)


def test_a_checkpoint_of_two_is_read_by_one_and_back(folder: Path) -> None:
    written = state.read(folder / "moved" / "last" / OPTIMISER, {}, None)
    trainer = alone(job(folder, "moved", SHORT, "parallel=ddp", steps=0))
    torch.testing.assert_close(
        state.read(folder / "moved" / "last" / OPTIMISER, {}, None), written, rtol=0, atol=0
    )
    names = state.names_of(trainer.optimiser, trainer._parameters())
    assert {name.split("/")[1] for name in written if name.startswith("optimiser/")} <= set(names)
    alone(job(folder, "moved", SHORT, "parallel=ddp", steps=1))
    together(folder, job(folder, "moved", SHORT, "parallel=fsdp", steps=1))
    alone(job(folder, "straight", SHORT, steps=4))
    # Adam makes steps of tiny gradients, which are of another last bit in another order.
    torch.testing.assert_close(weights(folder, "moved"), weights(folder, "straight"), rtol=1e-4, atol=1e-4)
    Reader.from_pretrained(folder / "moved" / "last")


def test_sharded_bfloat16_keeps_float32_masters(folder: Path) -> None:
    alone(job(folder, "float32", SHORT))
    masters, exact = weights(folder, "bfloat16"), weights(folder, "float32")
    assert {w.dtype for w in masters.values()} == {torch.float32}
    torch.testing.assert_close(masters, exact, rtol=0.05, atol=0.02)
    assert any((w.bfloat16().float() != w).any() for w in masters.values())
    moments = state.read(folder / "bfloat16" / "last" / OPTIMISER, {}, None)
    assert {t.dtype for t in moments.values()} == {torch.float32}
    assert (folder / "bfloat16" / "best" / "model.safetensors").is_file()


def test_stages_without_a_decoder_and_means_are_the_same_sharded(folder: Path) -> None:
    """The pointer's loss is a mean over each process's share, so that no process alone has the same."""
    whole, sharded = (weights(folder, f"staged {how}") for how in ("ddp", "fsdp"))
    torch.testing.assert_close(sharded, whole, rtol=1e-4, atol=1e-4)  # Adam makes steps of tiny gradients
    kept = state.read(folder / "staged fsdp" / "last" / OPTIMISER, {}, None)
    own = {name.removeprefix("weights/"): t for name, t in kept.items() if name.startswith("weights/")}
    assert whole.keys() - own.keys() == {"embedding.weight"}
    assert not torch.allclose(own["decoder.norm.weight"], whole["decoder.norm.weight"], atol=1e-5)
    # One process goes on from either.
    alone(job(folder, "staged fsdp", STAGED, *MEANS, steps=0))
    written = weights(folder, "staged fsdp")
    torch.testing.assert_close(written, sharded, rtol=0, atol=0)
