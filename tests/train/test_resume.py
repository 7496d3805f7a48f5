"""Whatever a run learns from and however it steps: killed and resumed, it ends with the same bits."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from fidkit.checkpoint.moments import FILE, load_moments
from fidkit.reader import Reader
from fidkit.train.loop.moments import moments_of
from fidkit.train.loop.training import Trainer
from train.loop.test_training import Killed, assert_same_run, killed_after
from train.toy import world

KINDS = ["adamw", "adamw-scaled", "hybrid", "adafactor"]
TEXT = "tasks.text={ kind = 'span-corruption', files = ['passages.jsonl'], input_tokens = 40 }"
STAGES = (
    "stages=[{ steps = 3, questions = 2, mix = { text = 1.0, facts = 1.0 }, auxiliary = 0.5 }, "
    "{ steps = 3, questions = 2, accumulate = 2, passages = 2, mix = { facts = 1.0, text = 1.0 }, "
    "distil = 1.0, distil_temperature = 2.0, answer = 0.5, targets = 'teacher' }]"
)


def everything(folder: Path, teacher: Path, kind: str) -> list[str]:
    """Text to restore, questions, then a teacher's distribution and its answers; dropout all along."""
    schedule = "inverse-sqrt" if kind == "adafactor" else "cosine"
    return [
        f"data={folder}",
        f"output={folder / 'run'}",
        TEXT,
        STAGES,
        f"teacher.reader={teacher}",
        f"optimiser.kind={kind}",
        f"optimiser.schedule={schedule}",
        "evaluation.every=3",
    ]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    Reader.from_preset("tiny-fido", seed=9).save_pretrained(folder)
    return folder


MOMENTS = ((1, "train"), (3, "evaluation"), (5, "train"))
"""In the stage of text, at the border between them, and in that of the teacher."""


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("hybrid", MOMENTS[2:]),
        *(pytest.param(kind, MOMENTS, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_every_optimiser_and_task_goes_on_bit_by_bit(
    kind: str, moments: tuple[tuple[int, str], ...], teacher: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    Trainer(world(whole, *everything(whole, teacher, kind))).run()
    for step, of in moments:
        with pytest.raises(Killed):
            Trainer(world(killed, *everything(killed, teacher, kind)), killed_after(step, of)).run()
    Trainer(world(killed, *everything(killed, teacher, kind))).run()
    assert_same_run(whole, killed)
    for name in ("last", "best"):
        a, b = (load_file(folder / "run" / name / FILE) for folder in (whole, killed))
        assert a.keys() == b.keys()
        assert all((a[key] == b[key]).all() for key in a)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_beside_a_save_are_those_of_its_step(kind: str, teacher: Path, tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, *everything(tmp_path, teacher, kind)))
    for _ in range(2):
        trainer.train_step()
    expected = moments_of(trainer.optimiser, trainer.reader)
    kept = {name: tensor.clone() for name, tensor in expected.tensors.items()}
    trainer.save()
    trainer.train_step()
    trainer.checkpoints.finish()
    found = load_moments(tmp_path / "run" / "last")
    assert found is not None
    assert found.steps == 2
    assert found.tensors.keys() == kept.keys()
    assert kept.keys() == {name for name, p in trainer.reader.named_parameters() if p.requires_grad}
    assert all((found.tensors[name] == kept[name]).all() for name in kept)
