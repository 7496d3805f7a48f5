"""A log becomes a table and a picture, also while the run goes on."""

from pathlib import Path

import learning_curve
import pytest
import rows

LOG = [
    {"kind": "train", "step": 10, "seconds": 90.0, "cpu_seconds": 60.0, "pointer": 3.0},
    {"kind": "train", "step": 20, "seconds": 180.0, "cpu_seconds": 120.0, "loss": 2.0, "rates": {"a": 0.1}},
    {
        "kind": "evaluation", "step": 20, "seconds": 180.0, "cpu_seconds": 120.0, "mean_f1": 30.0,
        "squad/positive": {"em": 10.0, "f1": 20.0, "forced_em": 15.0, "forced_f1": 30.0, "silent": 25.0},
        "near": {"silent": 40.0},
    },
]  # fmt: skip
OLD = [
    {"kind": "train", "step": 5, "seconds": 30.0, "loss": 1.0},
    {"kind": "evaluation", "step": 5, "seconds": 30.0, "squad": {"em": 1.0, "f1": 2.0}},
]


def test_a_log_is_a_table_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, log in (("new", LOG), ("old", OLD)):
        for row in log:
            rows.append(tmp_path / f"{name}.jsonl", row)
    capsys.readouterr()
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "new.jsonl"), str(tmp_path / "old.jsonl")])
    learning_curve.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| 2.0 | 20 | squad/positive | 20.0 | 10.0 | 30.0 | 15.0 | 25.0 |",
        "| 2.0 | 20 | near |  |  |  |  | 40.0 |",
        "| 2.5 | 5 | squad | 2.0 | 1.0 |  |  |  |",
    ]
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "new.jsonl"), "--to", str(tmp_path / "curve.png")])
    learning_curve.main()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [row["minutes"] for row in rows.read(tmp_path / "results" / "curve.jsonl")] == [1.0, 2.0, 2.0]
