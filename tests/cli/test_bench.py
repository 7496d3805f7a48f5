"""`fidkit bench`: one JSON object or a table, and one line for everything that is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.toy import MACHINE
from fidkit.bench import ceilings
from fidkit.bench import run as running
from fidkit.bench.rows import read
from fidkit.cli.app import application, run
from fidkit.engine import runner
from fidkit.passages import Corpus
from train.toy import write_rows, write_world

TINY = ["bench", "tiny-fid", "--passages", "2", "--passage-tokens", "8", "--question-tokens", "4"]
TINY += ["--output-tokens", "4", "--rounds", "2", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ceilings, "measure", lambda *_: MACHINE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_json_is_one_object_with_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(application(), [*TINY, "tiny-fido", "--plain", "--json", "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert done.stdout == json.dumps(record) + "\n"
    assert record.keys() == {"rows"}
    subjects = [row["subject"] for row in record["rows"]]
    assert subjects == ["tiny-fid", "tiny-fid@plain", "tiny-fido", "tiny-fido@plain"]
    assert list(read(out)) == record["rows"]
    assert record["rows"][0]["shapes"]["row_tokens"] == 2 * 12
    assert record["rows"][0]["shapes"]["question_tokens"] == 4
    assert record["rows"][0]["total_ms"]["n"] == 2
    assert "round 2 of 2" in done.stderr or "measuring the machine: 12 of 12" in done.stderr


def test_full_length_rows_have_256_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measure(request, questions, progress):
        seen.append((request, questions))
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "measure", measure)
    assert run(["bench", "tiny-fid"]) == 130
    ((request, questions),) = seen
    shapes = questions.shapes(request.output_tokens)
    assert (shapes["question_tokens"], shapes["passage_tokens"]) == (48, 208)
    assert (shapes["questions"], shapes["passages"], shapes["row_tokens"]) == (1, 40, 40 * 256)
    assert (request.rounds, request.output_tokens) == (7, 32)


@pytest.mark.parametrize(("there", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_the_usual_precision_is_what_the_device_multiplies(
    there: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def measure(request, questions, progress):
        seen.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "measure", measure)
    monkeypatch.setattr(runner, "multiplies_bfloat16", lambda device: there)
    assert run(["bench", "tiny-fid"]) == 130
    assert run(["bench", "tiny-fid", "--precision", "int8,float32"]) == 130
    assert [request.precisions for request in seen] == [[precision], ["int8", "float32"]]
    assert running.probe_of(seen[0].precisions).dtypes == ("bfloat16" if there else "float32",)
    assert running.probe_of(seen[1].precisions).dtypes == ("bfloat16", "float32", "int8")


def test_a_person_reads_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*TINY, "tiny-lumen", "--threads", "1", "--precision", "bfloat16"]) == 0
    title, machine, header, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith(
        "1 question x 2 passages of 12 tokens, question included; 4 output tokens; bfloat16"
    )
    assert "1 threads" in machine
    assert header.split()[:7] == ["subject", "stage", "ms", "min", "max", "x", "tiny-fid"]
    assert header.split()[7:] == ["predicted", "ceiling", "of", "ceiling", "error"]
    assert [line.split()[0] for line in lines[::4]] == ["tiny-fid", "tiny-lumen"]
    assert len(lines) == 8
    assert torch.get_num_threads() == 1


def test_peers_stand_beside(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    assert run([*TINY, "--vs", "hf, hf-eager", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["subject"] for row in rows] == ["tiny-fid", "hf", "hf-eager"]
    assert rows[0]["faster_than"].keys() == {"hf", "hf-eager"}
    assert run([*TINY, "--vs", "hf-eager"]) == 0
    assert "x hf-eager" in capsys.readouterr().out


def test_the_fastest_peer_of_each_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    assert run([*TINY, "--vs", "hf,hf-eager", "--best", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    rows = {row["subject"]: row for row in record["rows"]}
    for part, stage in (("encoder", "encoder_ms"), ("decoder", "decoder_ms"), ("whole", "total_ms")):
        best = record["best"][part]
        assert best["ms"] == min(rows[name][stage]["median"] for name in ("hf", "hf-eager"))
        assert best["ms"] == rows[best["subject"]][stage]["median"]
        assert best["faster"] == {"tiny-fid": rows["tiny-fid"]["faster_than"][best["subject"]][stage]}
    assert run([*TINY, "--vs", "hf", "--best"]) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split(":")[0] for line in lines] == [
        "fastest peer, encoder", "fastest peer, decoder", "fastest peer, whole",
    ]  # fmt: skip


def test_peers_in_8_bits_stand_beside(capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("transformers", "onnx", "onnxruntime", "openvino", "nncf", "ctranslate2"):
        pytest.importorskip(package)
    names = ["openvino-int8", "onnxruntime-int8", "ctranslate2-int8"]
    assert run([*TINY, "--vs", ",".join(names), "--json"]) == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)["rows"]
    assert [row["subject"] for row in rows[1:]] == names
    assert all(row["dtype"] == "int8" and 0 < row["encoder_error"] < 0.2 for row in rows[1:])
    assert "Warning" not in err
    assert "WARNING" not in err


def test_real_passages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_world(tmp_path)
    Corpus.build(tmp_path / "passages.jsonl", tmp_path / "corpus").close()
    given = ["bench", "tiny-fid", "--passages", "2", "--output-tokens", "3", "--rounds", "1", "--json"]
    given += ["--corpus", str(tmp_path / "corpus"), "--questions", str(tmp_path / "questions.jsonl")]
    assert run(given) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["shapes"]["source"] == "corpus"
    assert 10 < row["shapes"]["row_tokens"] <= row["shapes"]["padded_tokens"] < 400
    assert run([*given, "--passage-tokens", "99"]) == 2
    assert "--corpus brings its own lengths" in capsys.readouterr().err


def test_a_profile_is_written(tmp_path: Path) -> None:
    assert run([*TINY, "--profile", str(tmp_path / "trace.json"), "--json"]) == 0
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


def test_an_interruption_prints_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode, calls = running.Ours.decode, []

    def interrupted(self, tokens: int):
        calls.append(tokens)
        if len(calls) == 2 + 2 + 1:  # warm, and through one round
            raise KeyboardInterrupt
        return decode(self, tokens)

    monkeypatch.setattr(running.Ours, "decode", interrupted)
    assert run([*TINY, "--json"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"][0]["total_ms"]["n"] == 1
    assert "interrupted after 1 of 2 rounds" in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["fid-bse"], "no preset 'fid-bse'; known: fid-base, fid-large,"),
        (["tiny-fid", "tiny-fid"], "the preset tiny-fid is given twice"),
        (["tiny-fid", "--vs", "hff"], "no peer 'hff'; known peers: hf, hf-eager, hf-compile, openvino-int8,"),
        (["tiny-fid", "--vs", "hf,hf"], "the peer hf is given twice"),
        (["tiny-fid", "--best"], "--best names a peer; name some with --vs"),
        (["tiny-fid", "--precision", "fp16"], "no precision 'fp16'; known: float32, bfloat16, int8"),
        (["tiny-fid", "--rounds", "0"], "--rounds is 0; expected 1 or more"),
        (["tiny-fid", "--batch", "-1"], "--batch is -1; expected 1 or more"),
        (["tiny-fid", "--passages", "0"], "--passages is 0; expected 1 or more"),
        (["tiny-fid", "--threads", "0"], "--threads is 0; expected 1 or more"),
        (["tiny-fid", "--threads", "10000"], "--threads is 10000; expected 1 to 1,023 threads"),
        (["tiny-fid", "--output-tokens", "0"], "--output-tokens is 0; expected 1 or more"),
        (["tiny-fid", "--passage-tokens", "0"], "--passage-tokens is 0; expected 1 or more"),
        (["tiny-fid", "--question-tokens", "0"], "--question-tokens is 0; expected 1 or more"),
        (["tiny-fid", "--corpus", "here"], "--corpus and --questions go together"),
        (["tiny-fid", "--questions", "here"], "--corpus and --questions go together"),
        (["tiny-fid", "--device", "tpu"], "the device is 'tpu'; expected auto, cpu"),
        (["tiny-fid", "--device", "cpu", "--batch", "1000000"], "don't fit: "),
        (["tiny-fid", "--device", "cpu", "--batch", "1000000"], "the largest batch that does is "),
        (["tiny-fid", "--device", "cpu", "--passages", "1000000"], "the most passages that fit are "),
    ],
)
def test_wrong_use_is_one_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "--vs" in given:
        pytest.importorskip("transformers")
    assert run(["bench", *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(["bench", "tiny-fid", "--device", "cuda"]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err


def test_the_extra_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(["bench", "tiny-fid", "--vs", "hf"]) == 2
    err = capsys.readouterr().err
    assert "hf needs transformers" in err
    assert "pip install 'fidkit[encoders]'" in err


def test_packages_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(name: str) -> bool | None:
        return None if name in ("openvino", "nncf") else True

    monkeypatch.setattr("importlib.util.find_spec", find)
    assert run(["bench", "tiny-fid", "--vs", "onnxruntime-int8,openvino-int8"]) == 2
    err = capsys.readouterr().err
    assert "openvino-int8 needs openvino, nncf, which" in err
    assert "pip install 'fidkit[peers]'" in err


@pytest.mark.parametrize("option", ["--out", "--profile"])
def test_results_that_could_not_be_kept(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "measure", lambda *_: pytest.fail("measured in vain"))
    file = write_rows(tmp_path / "a.jsonl", [])
    for place in (tmp_path, file / "below"):
        assert run([*TINY, option, str(place)]) == 2
        assert f"can't write {place}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]
