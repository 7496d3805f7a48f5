"""The cost model against what was measured: rows that `benchmarks/paper.py plan` left."""

import json
from pathlib import Path

import pytest

from fidkit.bench.outcome import predicted_again

ROWS = Path(__file__).parents[2] / "benchmarks" / "results" / "paper-plan.jsonl"
WITHIN = 0.25


@pytest.mark.parametrize("stage", ["encoder_ms", "decoder_ms", "total_ms"])
def test_predictions_on_a_cpu_are_within_a_quarter(stage: str) -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    ours = [row for row in rows if row["device"] == "cpu" and row["size"] == "base"]
    assert len(ours) >= 12
    off = {
        (row["unit"], row["system"]): predicted_again(row)[stage] / row[stage]["median"] - 1 for row in ours
    }
    assert all(abs(each) <= WITHIN for each in off.values()), off
