"""The cost model against measured rows: of `benchmarks/paper.py plan` and of `benchmarks/predictions.py`."""

import json
from pathlib import Path

import pytest

from fidkit.bench.outcome import predicted_again

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
WITHIN = 0.25


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def off(row: dict, stage: str) -> float:
    return predicted_again(row)[stage] / row[stage]["median"] - 1


@pytest.mark.parametrize("stage", ["encoder_ms", "decoder_ms", "total_ms"])
def test_predictions_on_a_cpu_are_within_a_quarter(stage: str) -> None:
    ours = [row for row in read("paper-plan.jsonl") if (row["device"], row["size"]) == ("cpu", "base")]
    assert len(ours) >= 12
    found = {(row["unit"], row["system"]): off(row, stage) for row in ours}
    assert all(abs(each) <= WITHIN for each in found.values()), found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("stage", ["encoder_ms", "decoder_ms", "total_ms"])
def test_predictions_of_8_bits_are_within_a_quarter(stage: str, threads: int) -> None:
    rows = [row for row in read("predictions-int8.jsonl") if row["threads"] == threads]
    found = {(row["workload"], row["subject"]): off(row, stage) for row in rows}
    assert len(found) >= 12
    assert all(abs(each) <= WITHIN for each in found.values()), found
