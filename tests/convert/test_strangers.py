"""What training frameworks leave behind is taken, or said in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fidkit.convert import export_t5, import_t5, load
from fidkit.convert.wrapped import KEYS
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from oracles import random_reader, small

CONFIG = small(relative_buckets=32, relative_max_distance=128)
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    export_t5(random_reader(CONFIG), tmp_path / "t5")
    return tmp_path / "t5"


def weights(directory: Path) -> Tensors:
    return load_file(directory / "model.safetensors")


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(weights(directory)), directory / "model.safetensors")


def pickled(directory: Path, content: object, name: str = "pytorch_model.bin") -> None:
    (directory / "model.safetensors").unlink()
    torch.save(content, directory / name)


def reconfigure(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    message = str(caught.value)
    assert "\n" not in message
    return message


def equal(one: Reader, other: Reader) -> bool:
    return one.fingerprint() == other.fingerprint()


# Taken


@pytest.mark.parametrize("key", KEYS)
def test_a_dictionary_around_the_tensors(key: str, t5: Path) -> None:
    expected, tensors = import_t5(t5)[0], weights(t5)
    pickled(t5, {key: tensors, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}})
    assert equal(import_t5(t5)[0], expected)


def test_a_dictionary_in_a_dictionary(t5: Path) -> None:
    expected, tensors = import_t5(t5)[0], weights(t5)
    pickled(t5, {"model": {"module": {f"module.{n}": t for n, t in tensors.items()}, "step": 1}})
    assert equal(import_t5(t5)[0], expected)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.model.", "reader.t5."]
)
def test_prefixes(prefix: str, t5: Path) -> None:
    expected = import_t5(t5)[0]
    rewrite(t5, lambda tensors: {prefix + n: t for n, t in tensors.items()})
    reader, notes = import_t5(t5)
    assert equal(reader, expected)
    assert any("off the names" in remark for remark in notes.remarks) == (prefix != "_orig_mod.")


def test_what_compiling_and_fsdp_put_into_names(t5: Path) -> None:
    expected = import_t5(t5)[0]
    rewrite(
        t5,
        lambda ts: {n.replace(".layer.", "._fsdp_wrapped_module.layer._orig_mod."): t for n, t in ts.items()},
    )
    assert equal(import_t5(t5)[0], expected)


def test_lightnings_file_beside_a_config(t5: Path) -> None:
    expected, tensors = import_t5(t5)[0], weights(t5)
    named = {f"model.{n}": t for n, t in tensors.items()}
    pickled(t5, {"state_dict": named, "epoch": 1, "pytorch-lightning_version": "2.0"}, "epoch=1.ckpt")
    assert equal(import_t5(t5)[0], expected)


def test_int8_with_scales_of_bitsandbytes(t5: Path) -> None:
    tensors = weights(t5)
    name = "encoder.block.0.layer.0.SelfAttention.q"
    scales = tensors[f"{name}.weight"].abs().amax(1)
    rounded = (tensors[f"{name}.weight"] / scales[:, None] * 127).round().to(torch.int8)
    stored = {
        f"{name}.weight": rounded,
        f"{name}.SCB": scales,
        f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    rewrite(t5, lambda ts: ts | stored)
    reader, notes = import_t5(t5)
    query = reader.live_encoder.layers[0].attention.query.weight
    assert torch.equal(query, rounded.float() * (scales / 127)[:, None])
    assert (query - tensors[f"{name}.weight"]).abs().max() <= scales.max() / 127 / 2 * 1.001
    assert "1 matrices of int8 (bitsandbytes)" in notes.remarks[0]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_float8_without_scales(dtype: torch.dtype, t5: Path) -> None:
    narrow = {n: t.to(dtype) for n, t in weights(t5).items()}
    rewrite(t5, lambda ts: narrow)
    reader, notes = import_t5(t5)
    assert torch.equal(reader.embedding.weight, narrow["shared.weight"].float())
    assert f"weights stored as {str(dtype).removeprefix('torch.')} are kept as float32" in notes.remarks


def test_a_head_of_its_own_that_is_scaled(t5: Path) -> None:
    """transformers 5 scales what comes into the head, whichever matrix that is."""
    reconfigure(t5, tie_word_embeddings=True, scale_decoder_outputs=True)
    head = weights(t5)["lm_head.weight"]
    reader, notes = import_t5(t5)
    assert not reader.config.tied_head
    assert torch.equal(reader.head.linear.weight, head * 16**-0.5)
    assert "isn't tied, but scaled" in notes.remarks[0]


def test_several_ends_of_sequence(t5: Path) -> None:
    reconfigure(t5, eos_token_id=[1])
    assert import_t5(t5)[0].config.end_token == 1
    assert not any("ends of sequence" in remark for remark in import_t5(t5)[1].remarks)
    reconfigure(t5, eos_token_id=[5, 1])
    reader, notes = import_t5(t5)
    assert reader.config.end_token == 5
    assert "of its ends of sequence [5, 1] the first is taken" in notes.remarks


# Said


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool], ids=str)
def test_quantised_weights_without_scales(dtype: torch.dtype, t5: Path) -> None:
    rewrite(t5, lambda ts: {n: t.to(dtype) for n, t in ts.items()})
    said = refused(t5)
    assert f"is stored as {str(dtype).removeprefix('torch.')}; expected float32" in said
    assert "decoder.block.0.layer.0" in said  # its own name


def test_float8_with_scales(t5: Path) -> None:
    narrow = {n: t.to(torch.float8_e4m3fn) for n, t in weights(t5).items()}
    rewrite(t5, lambda ts: narrow | {"shared.weight_scale": torch.ones(1)})
    assert "float8 with scales (shared.weight_scale)" in refused(t5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n <HTML>", "a web page"),
        (b"GGUF\x03", "a GGUF file"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "spiece.model"])
def test_files_that_only_look_like_weights(name: str, content: bytes, message: str, t5: Path) -> None:
    if name == "pytorch_model.bin":
        (t5 / "model.safetensors").unlink()
    (t5 / name).write_bytes(content)
    said = refused(t5)
    assert message in said
    assert str(t5 / name) in said


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("adapter_model.safetensors", "an adapter (LoRA)"),
        ("zero_to_fp32.py", "shards of DeepSpeed"),
        ("global_step10", "shards of DeepSpeed"),
        ("__0_0.distcp", "shards of a distributed checkpoint (FSDP)"),
        ("t5.Q4.gguf", "llama.cpp (GGUF)"),
        ("flax_model.msgpack", "weights for Flax"),
        ("tf_model.h5", "weights for TensorFlow"),
        ("encoder.onnx", "weights for ONNX"),
        ("optimizer.pt", "the state of an optimiser without the weights"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_folders_of_other_things(file: str, message: str, config: bool, t5: Path) -> None:
    (t5 / "model.safetensors").unlink()
    if not config:
        (t5 / "config.json").unlink()
    (t5 / file).write_bytes(b"x")
    assert message in refused(t5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": {}, "param_groups": []}, "the state of an optimiser"),
        ({"optimizer": {"state": {}}}, "the state of an optimiser"),
        ([1, 2], "expected names and tensors, got list"),
        ({"a": {"b": 1}}, "other Python objects as a"),
    ],
)
def test_pickles_without_a_model(content: object, message: str, t5: Path) -> None:
    pickled(t5, content)
    assert message in refused(t5)


def test_a_missing_shard(t5: Path) -> None:
    (t5 / "model.safetensors").unlink()
    record = {"weight_map": {"shared.weight": "pytorch_model-00001-of-00002.bin"}}
    (t5 / "pytorch_model.bin.index.json").write_text(json.dumps(record))
    assert "names the shard pytorch_model-00001-of-00002.bin, which isn't there" in refused(t5)


def test_adapters_inside_a_model(t5: Path) -> None:
    rewrite(t5, lambda ts: ts | {"decoder.block.0.q.lora_A.default.weight": torch.zeros(2, 2)})
    assert "is of an adapter (LoRA); merge it" in refused(t5)


def test_a_student_with_its_teacher(t5: Path) -> None:
    rewrite(t5, lambda ts: {f"{who}.{n}": t.clone() for who in ("student", "teacher") for n, t in ts.items()})
    assert "holds 2 models, named student.…, teacher.…" in refused(t5)


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_a_model_of_bytes(where: str, t5: Path) -> None:
    (t5 / "tokenizer_config.json").write_text("{}")
    path = t5 / where
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "ByT5Tokenizer"}))
    assert "a model of bytes (ByT5)" in refused(t5)


@pytest.mark.parametrize("missing", ["google.protobuf", "sentencepiece", "transformers"])
def test_packages_for_sentencepiece_are_named(
    missing: str, t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (t5 / "spiece.model").write_bytes(b"\x0a\x0b")
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    said = refused(t5)
    assert f"converting it needs {missing.replace('google.', '')}: `pip install 'fidkit[encoders]'`" in said
    assert "tiktoken" not in said


def test_a_damaged_sentencepiece_file(t5: Path) -> None:
    pytest.importorskip("transformers")
    (t5 / "spiece.model").write_bytes(b"\xff" * 40)
    assert "expected SentencePiece's file" in refused(t5)


def test_json_nested_too_deeply(t5: Path) -> None:
    (t5 / "config.json").write_text("[" * 100_000)
    assert "nested too deeply" in refused(t5)


def test_a_pointer_in_the_place_of_atlas(tmp_path: Path) -> None:
    (tmp_path / "model.pth.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "pointer of Git LFS" in refused(tmp_path)
