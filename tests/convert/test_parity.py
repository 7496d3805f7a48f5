"""Our readers against transformers' T5 on random weights, v1.0 (tied) and v1.1 (a head of its own)."""

from pathlib import Path

import pytest
import torch

from fidkit.context import IGNORED
from fidkit.convert import export_fid, export_t5, import_t5
from fidkit.convert.reshape import join_encoder
from fidkit.convert.t5 import table
from fidkit.engine.generation.generate import greedy
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from oracles import batch_of, hf_greedy, hf_logits, hf_t5, loss_of

pytest.importorskip("transformers")

VERSIONS = pytest.mark.parametrize("tied", [True, False], ids=["v1.0 tied", "v1.1 untied"])
TOLERANCE = 1e-4

QUESTION = [5, 6, 7]
TARGET = [12, 30, 4, 9, 1]
# Long enough for every relative bucket, and ragged.
PASSAGES = [
    [2 + (7 * i + j * j) % 35 for j in range(length)]
    for i, length in enumerate([31, 1, 150, 8, 3, 60, 2, 17])
]


def imported(model, directory: Path) -> Reader:
    model.save_pretrained(directory)
    return import_t5(directory)[0]


def rows(passages):
    return [QUESTION + passage for passage in passages]


def largest(differences) -> float:
    return max(float(d.detach().abs().max()) for d in differences)


@VERSIONS
@pytest.mark.parametrize("passages", [PASSAGES[2:3], PASSAGES], ids=["T5", "FiD"])
def test_logits_loss_and_gradients(tied: bool, passages, tmp_path: Path, record_property) -> None:
    model = hf_t5(tied=tied)
    reader = imported(model, tmp_path)
    output = reader(batch_of([(QUESTION, passages, TARGET)]))
    logits = hf_logits(model, rows(passages), [0, *TARGET[:-1]])
    loss = loss_of(logits, TARGET)
    output.loss.backward()
    loss.backward()

    theirs = dict(model.named_parameters())
    ours = dict(reader.named_parameters())
    names = table(reader.config)
    assert names.keys() == theirs.keys()
    gradients = largest(theirs[n].grad - ours[names[n]].grad for n in names)
    record_property("largest_logit_difference", largest([output.logits[0] - logits]))
    record_property("largest_gradient_difference", gradients)
    assert largest([output.logits[0] - logits]) <= TOLERANCE
    assert abs(output.loss - loss) <= TOLERANCE
    assert gradients <= TOLERANCE
    assert all(p.grad.abs().max() > 0 for p in ours.values())


@VERSIONS
@torch.no_grad()
def test_greedy_answers(tied: bool, tmp_path: Path) -> None:
    """FiD over 8 ragged passages: the same tokens as a loop without caches over transformers' layers."""
    model = hf_t5(tied=tied)
    reader = imported(model, tmp_path)
    for seed in range(4):
        passages = [p[seed:] + p[:seed] for p in PASSAGES]
        generated = greedy(reader, reader.read(batch_of([(QUESTION, passages, [1])])), 16)
        ours = [token for token in generated.ids_BT[0].tolist() if token != IGNORED]
        assert ours == hf_greedy(model, rows(passages), 16)
        assert len(set(ours)) > 1  # not the same token over and over


@VERSIONS
@torch.no_grad()
def test_transformers_reads_what_we_export(tied: bool, tmp_path: Path) -> None:
    from transformers import T5ForConditionalGeneration

    model = hf_t5(tied=tied)
    export_t5(imported(model, tmp_path / "theirs"), tmp_path / "ours")
    again = T5ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    assert again.config.scale_decoder_outputs == tied
    expected, found = (hf_logits(m, rows(PASSAGES), [0, *TARGET]) for m in (model, again))
    assert torch.equal(found, expected)


# mT5 is T5 v1.1 by another name; umT5 has biases by distance in every layer


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_umt5_logits_loss_gradients_and_a_way_back(tied: bool, tmp_path: Path) -> None:
    from transformers import UMT5ForConditionalGeneration

    model = hf_t5(tied=tied, kind="UMT5", layers=3)
    reader = imported(model, tmp_path)
    assert {stack.family for stack in (reader.config.encoder, reader.config.decoder)} == {"umt5"}
    output = reader(batch_of([(QUESTION, PASSAGES, TARGET)]))
    logits = hf_logits(model, rows(PASSAGES), [0, *TARGET[:-1]])
    loss = loss_of(logits, TARGET)
    output.loss.backward()
    loss.backward()
    theirs, ours = dict(model.named_parameters()), dict(reader.named_parameters())
    names = table(reader.config)
    assert names.keys() == theirs.keys()
    assert largest([output.logits[0] - logits]) <= TOLERANCE
    head = "lm_head.weight"  # scaled in transformers, so that its gradient is less
    assert largest(theirs[n].grad - ours[names[n]].grad for n in names if n != head) <= TOLERANCE
    assert tied or largest([theirs[head].grad * 4 - ours[names[head]].grad]) <= TOLERANCE
    biases = [p for name, p in ours.items() if "relative_bias" in name]
    assert len(biases) == 3 + 2
    assert all(p.grad.abs().max() > 0 for p in biases)

    notes = export_t5(reader, tmp_path / "back")
    again = UMT5ForConditionalGeneration.from_pretrained(tmp_path / "back").eval()
    found = hf_logits(again, rows(PASSAGES), [0, *TARGET[:-1]])
    assert largest([found * (1 if tied else 4) - logits]) <= TOLERANCE  # root of the width
    assert any("scales umT5's logits" in remark for remark in notes.remarks) != tied
    with pytest.raises(CheckpointError, match="FiD can't hold this reader: it is umT5"):
        export_fid(reader, tmp_path / "fid")


@torch.no_grad()
def test_umt5_writes_what_transformers_does(tmp_path: Path) -> None:
    model = hf_t5(tied=False, kind="UMT5")
    reader = imported(model, tmp_path)
    generated = greedy(reader, reader.read(batch_of([(QUESTION, PASSAGES, [1])])), 8)
    found = [token for token in generated.ids_BT[0].tolist() if token != IGNORED]
    assert found == hf_greedy(model, rows(PASSAGES), 8)
    split, _ = import_t5(tmp_path, live_layers=1)
    whole = join_encoder(split.config, dict(split.named_parameters()))[1]
    assert all(torch.equal(p, whole[name]) for name, p in reader.named_parameters())


@torch.no_grad()
def test_mt5_is_t5_v1_1(tmp_path: Path) -> None:
    model = hf_t5(tied=False, kind="MT5")
    reader = imported(model, tmp_path)
    assert reader.config.encoder.family == "t5-v1.1"
    output = reader(batch_of([(QUESTION, PASSAGES, TARGET)]))
    assert largest([output.logits[0] - hf_logits(model, rows(PASSAGES), [0, *TARGET[:-1]])]) <= TOLERANCE
