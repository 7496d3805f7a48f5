"""`fidkit train`, and the life of a reader: trained by a recipe, judged, asked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fidkit.cli.app import run
from fidkit.cli.train import line
from train.toy import FACTS, write_rows, write_world

LEARN = {
    "stages": "[{ steps = 70, questions = 8, mix = { facts = 1.0 }, auxiliary = 1.0 }]",
    "optimiser": "{ rate = 6e-3, warmup = 5 }",
    "dropout": "0.0",
    "evaluation.every": "35",
    "evaluation.limit": "8",
    "log_every": "10",
    "save_every": "70",
}


def train(folder: Path, **changes: str) -> list[str]:
    settings = {"data": str(folder), "output": str(folder / "run")} | changes
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return ["train", str(write_world(folder)), *words]


def output_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_a_reader_is_trained_judged_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train(tmp_path, **LEARN)) == 0
    out, err = capsys.readouterr()
    best = out.strip()
    assert out == f"{tmp_path / 'run' / 'best'}\n"
    assert "step 70: facts EM 100.0 F1 100.0" in err

    passages = tmp_path / "passages.jsonl"
    assert run(["corpus", "build", str(passages), "--to", str(tmp_path / "corpus")]) == 0
    capsys.readouterr()
    judge = ["evaluate", "--reader", best, "--data", str(tmp_path / "questions.jsonl"), "--json"]
    judge += ["--corpus", str(tmp_path / "corpus")]
    report = output_of([*judge, "--context", "gold"], capsys)
    assert (report["n"], report["em"], report["f1"]) == (8, 100, 100)

    text, question, answers = FACTS[3][1:]
    (tmp_path / "tea.txt").write_text(text)
    asked = ["ask", question, "--in", str(tmp_path / "tea.txt"), "--reader", best, "--json"]
    record = output_of(asked, capsys)
    assert record["answer"] in answers
    assert record["reader"] == best


def test_without_questions_to_judge_by_the_last_reader_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = "[{ steps = 1, questions = 2, mix = { facts = 1.0 } }]"
    arguments = train(tmp_path, **{"stages": stage, "evaluation.files": "{}"})
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip(), "model.safetensors").is_file()
    assert "step 1: loss" in err
    # Started again, it is done already.
    assert run(arguments) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"seed": "many"}, 2, "seed: "),
        ({"reader.preset": "fid-huge"}, 2, "no preset 'fid-huge'"),
        ({"passages": '["missing.jsonl"]'}, 1, "missing.jsonl"),
        ({"sources.facts.files": '["missing.jsonl"]'}, 1, "missing.jsonl"),
        ({"sources.facts.retrieved": '["missing.jsonl"]'}, 1, "missing.jsonl"),
        ({"sources.facts.files": '["recipe.toml"]'}, 1, "recipe.toml:2: expected a JSON record"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, change: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train(tmp_path, **change)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_missing_recipe_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "no/such/recipe.toml"]) == 2
    assert "no/such/recipe.toml: expected a recipe in TOML" in capsys.readouterr().err


def test_rows_of_the_log_read_well() -> None:
    row = {"kind": "train", "step": 50, "loss": 1.23456, "tokens_per_s": 12345}
    assert line(row) == "step 50: loss 1.235, 12,345 tokens/s"
    scores = {"kind": "evaluation", "step": 50, "mean_f1": 3.0, "nq": {"em": 2.0, "f1": 3.04}}
    assert line(scores) == "step 50: nq EM 2.0 F1 3.0"


@pytest.mark.slow
def test_a_run_killed_by_the_system_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    stage = "[{ steps = 60, questions = 4, mix = { cloze = 1.0, facts = 1.0 } }]"
    commands = []
    for folder in (whole, killed):
        folder.mkdir()
        arguments = train(folder, stages=stage, save_every="5")
        commands.append([sys.executable, "-c", "from fidkit.cli import main; main()", *arguments])
    subprocess.run(commands[0], check=True, capture_output=True, timeout=300)
    for moment in (1, 5):
        process = subprocess.Popen(commands[1], stderr=subprocess.DEVNULL)
        log = killed / "run" / "log.jsonl"
        before = log.stat().st_size if log.exists() else 0
        while not log.exists() or log.stat().st_size < before + 300 * moment:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(commands[1], check=True, capture_output=True, timeout=300)
    first, second = (load_file(folder / "run" / "last" / "model.safetensors") for folder in (whole, killed))
    assert all((first[name] == second[name]).all() for name in first)


def test_held_out_files_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "held.jsonl", [{"question": ""}])
    assert run(train(tmp_path, held_out='["held.jsonl"]')) == 1
    assert "held.jsonl:1: `question` is empty" in capsys.readouterr().err
