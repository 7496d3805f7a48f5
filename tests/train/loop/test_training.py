"""The loop: learns, resumes exactly, and what it writes can be relied on."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fidkit import Passage
from fidkit.answerer import Answerer
from fidkit.errors import CheckpointError, ConfigError, DataError
from fidkit.nn.encoder import EncoderLayers
from fidkit.nn.positions import RelativeBias
from fidkit.nn.rows import Rows
from fidkit.reader import Reader
from fidkit.train.data.examples import Example
from fidkit.train.loop.checkpoints import OPTIMISER, STATE
from fidkit.train.loop.schedule import rate
from fidkit.train.loop.state import read
from fidkit.train.loop.training import Trainer
from train.toy import FACTS, IDS, world

TIMES = {"seconds", "cpu_seconds", "tokens_per_s", "questions_per_s", "left_s"}
NOT_OF_THE_RUN = TIMES | {"peak_share"}


def stages(**settings: Any) -> str:
    """A change that leaves one stage of three steps."""
    fields = {"steps": 3, "questions": 2, "mix": {"facts": 1.0}} | settings
    mix = ", ".join(f"{name} = {weight}" for name, weight in fields.pop("mix").items())
    values = ", ".join(f"{key} = {value}" for key, value in fields.items())
    return f"stages=[{{ mix = {{ {mix} }}, {values} }}]"


def log_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in NOT_OF_THE_RUN} for line in lines]


def state_of(folder: Path) -> dict[str, Any]:
    """What a run goes on from; tensors of the optimiser and the auxiliary heads among it."""
    last = folder / "run" / "last"
    return torch.load(last / STATE, weights_only=True) | {"tensors": read(last / OPTIMISER, {}, None)}


def assert_same_run(a: Path, b: Path) -> None:
    assert log_of(a) == log_of(b)
    for name in ("last", "best"):
        weights = [load_file(folder / "run" / name / "model.safetensors") for folder in (a, b)]
        torch.testing.assert_close(*weights, rtol=0, atol=0)
    first, second = state_of(a), state_of(b)
    for name in ("step", "best", "stream", "health", "restarts", "rows", "optimiser"):
        assert first[name] == second[name]
    for key in ("tensors", "random"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    assert {name.split("/")[0] for name in first["tensors"]} >= {"optimiser", "auxiliary"}


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def killed_after(step: int, kind: str = "train"):
    def report(row: dict[str, Any]) -> None:
        if row["step"] == step and row["kind"] == kind:
            raise Killed

    return report


# Exact resume


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in one go: two stages, dropout, accumulation, an evaluation; saved every second step."""
    folder = tmp_path_factory.mktemp("whole")
    Trainer(world(folder)).run()
    return folder


@pytest.mark.slow  # each step; the test below kills at two of them
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_killed_run_goes_on_bit_by_bit(whole: Path, tmp_path: Path, step: int) -> None:
    with pytest.raises(Killed):
        Trainer(world(tmp_path), killed_after(step)).run()
    assert log_of(tmp_path)[-1]["step"] == step
    torch.manual_seed(step)  # another process starts with other random numbers
    Trainer(world(tmp_path)).run()
    assert_same_run(whole, tmp_path)


