"""Logs of runs become one log, and that a plot."""

import json
from pathlib import Path

import learning_curve
import pytest
from render import learning_curve as rendered

from fidkit.bench.rows import read


def write(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_logs_stand_one_after_the_other_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = {"kind": "train", "seconds": 130.0, "cpu_seconds": 120.0, "loss": 3.0, "guide": 1.0}
    judged = {
        "kind": "evaluation", "step": 7, "seconds": 120.0, "mean_f1": 2.0, "near": {"silent": 40.0},
        "squad": {"em": 1.0, "f1": 2.0, "forced_em": 1.5, "forced_f1": 2.5, "silent": 25.0},
    }  # fmt: skip
    second = {"kind": "train", "seconds": 60.0, "loss": 2.0}
    logs = [write(tmp_path / "1.jsonl", first, judged), write(tmp_path / "2.jsonl", second)]
    learning_curve.main([*map(str, logs), "--to", str(tmp_path / "rows.jsonl")])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| 2.0 | 7 | near |  |  |  |  | 40.0 |",
        "| 2.0 | 7 | squad | 2.0 | 1.0 | 2.5 | 1.5 | 25.0 |",
    ]
    rows = list(read(tmp_path / "rows.jsonl"))
    assert [(row["run"], row["minutes"]) for row in rows] == [(0, 2.0), (0, 2.0), (1, 3.0)]
    losses, right = rendered.panels(rows)
    assert losses["lines"]["answer"] == ([2.0, 3.0], [3.0, 2.0])
    assert losses["lines"]["guide"] == ([2.0], [1.0])
    assert right["lines"]["squad F1"] == ([2.0], [2.5])
    assert right["lines"]["squad EM"] == ([2.0], [1.5])
    assert right["lines"].keys() == {"squad F1", "squad EM"}  # of questions without an answer there are none
    assert losses["marks"] == right["marks"] == [3.0]
    assert rendered.panels([]) == []


def test_many_sets_are_drawn_with_one_measure_each() -> None:
    judged = {"run": 0, "minutes": 1.0, "kind": "evaluation"}
    marks = {"em": 1.0, "f1": 2.0}
    first = judged | {name: marks for name in "abcdef"}
    (right,) = rendered.panels([first, judged | {name: marks for name in "abcde"}])
    assert right["lines"].keys() == {f"{name} EM" for name in "abcde"}
