"""The directory of a run explains itself, and belongs to one recipe."""

import json
from pathlib import Path

import pytest

from fidkit.errors import ConfigError, FidkitError
from fidkit.train.distributed.group import Group
from fidkit.train.loop.run import LOCK, RunDirectory, differences
from fidkit.train.loop.training import Trainer
from train.toy import world

SHORT = "stages=[{ steps = 2, questions = 2, mix = { facts = 1.0 } }]"


def test_keys_that_change_what_is_learnt_are_named(tmp_path: Path) -> None:
    RunDirectory(world(tmp_path), Group())
    changes = ["optimiser.rate=0.5", "stages.1.questions=3", "log_every=7", "tasks.facts.verbatim=true"]
    with pytest.raises(ConfigError) as error:
        RunDirectory(world(tmp_path, *changes), Group())
    text = str(error.value)
    assert "optimiser.rate was 0.001, now 0.5" in text
    assert "stages.1.questions was 2, now 3" in text
    assert "tasks.facts.verbatim was False, now True" in text
    assert "log_every" not in text
    assert "\n" not in text


def test_a_run_that_called_bfloat16_otherwise_goes_on(tmp_path: Path) -> None:
    """As the first versions wrote it; the new name takes its place."""
    RunDirectory(world(tmp_path, "precision=bfloat16"), Group())
    kept = tmp_path / "run" / "recipe.json"
    kept.write_text(kept.read_text(encoding="utf-8").replace('"bfloat16"', '"bf16"'), encoding="utf-8")
    assert json.loads(kept.read_text(encoding="utf-8"))["precision"] == "bf16"
    assert RunDirectory(world(tmp_path, "precision=bfloat16"), Group()).changed == {}
    assert json.loads(kept.read_text(encoding="utf-8"))["precision"] == "bfloat16"
    with pytest.raises(ConfigError, match="precision was bfloat16, now float32"):
        RunDirectory(world(tmp_path), Group())


def test_many_changes_are_counted(tmp_path: Path) -> None:
    RunDirectory(world(tmp_path), Group())
    with pytest.raises(ConfigError, match=r"; and \d+ more\);"):
        RunDirectory(world(tmp_path, SHORT, "seed=9"), Group())


def test_keys_that_change_nothing_learnt_may_differ_and_the_log_says_so(tmp_path: Path) -> None:
    Trainer(world(tmp_path, SHORT, "evaluation.files={}")).run()
    before = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    changes = ["save_every=9", "log_every=3", "threads=1", 'checkpointing=["decoder"]', "health.restarts=4"]
    recipe = world(tmp_path, SHORT, "evaluation.files={}", *changes)
    Trainer(recipe).run()
    added = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").removeprefix(before)
    row = json.loads(added)
    assert row["kind"] == "change"
    assert row["keys"]["save_every"] == [2, 9]
    assert row["keys"].keys() == {change.partition("=")[0] for change in changes}
    kept = json.loads((tmp_path / "run" / "recipe.json").read_text(encoding="utf-8"))
    assert kept["save_every"] == 9


def test_a_run_that_goes_on_with_other_passages_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = world(tmp_path, SHORT, "evaluation.files={}", "save_every=1")
    caplog.set_level("INFO", logger="fidkit")
    trainer = Trainer(recipe)
    trainer.train_step()
    trainer.save()
    trainer.checkpoints.finish()
    assert Trainer(recipe).resume()
    rows = (tmp_path / "passages.jsonl").read_text(encoding="utf-8")
    (tmp_path / "passages.jsonl").write_text(rows.replace("Fram", "Gjoa"), encoding="utf-8")
    assert "the passages aren't those" not in caplog.text
    again = Trainer(recipe)
    again.run()
    assert "the passages aren't those that the 1 steps so far were done with" in caplog.text
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert logged[0]["kind"] == "change"
    assert logged[0]["keys"] == {"passages (fingerprint)": [trainer.passages, again.passages]}
    assert trainer.passages != again.passages
    with caplog.at_level("INFO", logger="fidkit"):
        caplog.clear()
        Trainer(recipe).run()  # from a save that was made with these
    assert "the passages aren't those" not in caplog.text


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    recipe = world(tmp_path, SHORT, "evaluation.files={}")
    first, second = Trainer(recipe), Trainer(recipe)
    with (
        first.directory.held(),
        pytest.raises(FidkitError, match="another process is training"),
    ):
        second.run()
    assert not (tmp_path / "run" / "last").exists()
    Trainer(recipe).run()
    assert (tmp_path / "run" / "last").exists()


def test_differences_are_by_dotted_name(tmp_path: Path) -> None:
    a, b = world(tmp_path), world(tmp_path, "reader.changes.dropout=0.3", "stages.0.mix={ cloze = 1.0 }")
    assert differences(a, a) == {}
    assert differences(a, b) == {
        "reader.changes": ({}, None),
        "reader.changes.dropout": (None, 0.3),
        "stages.0.mix.cloze": (0.5, 1.0),
        "stages.0.mix.facts": (0.5, None),
    }


def test_every_file_of_a_run_is_explained(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Trainer(world(tmp_path, SHORT, "tensorboard=true", "save_every=1")).run()
    text = (tmp_path / "run" / "README.txt").read_text(encoding="utf-8")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    readers = {"last", "previous", "best"}
    assert names == {"README.txt", "recipe.json", "log.jsonl", "tensorboard", LOCK} | readers
    for name in names - {"README.txt"}:
        assert any(line.startswith(name) for line in text.splitlines()), name
