import shutil
from pathlib import Path

import pytest
import torch

from fidkit.cli.app import run
from fidkit.convert import decoder_stack, export_t5, load
from fidkit.reader import Reader
from oracles import random_reader, small, stack


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    export_t5(random_reader(small(decoder=stack(4))), tmp_path / "t5")
    return tmp_path / "t5"


def test_in_and_out_again(t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader, back = tmp_path / "reader", tmp_path / "back"
    assert run(["convert", str(t5), str(reader)]) == 0
    assert str(reader) in capsys.readouterr().out
    assert not Reader.from_pretrained(reader).training
    assert run(["convert", str(reader), str(back), "--to", "hf-t5"]) == 0
    name = "model.safetensors"
    assert (back / name).read_bytes() == (t5 / name).read_bytes()


def test_another_shape(t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "lumen-fido"
    knobs = ["--cross-attention-every", "4", "--kv-heads", "1", "--live-layers", "1"]
    assert run(["convert", str(t5), str(to), *knobs]) == 0
    config = Reader.from_pretrained(to).config
    assert (config.cross_attention_every, config.kv_heads, config.live) == (4, (1, 1), 1)
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("dropped decoder.layers.") for line in said) == 3 * 5
    assert any("merged the heads" in line for line in said)


def test_lumen_with_a_memory_encoder_of_its_own_that_reranks(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, to = tmp_path / "large", tmp_path / "glimmer"
    export_t5(random_reader(small(encoder=stack(5, width=24), decoder=stack(2, width=24))), large)
    knobs = ["--live-layers", "2/3", "--memory-encoder", str(large)]
    assert run(["convert", str(t5), str(to), *knobs, "--rerank-after", "1", "--rerank-keep", "4"]) == 0
    config = Reader.from_pretrained(to).config
    assert (config.live, config.memory_layers, config.memory_width) == (2, 5, 24)
    assert (config.rerank.after, config.rerank.keep) == (1, 4)
    assert "has to be trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (["--live-layers", "1/2"], "the nearest are 1 (1/3) and 2 (2/3)"),
        (["--live-layers", "many"], "'many' is no number of layers"),
        (["--rerank-after", "1"], "--rerank-after and --rerank-keep go together"),
        (["--rerank-after", "0", "--rerank-keep", "1"], "--rerank: after: "),
        (
            ["--live-layers", "1", "--rerank-after", "2", "--rerank-keep", "1"],
            "rerank.after is 2, more",
        ),
    ],
)
def test_wrong_use(
    t5: Path, tmp_path: Path, knobs: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(t5), str(tmp_path / "x"), *knobs]) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "x").exists()


def test_half_the_size(t5: Path, tmp_path: Path) -> None:
    assert run(["convert", str(t5), str(tmp_path / "whole")]) == 0
    assert run(["convert", str(t5), str(tmp_path / "half"), "--dtype", "bfloat16"]) == 0
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    halves, wholes = (
        dict(Reader.from_pretrained(tmp_path / n).named_parameters()) for n in ("half", "whole")
    )
    for name, whole in wholes.items():
        assert torch.equal(halves[name], whole.bfloat16().float())
    assert run(["convert", str(t5), str(tmp_path / "x"), "--to", "hf-t5", "--dtype", "bfloat16"]) == 2


def test_a_reader_that_copies_is_held_to_pieces_of_its_passages(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_reader(small(token_skip=True)).save_pretrained(tmp_path / "copies")
    assert run(["convert", str(tmp_path / "copies"), str(tmp_path / "held"), "--extractive"]) == 0
    assert Reader.from_pretrained(tmp_path / "held").config.extractive
    assert run(["convert", str(tmp_path / "held"), str(tmp_path / "free"), "--free"]) == 0
    assert not Reader.from_pretrained(tmp_path / "free").config.extractive
    capsys.readouterr()
    assert run(["convert", str(t5), str(tmp_path / "x"), "--extractive"]) == 2
    assert "extractive needs token_skip" in one_line(capsys)
    assert run(["convert", str(t5), str(tmp_path / "x"), "--extractive", "--to", "hf-t5"]) == 2
    assert "go with --to fidkit" in one_line(capsys)


def test_impossible_shapes_are_wrong_use(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(t5), str(tmp_path / "x"), "--cross-attention-every", "9"]) == 2
    assert "choose 1 to 4" in one_line(capsys)
    assert not (tmp_path / "x").exists()


def test_nothing_is_overwritten(t5: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (t5 / "config.json").read_bytes()
    assert run(["convert", str(t5), str(t5)]) == 2
    assert "exists already" in one_line(capsys)
    assert (t5 / "config.json").read_bytes() == before


def test_a_damaged_source_is_a_failure(t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({}, t5 / "pytorch_model.bin")
    (t5 / "model.safetensors").unlink()
    assert run(["convert", str(t5), str(tmp_path / "x")]) == 1
    assert "missing" in one_line(capsys)


def test_what_will_be_written_is_said_before(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(t5), str(tmp_path / "x"), "--decoder", "small", "--dtype", "bfloat16"]) == 0
    out, err = capsys.readouterr()
    count = sum(p.numel() for p in Reader.from_pretrained(tmp_path / "x").parameters())
    before = sum(p.numel() for p in Reader.from_pretrained(_converted(t5, tmp_path)).parameters())
    first = err.splitlines()[0]
    assert first == (
        f"writing {count / 1e6:,.1f}M parameters, {2 * count / 1e9:,.2f} GB; "
        f"{(count - before) / 1e6:,.1f}M of them are new and not trained yet"
    )
    assert f"{count / 1e6:,.1f}M parameters" in out


def _converted(t5: Path, tmp_path: Path) -> Path:
    assert run(["convert", str(t5), str(tmp_path / "plain")]) == 0
    return tmp_path / "plain"


def test_growth_after_all_else_is_growth_at_once(t5: Path, tmp_path: Path) -> None:
    knobs = ["--cross-attention-every", "2", "--kv-heads", "2", "--live-layers", "1", "--decoder", "small"]
    assert run(["convert", str(t5), str(tmp_path / "x"), *knobs]) == 0
    at_once, _ = load(t5, cross_attention_every=2, kv_heads=2, live_layers=1, decoder=decoder_stack("small"))
    assert Reader.from_pretrained(tmp_path / "x").fingerprint() == at_once.fingerprint()


def test_what_the_disk_has_no_room_for_is_refused(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert run(["convert", str(t5), str(tmp_path / "x"), "--decoder", "xl"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "GB are to be written, but 0.00 GB are free; make room" in said[-1]
    assert not (tmp_path / "x").exists()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error
