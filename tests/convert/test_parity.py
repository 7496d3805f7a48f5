"""Our readers against transformers' T5 on random weights, v1.0 (tied) and v1.1 (a head of its own)."""

from pathlib import Path

import pytest
import torch

from fidkit.context import IGNORED
from fidkit.convert import export_t5, import_t5
from fidkit.convert.t5 import table
from fidkit.engine.generation.generate import greedy
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