def test_a_run_killed_twice_goes_on_bit_by_bit(whole: Path, tmp_path: Path) -> None:
    for step, kind in ((3, "train"), (4, "evaluation")):
        with pytest.raises(Killed):
            Trainer(world(tmp_path), killed_after(step, kind)).run()
    with (tmp_path / "run" / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"kind": "tr')  # killed while writing
    Trainer(world(tmp_path)).run()
    assert_same_run(whole, tmp_path)


def test_a_finished_run_is_left_alone(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    recipe = world(tmp_path, f"output={whole / 'run'}", f"data={whole}")
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")}
    rows: list[dict[str, Any]] = []
    Trainer(recipe, rows.append).run()
    assert rows == []
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")} == before


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_between_the_renames_of_a_save_loses_nothing(
    tmp_path: Path, rename: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = world(tmp_path, stages())
    trainer = Trainer(recipe)
    trainer.train_step()
    trainer.save()
    for _ in range(2):  # killed again while it recovers
        trainer.train_step()
        trainer.checkpoints.finish()
        kill_at_rename(monkeypatch, rename)
        trainer.save()
        with pytest.raises(Killed):
            trainer.checkpoints.finish()
        monkeypatch.undo()
        trainer = Trainer(recipe)
        trainer.resume()
        assert trainer.step == 1


def kill_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    rename, calls = Path.rename, []

    def counted(path: Path, target: Path) -> Path:
        calls.extend([path] if path.parent.name == "run" else [])  # PyTorch renames files of its own
        if len(calls) == number:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)


def test_an_unreadable_state_says_what_to_delete(tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, stages()))
    trainer.save()
    trainer.checkpoints.finish()
    (tmp_path / "run" / "last" / STATE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"delete .*last to start over"):
        trainer.resume()


def test_encoder_layers_are_run_as_they_are_said_to_be(tmp_path: Path) -> None:
    ran: list[EncoderLayers] = []

    def noted(layers: EncoderLayers, x: Tensor, rows: Rows, norm: nn.Module | None = None) -> Tensor:
        ran.append(layers)
        return layers(x, rows, norm)

    split = stages(), 'reader.preset="tiny-lumen"', 'reader.initialisation="t5"'
    plainly = Trainer(world(tmp_path / "plain", *split)).train_step()
    trainer = Trainer(world(tmp_path / "noted", *split), run=noted)
    assert trainer.train_step() == plainly
    reader = trainer.reader
    assert ran == [reader.memory_encoder.encoder, reader.question_encoder, reader.live_encoder]


# What a run directory holds


def test_the_log_has_a_row_a_report(whole: Path) -> None:
    rows = log_of(whole)
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == [1, 2, 3, 4, 5, 6]
    assert {"kind", "step", "steps", "rate", "loss", "norm"} <= train[0].keys() & train[-1].keys()
    assert {"guide", "pointer", "overlap"} <= train[0].keys()
    assert "guide" not in train[-1]  # its stage leaves them out
    recipe = world(whole)
    assert [row["rate"] for row in train] == [rate(step, 6, recipe.optimiser) for step in range(6)]
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["step"] for row in evaluations] == [4, 6]
    assert evaluations[0]["facts"].keys() == {"em", "f1"}
    full = (whole / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(full).keys() >= TIMES


def test_means_of_the_log_are_over_the_steps_since_the_last_row(tmp_path: Path) -> None:
    Trainer(world(tmp_path, stages(), "log_every=2", "evaluation.files={}")).run()
    one_by_one = tmp_path / "each"
    Trainer(world(one_by_one, stages(), "evaluation.files={}")).run()
    a, b, c = (row["loss"] for row in log_of(one_by_one))
    assert [row["loss"] for row in log_of(tmp_path)] == [pytest.approx((a + b) / 2, abs=1e-4), c]


def test_readers_of_a_run_are_plain_readers(whole: Path) -> None:
    names = {name for name, _ in Reader.from_preset("tiny-fid").named_parameters()}
    for name in ("last", "best"):
        assert load_file(whole / "run" / name / "model.safetensors").keys() == names
    # Second moments aside, which a later run may carry on.
    assert [p.name for p in (whole / "run" / "best" / "training").iterdir()] == ["moments.safetensors"]
    assert Reader.from_pretrained(whole / "run" / "best").config.dropout == 0.1


def test_a_run_from_before_a_key_was_known_goes_on(tmp_path: Path) -> None:
    Trainer(world(tmp_path, stages())).run()
    path = tmp_path / "run" / "recipe.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for stage in record["stages"]:
        del stage["rerank"], stage["rerank_temperature"]
    path.write_text(json.dumps(record), encoding="utf-8")
    Trainer(world(tmp_path, stages())).resume()
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a run of another recipe"):
        Trainer(world(tmp_path, stages()))


def test_another_recipe_may_not_go_on_in_the_same_directory(whole: Path) -> None:
    kept = json.loads((whole / "run" / "recipe.json").read_text(encoding="utf-8"))
    assert kept == world(whole).model_dump(mode="json")
    with pytest.raises(ConfigError, match="holds a run of another recipe"):
        Trainer(world(whole, "optimiser.rate=0.5"))
    assert json.loads((whole / "run" / "recipe.json").read_text(encoding="utf-8")) == kept


def test_best_is_the_reader_with_the_highest_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(world(tmp_path, stages()))
    means = iter([(10, 20), (40, 10), (0, 30), (30, 10)])
    monkeypatch.setattr(
        trainer.development,
        "scores",
        lambda reader: {n: {"em": 0.0, "f1": float(v)} for n, v in zip("ab", next(means), strict=True)},
    )
    for value in range(4):
        torch.nn.init.constant_(trainer.reader.decoder.norm.weight, value)
        trainer.evaluate()
    best = Reader.from_pretrained(tmp_path / "run" / "best")
    assert set(best.decoder.norm.weight.tolist()) == {1.0}
    assert [row["mean_f1"] for row in log_of(tmp_path)] == [15, 25, 15, 20]


# One step


class Listed:
    """A stream of batches given beforehand."""

    def __init__(self, batches: list[list[Example]]) -> None:
        self.batches = iter(batches)

    def next(self, stage: int) -> list[Example]:
        return next(self.batches)


EXAMPLES = [
    Example([300, 301], [[400, 401, 1]], [400, 1]),
    Example([302], [[500, 501, 502, 1], [503, 1]], [501, 502, 600, 601, 602, 603, 1]),
    Example([303, 304, 305], [[700, 1]], [1]),
    Example([306], [[800, 801, 1]], [800, 801, 1]),
]


def one_step(folder: Path, batches: list[list[Example]], *changes: str) -> tuple[dict[str, float], dict]:
    """Losses and gradients (as the optimiser gets them) of one step over `batches`."""
    setting = stages(steps=10, questions=len(batches[0]), accumulate=len(batches))
    trainer = Trainer(world(folder, setting, "dropout=0.0", *changes))
    trainer.stream = Listed(batches)
    names = {p: name for name, p in trainer.reader.named_parameters()}
    gradients: dict[str, torch.Tensor] = {}
    trainer.optimiser.register_step_pre_hook(
        lambda *_: gradients.update({n: p.grad.clone() for p, n in names.items() if p.grad is not None})
    )
    losses, _ = trainer.train_step()
    return losses, gradients


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    free = "optimiser.clip=1e9"
    whole, expected = one_step(tmp_path / "one", [EXAMPLES], free)
    parts, gradients = one_step(tmp_path / "two", [EXAMPLES[:2], EXAMPLES[2:]], free)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)


