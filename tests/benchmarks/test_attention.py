"""The ways to attend are timed side by side."""

import sys
from pathlib import Path

import attention
import pytest

from fidkit.bench.rows import read


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_every_way_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["attention.py", "--device", "cpu", "--size", "tiny", "--rounds", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", typed)
    attention.main()
    found = list(read(tmp_path / "attention.jsonl"))
    cases = {(row["part"], row["lengths"], row["batch"]) for row in found}
    assert len(cases) == 8
    assert len(found) == 8 * 3
    assert {row["way"] for row in found} == {"plain", "flex", "sdpa"}
    for row in found:
        assert row["ms"]["n"] == len(row["repeats"]) == 2
        assert row["tflops"] > 0
        assert row["matrix_tflops"] > 0
