"""`fidkit plan`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fidkit import assets
from fidkit.bench import ceilings
from fidkit.cli.app import run
from fidkit.config import ReaderConfig
from fidkit.cost import HARDWARE, Workload, largest_batch, predict
from fidkit.cost.hardware import local_path, save_local
from fidkit.preset import PRESETS, named
from fidkit.reader import Reader

ROOT = Path(__file__).parents[2]


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run(["plan", *arguments, "--json"]) == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_json_is_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--hardware tpuv4 --batch 24 --passages 20 --passage-tokens 100 --question-tokens 30"
    found = planned(capsys, "fido-base-xl", *arguments.split(), "--output-tokens", "16", "--beams", "4")
    workload = Workload(24, 20, 100, 30, 16, 4)
    expected = predict(named("fido-base-xl"), workload, HARDWARE["tpuv4"])
    assert found["preset"] == "fido-base-xl"
    assert found["workload"]["questions"] == 24
    assert found["predicted"] == expected.predicted
    assert found["ceiling"] == expected.ceiling
    assert found["flops"] == sum(stage["flops"] for stage in found["stages"]) == expected.flops
    assert [stage["stage"] for stage in found["stages"]] == ["live", "projection", "decode", "head"]
    assert found["memory"]["fits"]
    assert found["memory"]["largest_batch"] == largest_batch(
        named("fido-base-xl"), workload, HARDWARE["tpuv4"].usable_bytes
    )
    assert found["paper"]["operational_intensity"]["feed_forward"] > 1
    assert found["store"] is None
    assert found["hints"][0]["gain"] >= found["hints"][-1]["gain"]
    assert found["hardware"]["name"] == "tpuv4"


def test_text_has_stages_totals_memory_and_hints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "lumen-base", "--batch", "2", "--corpus-passages", "1000", "--codec", "int8"]) == 0
    out, err = capsys.readouterr()
    first = [line.split()[0] for line in out.splitlines() if line]
    for name in ("stage", "memory", "question", "live", "projection", "decode", "head", "encoder", "decoder"):
        assert name in first
    assert "bound by" in out
    assert "largest batch" in out
    assert "store: 0.16 GB for 1,000 passages in int8" in out
    assert out.count("x faster") == 3
    assert "price: " in out
    assert "a question" in out
    assert err.startswith("h200: NVIDIA H200 SXM datasheet")


def test_a_reader_without_memory_has_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "fid-base"]) == 0
    assert "store:" not in capsys.readouterr().out
    assert planned(capsys, "lumen-base", "--codec", "computed")["store"] is None
    assert planned(capsys, "lumen-base")["store"]["passages"] == 1_000_000


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["plan", "fid-base"]) == 0
    out = capsys.readouterr().out
    assert "ceiling ms" in out
    assert "projection" in out


def test_a_readers_directory_is_read_without_its_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changed = named("tiny-lumen").replace(passage_tokens=77)
    changed.save(tmp_path / "config.json")
    found = planned(capsys, str(tmp_path))
    assert found["workload"]["passage_tokens"] == 77
    bundled = Reader.without_weights(ReaderConfig.load(assets.reader() / "config.json"))
    assert planned(capsys, "pocket")["parameters"] == sum(p.numel() for p in bundled.parameters())


def test_a_length_for_each_passage(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "fid-base", "--passage-tokens", "100,50,20")
    assert found["workload"]["passages"] == 3
    assert found["workload"]["passage_tokens"] == [100, 50, 20]
    assert "2 passages" in refused(capsys, "fid-base", "--passage-tokens", "9,8,7", "--passages", "2")


def test_int8_is_weight_only(capsys: pytest.CaptureFixture[str]) -> None:
    half = planned(capsys, "fido-base-xl")
    int8 = planned(capsys, "fido-base-xl", "--decoder-dtype", "int8")
    assert int8["predicted"]["encoder_ms"] == half["predicted"]["encoder_ms"]
    assert int8["predicted"]["decoder_ms"] < 0.6 * half["predicted"]["decoder_ms"]


def test_encoders_in_8_bits(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("fid-base", "--hardware", "cpu-2core")
    half, int8 = planned(capsys, *options), planned(capsys, *options, "--encoder-dtype", "int8")
    assert int8["predicted"]["encoder_ms"] < 0.8 * half["predicted"]["encoder_ms"]
    assert int8["step_ms"] == half["step_ms"]
    assert run(["plan", *options, "--encoder-dtype", "int8", "--decoder-dtype", "int8"]) == 0
    assert "bfloat16, encoder int8, decoder int8" in capsys.readouterr().out.splitlines()[0]
    said = refused(capsys, "fid-base", "--train", "--encoder-dtype", "int8")
    assert "a training step multiplies in --dtype bfloat16" in said


def test_a_training_step(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "fid-base", "--train", "--batch", "8")
    assert found["training"]
    assert found["stages"][-1]["stage"] == "backward"
    assert found["memory"]["total"] == 16 * found["parameters"]
    assert found["hints"] == []
    kept, again = (found["memory"][name] for name in ("activations", "checkpointed"))
    assert found["memory"]["state"] == found["memory"]["total"]
    assert kept.keys() == {"encoder", "decoder", "logits"}
    assert sum(again.values()) < sum(kept.values())
    assert run(["plan", "fid-base", "--train"]) == 0
    out = capsys.readouterr().out
    assert "a training step of 1 question" in out
    assert "MB a passage token" in out
    assert "with activation checkpointing" in out


def test_a_batch_that_does_not_fit_is_planned_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    fits = largest_batch(named("fid-base"), Workload(), HARDWARE["tpuv4"].usable_bytes)
    for arguments in (["--json"], []):
        assert run(["plan", "fid-base", "--hardware", "tpuv4", "--batch", str(fits), *arguments]) == 0
        capsys.readouterr()
        assert run(["plan", "fid-base", "--hardware", "tpuv4", "--batch", str(fits + 1), *arguments]) == 1
        out, err = capsys.readouterr()
        assert out
        error = err.splitlines()[-1]
        assert re.match(
            r"error: a batch of \d+ questions doesn't fit: \S+ GB needed, \S+ \wB more than", error
        )
        assert error.endswith(f"the largest batch that fits is {fits}")
        if arguments:
            assert json.loads(out)["memory"]["fits"] is False


def test_a_reader_too_large_for_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "fid-xxl", "--hardware", "cpu-2core"]) == 1
    assert "not even one question fits" in capsys.readouterr().err
    assert run(["plan", "fid-xxl", "--hardware", "h100", "--train"]) == 1
    assert "training fid-xxl doesn't fit: " in capsys.readouterr().err


def test_what_is_unknown_lists_the_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = refused(capsys, "fid-bose")
    assert all(name in error for name in PRESETS)
    assert "h200, h100, a100, tpuv4, cpu-2core, local" in refused(capsys, "fid-base", "--hardware", "v100")
    assert "float32, bfloat16" in refused(capsys, "fid-base", "--dtype", "fp8")
    assert "bf16, int8, pq" in refused(capsys, "lumen-base", "--codec", "zip")
    assert "no config.json in it" in refused(capsys, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fid-base --batch 0", "questions is 0; give a whole number from 1"),
        ("fid-base --passage-tokens many", "--passage-tokens 'many': expected a whole number"),
        ("fid-base --passage-tokens -3", "passage_tokens is -3"),
        ("fid-base --corpus-passages 10", "fid-base stores no memory"),
        ("lumen-base --corpus-passages 0", "--corpus-passages 0: give a whole number from 1"),
        ("lumen-base --corpus-passages 5 --codec computed", "needs a store; give --codec float32, bf16"),
        ("fid-base --train --beams 2", "a training step has no beams"),
        ("fid-base --remeasure", "--remeasure goes with --hardware local"),
        ("fid-base --hardware tpuv4 --dtype float32", "no float32 rate is known of hardware tpuv4"),
    ],
)
def test_wrong_use(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *arguments.split())


def test_this_machine_is_measured_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def measure() -> object:
        calls.append(1)
        return HARDWARE["cpu-2core"]

    monkeypatch.setattr(ceilings, "measure", measure)
    assert run(["plan", "tiny-fid", "--hardware", "local", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["hardware"]["bandwidth_gbs"] == HARDWARE["cpu-2core"].bandwidth_gbs
    assert "measuring this machine" in err
    assert str(local_path()) in err
    assert run(["plan", "tiny-fid", "--hardware", "local", "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert len(calls) == 1
    assert run(["plan", "tiny-fid", "--hardware", "local", "--remeasure"]) == 0
    assert len(calls) == 2


def test_a_damaged_measurement_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    save_local(HARDWARE["a100"]).write_text("{", encoding="utf-8")
    assert run(["plan", "tiny-fid", "--hardware", "local"]) == 1
    assert "expected a hardware record" in capsys.readouterr().err


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    save_local(HARDWARE["a100"])
    script = (
        "import sys\n"
        "from fidkit.cli.app import run\n"
        "codes = [run(['plan', *words.split()]) for words in sys.argv[1:]]\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules], codes, file=sys.stderr)\n"
    )
    commands = ["lumen-base --json", "fid-base --hardware local", "pocket --train", "--help"]
    done = subprocess.run(
        [sys.executable, "-c", script, *commands],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "FIDKIT_HOME": os.environ["FIDKIT_HOME"]},
    )
    assert done.stderr.splitlines()[-1] == "[] [0, 0, 0, 0]"


def test_the_example_in_the_documents_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    examples = re.findall(r"```console\n\$ fidkit (plan [^\n]*)\n(.*?)```", page, re.DOTALL)
    assert examples
    for command, shown in examples:
        assert run(command.split()) == 0
        assert capsys.readouterr().out == shown