def test_auxiliary_losses_fade_for_the_last_tenth_of_a_run(tmp_path: Path) -> None:
    """To three tenths: the gradients of their own weights, which nothing else reaches, say so."""

    def gradients(step: int) -> torch.Tensor:
        setting = stages(steps=20, questions=len(EXAMPLES), auxiliary=1.0)
        trainer = Trainer(world(tmp_path / str(step), setting, "dropout=0.0", "optimiser.clip=1e9"))
        trainer.stream, trainer.step = Listed([EXAMPLES]), step
        found: list[torch.Tensor] = []
        trainer.optimiser.register_step_pre_hook(
            lambda *_: found.extend(p.grad.flatten().clone() for p in trainer.auxiliary.parameters())
        )
        trainer.train_step()
        return torch.cat(found)

    full = gradients(0)
    assert full.abs().max() > 0
    torch.testing.assert_close(gradients(17), full)
    torch.testing.assert_close(gradients(18), 0.3 * full)


PACKINGS = [
    [[0, 1, 2, 3]],
    [[3, 1, 0, 2]],
    [[0], [1], [2], [3]],
    [[1, 2], [3, 0]],
    [[2], [0, 1, 3]],
]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory):
    """Losses and gradients of a preset's reader where each example is a batch of its own."""

    @functools.cache
    def step(preset: str) -> tuple[dict[str, float], dict]:
        folder = tmp_path_factory.mktemp(preset)
        return one_step(folder, [[example] for example in EXAMPLES], f"reader.preset={preset}")

    return step


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-lumen"])
def test_the_loss_does_not_depend_on_how_examples_are_packed(
    tmp_path: Path, packing: list[list[int]], preset: str, one_by_one
) -> None:
    examples = [[EXAMPLES[i] for i in batch] for batch in packing]
    losses, gradients = one_step(tmp_path, examples, f"reader.preset={preset}")
    expected, wanted = one_by_one(preset)
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)


def test_accumulation_equals_a_larger_batch_over_many_steps(tmp_path: Path) -> None:
    weights = []
    for name, batches in (("whole", [EXAMPLES]), ("parts", [EXAMPLES[:1], EXAMPLES[1:]])):
        setting = stages(steps=20, questions=4, accumulate=len(batches))
        trainer = Trainer(world(tmp_path / name, setting, "dropout=0.0"))
        trainer.stream = Listed(batches * 20)
        for _ in range(20):
            trainer.train_step()
        weights.append({n: p.detach() for n, p in trainer.reader.named_parameters()})
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped_to_the_norm_and_the_log_has_the_norm_before(tmp_path: Path) -> None:
    def norm(gradients: dict[str, torch.Tensor]) -> float:
        return float(torch.cat([g.flatten() for g in gradients.values()]).double().norm())

    free, unclipped = one_step(tmp_path / "free", [EXAMPLES], "optimiser.clip=1e9")
    short, clipped = one_step(tmp_path / "short", [EXAMPLES], "optimiser.clip=0.01")
    assert free["norm"] == pytest.approx(norm(unclipped), rel=1e-4)
    assert short["norm"] == free["norm"]
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)


