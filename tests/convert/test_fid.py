"""facebookresearch/FiD's directories and fastRAG's, on tiny models with exactly their names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fidkit import Passage, assets
from fidkit.answerer import Answerer
from fidkit.cli.app import run
from fidkit.convert import export_fid, export_t5, load
from fidkit.convert.t5 import UNUSED, table
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from oracles import batch_of, hf_t5, random_reader, small, stack

pytest.importorskip("transformers")
from convert.naive_fid import NaiveFid

VERSIONS = pytest.mark.parametrize("tied", [True, False], ids=["v1.0", "v1.1"])
QUESTION = [5, 6, 7]
PASSAGES = [[2 + (7 * i + j * j) % 35 for j in range(n)] for i, n in enumerate([31, 1, 60, 8, 3])]
ROWS = [QUESTION + passage for passage in PASSAGES]
TARGET = [12, 30, 4, 9, 8, 1]


def equal(one: Reader, other: Reader) -> bool:
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(p, theirs[n]) for n, p in ours.items())


@VERSIONS
def test_the_imported_reader_is_the_naive_one(tied: bool, tmp_path: Path) -> None:
    naive = NaiveFid(hf_t5(tied=tied))
    naive.save(tmp_path / "fid")
    reader, notes = load(tmp_path / "fid")
    ours = reader(batch_of([(QUESTION, PASSAGES, TARGET)])).logits[0]
    assert (ours - naive.logits(ROWS, [0, *TARGET[:-1]])).abs().max() <= 1e-4
    assert notes.dropped == (UNUSED,)
    assert not any("cross-attention" in remark for remark in notes.remarks)


def test_answers_to_text_are_the_naive_ones(tmp_path: Path) -> None:
    import tokenizers

    vocabulary = tokenizers.Tokenizer.from_file(str(assets.tokenizer_file()))
    naive = NaiveFid(hf_t5(tied=True, vocab_size=vocabulary.get_vocab_size()), vocabulary)
    naive.save(tmp_path / "fid")
    vocabulary.save(str(tmp_path / "fid" / "tokenizer.json"))
    reader, _ = load(tmp_path / "fid")
    passages = [
        Passage("1", "Tides", "The moon pulls at the water, and the water rises."),
        Passage("2", "Ada Lovelace", "She wrote about the analytical engine."),
        Passage("3", "", "No title here."),
    ]
    answers = set()
    for question in ("what pulls at the water", "who wrote about the engine?", "why?"):
        given = Answerer(reader, precision="as-is").read(question, passages, max_new_tokens=6).text
        assert given == naive.answer(question, passages, 6)
        answers.add(given)
    assert len(answers) > 1


def test_the_bias_of_cross_attention(tmp_path: Path, record_property) -> None:
    """The first token is exact; what follows is as far off as the bias is large, and the note says so."""
    for bias in (0.1, 1.0):
        naive = NaiveFid(hf_t5(tied=True), bias=bias)
        naive.save(tmp_path / str(bias))
        reader, notes = load(tmp_path / str(bias))
        ours = reader(batch_of([(QUESTION, PASSAGES, TARGET)])).logits[0]
        differences = (ours - naive.logits(ROWS, [0, *TARGET[:-1]])).abs().amax(-1)
        record_property(f"logit_difference_at_bias_{bias}", differences.tolist())
        assert differences[0] <= 1e-5
        assert 0 < differences[1:].max() <= 0.25 * bias
        assert any("its cross-attention adds up to" in remark for remark in notes.remarks)
        assert notes.dropped == (UNUSED,)


def test_a_bias_that_is_the_same_for_all_distances_is_none(tmp_path: Path) -> None:
    naive = NaiveFid(hf_t5(tied=True), bias=1.0)
    table = naive.model.decoder.block[0].layer[1].EncDecAttention.relative_attention_bias.weight
    with torch.no_grad():
        table.copy_(table[:1].expand_as(table).clone())
    naive.save(tmp_path / "fid")
    reader, notes = load(tmp_path / "fid")
    ours = reader(batch_of([(QUESTION, PASSAGES, TARGET)])).logits[0]
    assert (ours - naive.logits(ROWS, [0, *TARGET[:-1]])).abs().max() <= 1e-4
    assert not any("cross-attention" in remark for remark in notes.remarks)


# Out


@VERSIONS
def test_export_gives_the_same_names_and_tensors(tied: bool, tmp_path: Path) -> None:
    NaiveFid(hf_t5(tied=tied)).save(tmp_path / "theirs")
    reader, _ = load(tmp_path / "theirs")
    notes = export_fid(reader, tmp_path / "ours")
    ours, theirs = (torch.load(tmp_path / n / "pytorch_model.bin") for n in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any("T5 v1.0 alone" in remark for remark in notes.remarks) is not tied
    assert equal(load(tmp_path / "ours")[0], reader)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == ["FiDT5"]


def test_a_wrapped_class_loads_what_is_exported(tmp_path: Path) -> None:
    reader = load_fid(tmp_path)
    naive = NaiveFid(hf_t5(tied=True, seed=1))
    export_fid(reader, tmp_path / "out")
    naive.model.load_state_dict(torch.load(tmp_path / "out" / "pytorch_model.bin"))  # strict
    ours = reader(batch_of([(QUESTION, PASSAGES, TARGET)])).logits[0]
    assert (ours - naive.logits(ROWS, [0, *TARGET[:-1]])).abs().max() <= 1e-4


def load_fid(directory: Path) -> Reader:
    NaiveFid(hf_t5(tied=True)).save(directory / "in")
    return load(directory / "in")[0]


def test_layers_may_be_unwrapped(tmp_path: Path) -> None:
    expected = load_fid(tmp_path)
    path = tmp_path / "in" / "pytorch_model.bin"
    torch.save({n.replace(".module.", "."): t for n, t in torch.load(path).items()}, path)
    assert equal(load(tmp_path / "in")[0], expected)


def test_missing_and_unknown_keys_are_listed(tmp_path: Path) -> None:
    load_fid(tmp_path)
    path = tmp_path / "in" / "pytorch_model.bin"
    tensors = torch.load(path)
    del tensors["encoder.encoder.block.1.module.layer.0.SelfAttention.q.weight"]
    tensors["encoder.encoder.adapter.weight"] = torch.zeros(1)
    torch.save(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "in")
    assert "missing encoder.block.1.layer.0.SelfAttention.q.weight" in str(caught.value)
    assert "unexpected encoder.adapter.weight" in str(caught.value)


def test_readers_that_fid_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cross-attention in one of 2 decoder layers"):
        export_fid(random_reader(small(cross_attention_every=2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_t5(random_reader(small(decoder=stack(2))), tmp_path / "t5")
    assert run(["convert", str(tmp_path / "t5"), str(tmp_path / "fid"), "--to", "fid"]) == 0
    assert "fid" in capsys.readouterr().out
    assert run(["convert", str(tmp_path / "fid"), str(tmp_path / "back"), "--to", "hf-t5"]) == 0
    back, t5 = (tmp_path / name / "model.safetensors" for name in ("back", "t5"))
    assert back.read_bytes() == t5.read_bytes()
    assert (
        run(["convert", str(tmp_path / "t5"), str(tmp_path / "x"), "--to", "fid", "--dtype", "bfloat16"]) == 2
    )


def test_a_folder_of_a_run_names_the_checkpoints_in_it(tmp_path: Path) -> None:
    NaiveFid(hf_t5(tied=True)).save(tmp_path / "run" / "checkpoint" / "best_dev")
    with pytest.raises(CheckpointError, match="there is one in checkpoint/best_dev"):
        load(tmp_path / "run")


# fastRAG


def test_fastrag_has_plain_names_in_bfloat16(tmp_path: Path) -> None:
    model = hf_t5(tied=False)
    model.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    record["architectures"] = ["FusionInDecoderForConditionalGeneration"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    tensors = {n: t.bfloat16() for n, t in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reader, notes = load(tmp_path)
    ours, names = dict(reader.named_parameters()), table(reader.config)
    assert names.keys() == tensors.keys()
    assert all(torch.equal(ours[names[n]], t.float()) for n, t in tensors.items())
    assert any("fastRAG ends no passage" in remark for remark in notes.remarks)
    assert any("bfloat16" in remark for remark in notes.remarks)
