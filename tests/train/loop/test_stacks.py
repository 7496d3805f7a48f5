"""Layers that are computed again, or compiled, train as they do otherwise."""

import functools
import logging
from pathlib import Path

import pytest
import torch

from fidkit.train.loop import stacks
from fidkit.train.loop.training import Trainer
from train.loop.test_training import EXAMPLES, one_step
from train.toy import world


def setting(preset: str) -> list[str]:
    return [f"reader.preset={preset}", "stages.0.auxiliary=1.0"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory):
    """Losses and gradients of a preset's reader where nothing is computed again."""
    return functools.cache(
        lambda preset: one_step(tmp_path_factory.mktemp(preset), [EXAMPLES], *setting(preset))
    )


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-fido", "tiny-lumen", "tiny-glimmer"])
@pytest.mark.parametrize("chosen", ['["encoder"]', '["decoder"]', '["encoder", "decoder"]'])
def test_recomputing_changes_no_bit(tmp_path: Path, preset: str, chosen: str, kept) -> None:
    plain, expected = kept(preset)
    again, gradients = one_step(tmp_path, [EXAMPLES], *setting(preset), f"checkpointing={chosen}")
    assert again == plain
    torch.testing.assert_close(gradients, expected, rtol=0, atol=0)


def test_recomputing_drops_out_the_same_and_shows_probes_one_computation(tmp_path: Path) -> None:
    weights = []
    for name, chosen in (("plain", "[]"), ("again", '["encoder", "decoder"]')):
        trainer = Trainer(world(tmp_path / name, "dropout=0.3", f"checkpointing={chosen}"))
        for _ in range(3):  # guided by attention scores
            trainer.train_step()
        weights.append({n: p.detach() for n, p in trainer.reader.named_parameters()})
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_recomputed_layers_keep_less(tmp_path: Path) -> None:
    def kept(name: str, chosen: str) -> int:
        trainer = Trainer(world(tmp_path / name, f"checkpointing={chosen}"))
        trainer.reader.train()
        sizes: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t)
        with hooks:
            trainer.losses(trainer.stream.next(0), trainer.recipe.stages[0])
        return sum(sizes)

    everything = kept("all", "[]")
    encoder, decoder, both = (
        kept(c[2:5], c) for c in ('["encoder"]', '["decoder"]', '["encoder","decoder"]')
    )
    assert both < min(encoder, decoder)
    assert max(encoder, decoder) < everything


@pytest.mark.slow
def test_compiled_layers_train_alike(tmp_path: Path) -> None:
    plain, expected = one_step(tmp_path / "plain", [EXAMPLES])
    compiled, gradients = one_step(tmp_path / "compiled", [EXAMPLES], "compile=true")
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_training_goes_on_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    with caplog.at_level(logging.WARNING, logger=stacks.__name__):
        losses, _ = one_step(tmp_path / "run", [EXAMPLES], "compile=true")
    assert "nothing is compiled, training takes longer: " in caplog.text
    assert losses["loss"] > 0
    torch._dynamo.reset()
