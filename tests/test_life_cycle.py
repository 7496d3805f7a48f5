"""The whole life of a reader, as `examples/life_cycle.sh` has it: in minutes, and all there."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fidkit.checkpoint.moments import FILE
from fidkit.reader import Reader

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "life_cycle.sh"
LIMIT_S = 600
"""Of processor time: on two cores the script takes no longer than that."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, float]]:
    """The folder, what was printed, and the seconds."""
    folder = tmp_path_factory.mktemp("life")
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        ["sh", str(SCRIPT), str(folder / "run")], capture_output=True, text=True, env=environment, cwd=folder
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return folder / "run", done.stdout, {"wall": time.perf_counter() - started, "processor": processor}


def rows(run: Path, name: str, kind: str) -> list[dict[str, Any]]:
    lines = (run / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def scores(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / "scores" / f"{name}.json").read_text(encoding="utf-8"))


def test_it_takes_minutes(life, record_property) -> None:
    _, _, seconds = life
    record_property("seconds", seconds)
    assert seconds["processor"] < LIMIT_S


def test_every_stage_learns(life) -> None:
    run, _, _ = life
    for name in ("pretrain", "finetune"):
        losses = [row["loss"] for row in rows(run, name, "train")]
        assert losses[-1] < 0.7 * losses[0], name
    f1 = {path.stem: scores(run, path.stem)["f1"] for path in (run / "scores").iterdir()}
    assert f1["fid"] > 20
    assert f1["fido-converted"] < 0.8 * f1["fid"]  # a conversion to be repaired, ...
    assert f1["fido-uptrained"] > 1.2 * f1["fido-converted"]  # ... which it is
    assert f1["fido-distilled"] > 0.5 * f1["fid"]


def test_second_moments_go_all_the_way(life) -> None:
    run, _, _ = life
    for name in ("finetune", "uptrain", "distil", "lumen"):
        [row] = rows(run, name, "moments")
        assert row["fresh"] == [], name
    converted, original = (load_file(run / name / FILE) for name in ("fido", "finetune/best"))
    key = "decoder.layers.1.cross_attention.key.weight"
    assert converted[key].shape[0] * 4 == original[key].shape[0]
    torch.testing.assert_close(converted[key], original[key].mean(0, keepdim=True).expand_as(converted[key]))


def test_shapes_are_those_asked_for(life) -> None:
    run, _, _ = life
    fid, fido, lumen = (
        Reader.from_pretrained(run / name).config for name in ("finetune/best", "distil/best", "lumen/best")
    )
    assert (fid.cross_attention_every, fid.cross_kv_heads, fid.live) == (1, 4, 4)
    assert (fido.cross_attention_every, fido.cross_kv_heads, fido.live) == (2, 1, 4)
    assert (lumen.cross_attention_every, lumen.cross_kv_heads, lumen.live) == (2, 1, 2)


def test_a_question_is_answered_from_memory(life) -> None:
    _, printed, _ = life
    [answer] = [json.loads(line) for line in printed.splitlines() if line.startswith('{"question"')]
    assert answer["answer"]
    assert "Pavel Ravmont" in {passage["title"] for passage in answer["evidence"]}
    assert "memory of 600 passages, 600 encoded" in printed


@pytest.mark.parametrize("layout", ["hf-t5", "fid"])
def test_out_and_in_again_is_the_same_reader(layout: str, life) -> None:
    run, _, _ = life
    original, back = (
        load_file(run / name / "model.safetensors") for name in ("finetune/best", f"from-{layout}")
    )
    assert original.keys() == back.keys()
    assert all((original[name] == back[name]).all() for name in original)
    for mark in ("em", "f1"):
        assert scores(run, f"fid-from-{layout}")[mark] == scores(run, "fid")[mark]
