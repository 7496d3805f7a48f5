"""Weights that lie with a bundled reader."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch

from fidkit import assets
from fidkit.checkpoint.shared import FILE
from fidkit.cli.app import run
from fidkit.convert import reshape
from fidkit.errors import CheckpointError, FidkitError, UsageError
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer


@pytest.fixture(scope="module")
def lumen() -> Reader:
    """The bundled reader with half of its layers live, one of which was trained on."""
    reader, _ = reshape(Reader.from_pretrained("pocket"), live_layers="1/2")
    with torch.no_grad():
        reader.live_encoder.layers[0].feed_forward.inner.weight.mul_(1.5)
    return reader


@pytest.fixture(scope="module")
def kept(lumen: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shared") / "lumen"
    lumen.save_pretrained(directory, dtype="int8", share_with="pocket")
    return directory


@pytest.fixture
def saved(kept: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    for path in kept.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_it_is_the_same_reader_in_a_fraction_of_the_bytes(kept: Path, lumen: Reader, tmp_path: Path) -> None:
    lumen.save_pretrained(tmp_path, dtype="int8")
    whole, shared = Reader.from_pretrained(tmp_path), Reader.from_pretrained(kept)
    assert shared.fingerprint() == whole.fingerprint()
    assert shared.tokenizer is not None
    weights = (kept / "model.safetensors").stat().st_size
    changed = lumen.live_encoder.layers[0].feed_forward.inner.weight.numel()
    assert weights < 1.1 * changed  # a row's scale grew with its weights, so that these alone differ
    assert (
        sum(path.stat().st_size for path in kept.iterdir())
        < 0.02 * assets.reader().joinpath("model.safetensors").stat().st_size
    )


def test_weights_that_lie_in_one_place_are_two_in_memory(kept: Path) -> None:
    reader = Reader.from_pretrained(kept)
    memory, asked = reader.memory_encoder.encoder.layers[0], reader.question_encoder.layers[0]
    for one, other in zip(memory.parameters(), asked.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
    with torch.no_grad():
        asked.attention.key.bias.add_(1)
    assert not torch.equal(memory.attention.key.bias, asked.attention.key.bias)
    assert not torch.equal(
        asked.attention.key.bias, Reader.from_pretrained(kept).question_encoder.layers[0].attention.key.bias
    )


def test_saved_whole_again(saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    reader.save_pretrained(saved, dtype="int8")
    assert not (saved / FILE).exists()
    assert (saved / "tokenizer.json").is_file()
    assert Reader.from_pretrained(saved).fingerprint() == reader.fingerprint()


def test_a_vocabulary_of_its_own_is_kept(saved: Path) -> None:
    reader = Reader.from_pretrained(saved)
    assert reader.tokenizer is not None
    other = tokenizers.Tokenizer.from_str(reader.tokenizer.backend.to_str())
    other.normalizer = tokenizers.normalizers.NFC()
    reader.tokenizer = Tokenizer(other, reader.config)
    reader.save_pretrained(saved, dtype="int8", share_with="pocket")
    assert (saved / "tokenizer.json").is_file()
    again = Reader.from_pretrained(saved).tokenizer
    assert again is not None
    assert again.backend.to_str() == other.to_str()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reader": "bucket"}, "bundled reader 'bucket'; this fidkit brings .*upgrade"),
        ({"reader": "../pocket"}, "bundled reader '../pocket'"),
        ({"sha256": "0" * 64}, "another pocket than this fidkit brings"),
        ({"tensors": {"embedding.weight": "no.such"}}, "weights that pocket lacks: no.such"),
        ({"tensors": {}}, "missing decoder"),
        ({"tensors": ["embedding.weight"]}, "tensors: expected keys and values"),
        ({"more": 1}, "unknown key 'more'.*; save the reader again"),
    ],
)  # fmt: skip
def test_what_is_shared_has_to_be_there_as_it_was(saved: Path, change: dict, message: str) -> None:
    record = json.loads((saved / FILE).read_text())
    (saved / FILE).write_text(json.dumps(record | change))
    with pytest.raises(FidkitError, match=message):
        Reader.from_pretrained(saved)


def test_it_is_said_what_is_missing(saved: Path) -> None:
    (saved / FILE).unlink()
    with pytest.raises(
        CheckpointError, match=r"no shared\.json, which names the weights .* common with pocket"
    ):
        Reader.from_pretrained(saved)


def test_damaged_files(saved: Path) -> None:
    (saved / FILE).write_text("[]")
    with pytest.raises(
        CheckpointError, match=r"shared\.json: expected keys and values, got an empty list; save"
    ):
        Reader.from_pretrained(saved)
    (saved / FILE).write_text('{"reader": ')
    with pytest.raises(CheckpointError, match=r"shared\.json: expected JSON"):
        Reader.from_pretrained(saved)


def test_sharing_with_no_bundled_reader(lumen: Reader, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UsageError, match=r"share_with is 'mine'; expected a bundled reader \(pocket"):
        lumen.save_pretrained(tmp_path / "a", share_with="mine")
    assert run(["convert", "pocket", str(tmp_path / "b"), "--share-with", "mine"]) == 2
    assert "--share-with 'mine': expected one of pocket" in capsys.readouterr().err
    assert run(["convert", "pocket", str(tmp_path / "b"), "--share-with", "pocket", "--to", "hf-bert"]) == 2
    assert not any(tmp_path.iterdir())


def test_by_command(tmp_path: Path) -> None:
    to = tmp_path / "lumen"
    assert (
        run(
            [
                "convert",
                "pocket",
                str(to),
                "--live-layers",
                "1/3",
                "--dtype",
                "int8",
                "--share-with",
                "pocket",
            ]
        )
        == 0
    )
    assert {path.name for path in to.iterdir()} == {"config.json", "model.safetensors", FILE}
    assert (to / "model.safetensors").stat().st_size < 1000
    wanted, _ = reshape(Reader.from_pretrained("pocket"), live_layers="1/3")
    assert Reader.from_pretrained(to).fingerprint() == wanted.fingerprint()


def test_a_reader_that_is_stored_otherwise_keeps_its_calibration(tmp_path: Path, capsys) -> None:
    own = Reader.from_pretrained("pocket").calibration
    assert own is not None
    same, shaped, free = tmp_path / "same", tmp_path / "shaped", tmp_path / "free"
    assert run(["convert", "pocket", str(same), "--dtype", "int8", "--share-with", "pocket"]) == 0
    assert "calibration" not in capsys.readouterr().err
    assert Reader.from_pretrained(same).calibration == own
    assert run(["convert", "pocket", str(shaped), "--live-layers", "1/2", "--share-with", "pocket"]) == 0
    assert "train this one, then run `fidkit calibrate`" in capsys.readouterr().err
    assert Reader.from_pretrained(shaped).calibration is None
    assert run(["convert", "pocket", str(free), "--free", "--dtype", "int8", "--share-with", "pocket"]) == 0
    assert Reader.from_pretrained(free).calibration is None
    assert "the calibration was of the reader as it was" in capsys.readouterr().err