def test_a_stage_distils_into_the_scores(tmp_path: Path) -> None:
    preset = "reader.preset=tiny-glimmer"
    plain, without = one_step(tmp_path / "plain", [EXAMPLES], preset)
    trainer = Trainer(world(tmp_path / "on", stages(rerank=0.5, passages=2), preset))
    trainer.stream = Listed([EXAMPLES])
    before = trainer.reader.reranker.weight.clone()
    losses, _ = trainer.train_step()
    assert losses["rerank"] >= 0
    assert "rerank" not in plain
    assert not any(name.startswith("reranker.") for name in without)
    assert not torch.equal(trainer.reader.reranker.weight, before)


def test_what_is_frozen_stays_as_it_was_and_the_checkpoint_says_so(tmp_path: Path) -> None:
    changes = 'reader.changes={ frozen = ["memory", "question"] }'
    trainer = Trainer(world(tmp_path, stages(), "reader.preset=tiny-lumen", changes))
    before = {name: p.clone() for name, p in trainer.reader.named_parameters()}
    trainer.run()
    after = Reader.from_pretrained(tmp_path / "run" / "last")
    assert after.config.frozen == ("memory", "question")
    for name, p in after.named_parameters():
        frozen = name.startswith(("memory_encoder.", "question_encoder."))
        assert torch.equal(p, before[name]) == frozen, name
        assert p.requires_grad != frozen


@pytest.mark.parametrize("preset", ["tiny-fid", "tiny-fido", "tiny-lumen", "tiny-lumen-deep", "tiny-glimmer"])
def test_matrices_decay_and_nothing_else(tmp_path: Path, preset: str) -> None:
    trainer = Trainer(world(tmp_path, f"reader.preset={preset}"))
    decaying, other = ({id(p) for p in group["params"]} for group in trainer.optimiser.param_groups)
    assert trainer.optimiser.param_groups[1]["weight_decay"] == 0
    biases = {id(m.weight) for m in trainer.reader.modules() if isinstance(m, RelativeBias)}
    for name, p in trainer.reader.named_parameters():
        assert (id(p) in decaying) == (p.requires_grad and p.ndim == 2 and id(p) not in biases), name
        assert (id(p) in other) == (p.requires_grad and id(p) not in decaying), name
    assert {id(p) for p in trainer.auxiliary.parameters()} <= other


# It learns


@pytest.mark.slow
def test_a_reader_learns_eight_questions_by_heart_in_bfloat16(tmp_path: Path) -> None:
    recipe = world(
        tmp_path,
        stages(steps=70, questions=8, auxiliary=1.0),
        "precision=bfloat16",
        "optimiser={ rate = 6e-3, warmup = 5 }",
        "dropout=0.0",
        "evaluation.every=70",
        "log_every=14",
        "save_every=70",
    )
    Trainer(recipe).run()
    losses = [row["loss"] for row in log_of(tmp_path) if row["kind"] == "train"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 4
    reader = Reader.from_pretrained(tmp_path / "run" / "best")
    passages = [Passage(i, title, text) for i, (title, text, *_) in zip(IDS, FACTS, strict=True)]
    answers = Answerer(reader, precision="as-is").read(
        [question for *_, question, _ in FACTS], [[passage] for passage in passages]
    )
    for (*_, accepted), answer in zip(FACTS, answers, strict=True):
        assert answer.text in accepted


# What is wrong is said


def test_a_reader_without_scores_learns_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stage 1 has rerank = 1, but the reader doesn't rerank"):
        Trainer(world(tmp_path, stages(rerank=1.0)))
    assert not (tmp_path / "run").exists()


def test_an_evaluation_without_passages_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"questions\.jsonl: no question with retrieved passages"):
        Trainer(world(tmp_path, "evaluation.context=retrieved"))


def test_training_goes_on_from_another_reader(whole: Path, tmp_path: Path) -> None:
    start = f"reader={{ start = '{whole / 'run' / 'best'}' }}"
    trainer = Trainer(world(tmp_path, start, "dropout=0.0"))
    assert trainer.reader.config.dropout == 0.0
    for name, p in Reader.from_pretrained(whole / "run" / "best").named_parameters():
        assert torch.equal(trainer.reader.get_parameter(name), p), name


def test_changes_shape_a_preset(tmp_path: Path) -> None:
    trainer = Trainer(world(tmp_path, "reader.changes.cross_kv_heads=1"))
    assert trainer.reader.config.kv_heads[1] == 1


def test_changes_that_no_weights_fit_are_refused(tmp_path: Path) -> None:
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "trained")
    trained = f'reader={{ start = "{tmp_path / "trained"}", changes = {{ cross_kv_heads = 1 }} }}'
    with pytest.raises(CheckpointError, match=r"reader\.changes does not fit"):
        Trainer(world(tmp_path, trained))
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        Trainer(world(tmp_path, "reader.changes.colour=red"))
