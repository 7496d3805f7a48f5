"""`fidkit train`, and the life of a reader: trained by a recipe, judged, asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from fidkit.cli.app import run
from fidkit.cli.train import line
from fidkit.preset import named
from fidkit.reader import parameter_count
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
        ({"tasks.facts.files": '["missing.jsonl"]'}, 1, "missing.jsonl"),
        ({"tasks.facts.retrieved": '["missing.jsonl"]'}, 1, "missing.jsonl"),
        ({"tasks.facts.files": '["recipe.toml"]'}, 1, "recipe.toml:2: expected a JSON record"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, change: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train(tmp_path, **change)) == code
    out, err = capsys.readouterr()
    assert out == ""
    *notes, err = err.splitlines()  # a corpus may have been built before
    assert all(note.startswith("note: ") for note in notes)
    assert err.startswith("error: ")
    assert said in err


def test_a_missing_recipe_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "no/such/recipe.toml"]) == 2
    assert "no/such/recipe.toml: expected a recipe in TOML" in capsys.readouterr().err


def test_rows_of_the_log_read_well() -> None:
    row = {"kind": "train", "step": 50, "loss": 1.23456, "rate": 3e-4, "tokens_per_s": 12345, "left_s": 3661}
    assert line(row) == "step 50: loss 1.235, rate 0.0003, 12,345 tokens/s, 1:01:01 left"
    known = "step 50: loss 1.235, rate 0.0003, 12,345 tokens/s, 41.2% of peak, 1:01:01 left"
    assert line(row | {"peak_share": 0.4123}) == known
    ranked = "step 50: loss 1.235, distil 0.500, rerank 2.000, rate 0.0003, 12,345 tokens/s, 1:01:01 left"
    assert line(row | {"rerank": 2.0, "distil": 0.5}) == ranked
    back = {"kind": "restart", "step": 50, "reason": "spike", "back_to": 40, "rate_factor": 0.1}
    assert line(back) == "step 50: spike; back to step 40, with 0.1 times the rate"
    changed = {"kind": "change", "step": 50, "keys": {"save_every": [5, 9]}}
    assert line(changed) == "step 50: now save_every = 9 (was 5)"
    carried = {"kind": "moments", "step": 0, "fresh": []}
    assert line(carried) == "step 0: second moments carried on"
    partly = "step 0: second moments carried on, but for 4 parameters that begin anew (a, b, c and 1 more)"
    assert line(carried | {"fresh": list("abcd")}) == partly
    scores = {"kind": "evaluation", "step": 50, "mean_f1": 3.0, "nq": {"em": 2.0, "f1": 3.04}}
    assert line(scores) == "step 50: nq EM 2.0 F1 3.0"


def test_a_dry_run_foretells_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*train(tmp_path), "--dry-run", "--hardware", "h200"]) == 0
    out, err = capsys.readouterr()
    title, header, *rows, memory = out.splitlines()
    parameters = parameter_count(named("tiny-fid")) / 1e6
    assert title.startswith(f"tiny-fid ({parameters:,.1f}M parameters) on h200: 6 steps, float32, about 0:0")
    assert header.split()[:4] == ["stage", "steps", "questions", "passages"]
    assert [row.split()[:6] for row in rows] == [
        ["1", "3", "1", "x", "4", "1"],
        ["2", "3", "2", "x", "2", "2"],
    ]
    assert "for weights, gradients and the optimiser" in memory
    assert "h200: NVIDIA H200" in err
    assert "note:" not in err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_which_data_it_has_not_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = {
        "passages": '["no.jsonl"]',
        "held_out": '["out.jsonl"]',
        "tasks.facts.files": '["questions.jsonl", "q.jsonl"]',
        "tasks.facts.retrieved": '["r.jsonl"]',
    }
    assert run([*train(tmp_path, **away), "--dry-run", "--hardware", "h200"]) == 0
    missing = ", ".join(str(tmp_path / name) for name in ("no.jsonl", "out.jsonl", "q.jsonl"))
    assert f"note: training will need what isn't there: {missing} and 1 more" in capsys.readouterr().err
    judged = {
        "evaluation.files": '{ a = "a.jsonl" }',
        "evaluation.retrieved": '{ a = "ranked.jsonl" }',
        "evaluation.unanswerable": '{ b = "b.jsonl" }',
    }
    assert run([*train(tmp_path, **judged), "--dry-run", "--hardware", "h200"]) == 0
    missing = ", ".join(str(tmp_path / name) for name in ("a.jsonl", "ranked.jsonl", "b.jsonl"))
    assert f"isn't there: {missing}\n" in capsys.readouterr().err


def test_a_dry_run_says_that_there_is_no_such_reader_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fidkit.train.loop.meter.this_machine", lambda: None)
    monkeypatch.setattr("fidkit.cli.plan.find_or_measure", lambda name: pytest.fail(f"measured {name}"))
    away = train(tmp_path, **{"reader": '{ start = "no/such" }'})
    assert run([*away, "--dry-run"]) == 1
    assert "no reader 'no/such'" in capsys.readouterr().err


def test_a_dry_run_refuses_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    huge = train(tmp_path, **{"reader": '{ preset = "fid-xxl" }'})
    assert run([*huge, "--dry-run", "--hardware", "h100"]) == 1
    assert 'usable on h100; try checkpointing = ["encoder", "decoder"]' in capsys.readouterr().err
    assert run([*train(tmp_path), "--hardware", "h100"]) == 2
    assert "--hardware h100 goes with --dry-run" in capsys.readouterr().err


def test_held_out_files_must_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "held.jsonl", [{"question": ""}])
    assert run(train(tmp_path, held_out='["held.jsonl"]')) == 1
    assert "held.jsonl:1: `question` is empty" in capsys.readouterr().err
