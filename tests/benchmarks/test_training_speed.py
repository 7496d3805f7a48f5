"""Training is timed beside transformers on a folder of questions, and both losses are the same."""

import gzip
import json
from pathlib import Path

import pytest
import torch
import training_speed
from render import summaries

from fidkit.bench.rows import read

WORDS = [*"abcdefghijklmn"]


def write(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six questions with three passages each, of different lengths."""
    folder = tmp_path / "data"
    questions = [{"id": f"q{i}", "question": f"who runs {w}", "target": w} for i, w in enumerate(WORDS[:6])]
    write(folder / "qa/train.jsonl.gz", [{**q, "answers": [q["target"]]} for q in questions])
    ranked = [{"id": q["id"], "ctx_ids": [i, i + 1, i + 2]} for i, q in enumerate(questions)]
    write(folder / "retrieved/train.jsonl.gz", ranked)
    texts = [{"id": i, "title": "", "text": " ".join(WORDS[i:] * 2)} for i in range(8)]
    write(folder / "corpus/passages.jsonl.gz", texts)
    return folder


def run(data: Path, out: Path, *more: str) -> list[dict]:
    typed = ["--data", str(data), "--out", str(out), "--size", "tiny", "--passages", "3", *more]
    training_speed.main([*typed, "--rounds", "2", "--curve-steps", "4", "--curve-passages", "3"])
    return list(read(out / "training-speed.jsonl"))


def test_every_system_has_its_row_and_the_losses_are_equal(data: Path, tmp_path: Path) -> None:
    *systems, curve = run(data, tmp_path)
    assert [row["system"] for row in systems] == list(training_speed.SYSTEMS)
    for row in systems:
        assert row["total_ms"]["n"] == len(row["repeats"]["total_ms"]) == 2
        assert row["samples_per_second"] == pytest.approx(1000 / row["total_ms"]["median"])
        assert max(row["longest_row"]) <= training_speed.PADDED_TO
    assert len(curve["fid"]) == len(curve["hf"]) == 4
    assert curve["fid"] == pytest.approx(curve["hf"], abs=1e-4)
    assert curve["largest_difference"] < 1e-4
    assert curve["fid"][-1] != curve["fid"][0]
    table = summaries.training_speed([*systems, curve])
    assert all(summaries.TRAINED[row["system"]] in table for row in systems)
    assert "4 steps" in table
    others = [{**row, "dtype": "another", "command": "elsewhere"} for row in systems]
    both = summaries.training_speed([*systems, *others, curve])
    assert both.count("| training |") == 2
    assert both.index("`elsewhere`") < both.index("4 steps")


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "float32"), ("bfloat16", "bfloat16 autocast")])
def test_products_are_as_asked_for(data: Path, tmp_path: Path, precision: str, dtype: str) -> None:
    *systems, _ = run(data, tmp_path, "--systems", "fid", "hf-256", "--precision", precision)
    assert [row["dtype"] for row in systems] == [dtype, dtype]
    step = training_speed._step(
        "fid",
        training_speed._parser().parse_args(
            ["--data", str(data), "--size", "tiny", "--precision", precision]
        ),
        torch.device("cpu"),
    )
    with step._autocast():
        made = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
    assert made.dtype == (torch.float32 if precision == "float32" else torch.bfloat16)


def test_too_few_questions_are_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="3 steps' worth of questions, 4 are needed"):
        run(data, tmp_path, "--batch", "2")


def test_a_missing_file_is_said(data: Path, tmp_path: Path) -> None:
    (data / "retrieved/train.jsonl.gz").unlink()
    with pytest.raises(SystemExit, match="expected a readable UTF-8 file of ranked passages"):
        run(data, tmp_path)
