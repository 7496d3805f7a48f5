"""Atlas' `model.pth.tar` with exactly its names."""

import datetime
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from fidkit import Passage, assets
from fidkit.answerer import Answerer
from fidkit.convert import export_t5, import_t5, load
from fidkit.errors import CheckpointError
from fidkit.reader import Reader
from oracles import hf_t5

pytest.importorskip("transformers")

OPTIONS = Namespace(
    name="run", reader_model_type="google/t5-base-lm-adapt", text_maxlength=384, qa_prompt_format=None
)


def save(directory: Path, *, prefix: str = "reader.", opt: Any = OPTIONS, tied: bool = False, **more) -> dict:
    """As Atlas saves it: the reader's state dict has all copies of the embedding."""
    model = hf_t5(tied=tied)
    names = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    retriever = "retriever.contriever.embeddings.word_embeddings.weight"
    saved = {
        "step": 12,
        "model": {**names, retriever: torch.ones(3, 2), **more},
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]},
        "retr_optimizer": None,
        "scheduler": {"last_epoch": 3, "_step_count": 4},
        "retr_scheduler": None,
        "opt": opt,
    }
    directory.mkdir(exist_ok=True)
    torch.save(saved, directory / "model.pth.tar")
    return saved


def equal(one: Reader, other: Reader) -> bool:
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(p, theirs[n]) for n, p in ours.items())


@pytest.mark.parametrize("tied", [True, False], ids=["v1.0", "v1.1"])
@pytest.mark.parametrize("prefix", ["reader.", "reader.module."])
def test_the_reader_is_that_of_t5(prefix: str, tied: bool, tmp_path: Path) -> None:
    save(tmp_path / "atlas", prefix=prefix, tied=tied)
    hf_t5(tied=tied).save_pretrained(tmp_path / "t5")
    expected, _ = import_t5(tmp_path / "t5")
    reader, notes = load(tmp_path / "atlas")
    assert equal(reader, expected)
    config = reader.config
    assert config.question_format == "question: {question} answer: <extra_id_0>"
    assert config.passage_format == "title: {title} context: {text}"
    assert config.question_tokens + config.passage_tokens == 384
    formats = {"question_format": "question: {question}", "passage_tokens": 208}
    assert config.replace(**formats) == expected.config
    assert "left out the retriever, 1 tensors" in notes.remarks
    assert any("google/t5-base-lm-adapt" in remark for remark in notes.remarks)


def test_out_again(tmp_path: Path) -> None:
    save(tmp_path / "atlas")
    reader, _ = load(tmp_path / "atlas" / "model.pth.tar")  # the file stands for its directory
    export_t5(reader, tmp_path / "out")
    assert equal(import_t5(tmp_path / "out")[0], reader)


def test_what_was_read_is_no_view_of_the_file(tmp_path: Path) -> None:
    save(tmp_path)
    reader, _ = load(tmp_path)
    before = {name: p.clone() for name, p in reader.named_parameters()}
    path = tmp_path / "model.pth.tar"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert all(torch.equal(p, before[name]) for name, p in reader.named_parameters())


def test_the_question_ends_with_a_sentinel(tmp_path: Path) -> None:
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "tokenizer.json").write_bytes(assets.tokenizer_file().read_bytes())
    vocabulary = Reader.from_preset("tiny-fid").tokenizer.backend
    model = hf_t5(tied=False, vocab_size=vocabulary.get_vocab_size())
    names = {f"reader.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": names, "opt": OPTIONS}, tmp_path / "atlas" / "model.pth.tar")
    reader, _ = load(tmp_path / "atlas")
    ids = reader.tokenizer.question("who pulls?").ids
    assert ids[-1] == vocabulary.token_to_id("<extra_id_0>")
    assert (
        Answerer(reader, precision="as-is").read(
            "who pulls?", [Passage("1", "Tides", "The moon.")], max_new_tokens=3
        )
        is not None
    )


@pytest.mark.parametrize(
    ("opt", "question", "passage"),
    [
        (
            Namespace(qa_prompt_format="q: {question}", encoder_format="{query} | {title} | {text}"),
            "q: {question}",
            "| {title} | {text}",
        ),
        (
            Namespace(encoder_format="{text} {query}"),
            "question: {question} answer: <extra_id_0>",
            "title: {title} context: {text}",
        ),
        (None, "question: {question} answer: <extra_id_0>", "title: {title} context: {text}"),
    ],
)
def test_formats(opt: Any, question: str, passage: str, tmp_path: Path) -> None:
    save(tmp_path, opt=opt)
    config = load(tmp_path)[0].config
    assert (config.question_format, config.passage_format) == (question, passage)


def test_pickled_code_is_refused_by_name(tmp_path: Path) -> None:
    for opt in (Namespace(path=Path("x")), datetime.date(2022, 8, 5)):
        save(tmp_path, opt=opt)
        with pytest.raises(CheckpointError, match=r"holds (pathlib\.PosixPath|datetime\.date)") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_code_is_named_in_the_older_format_too(tmp_path: Path) -> None:
    content = {"model": {}, "opt": Namespace(path=Path("x"))}
    torch.save(content, tmp_path / "model.pth.tar", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"holds pathlib\.PosixPath"):
        load(tmp_path)


def test_unknown_and_missing_tensors_are_named(tmp_path: Path) -> None:
    save(tmp_path, **{"reader.adapter.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"does not fit its own shapes: unexpected adapter\.weight"):
        load(tmp_path)
    save(tmp_path, **{"critic.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unexpected critic\.weight"):
        load(tmp_path)
    saved = save(tmp_path)
    del saved["model"]["reader.encoder.block.0.layer.0.SelfAttention.q.weight"]
    torch.save(saved, tmp_path / "model.pth.tar")
    with pytest.raises(CheckpointError, match=r"block\.0\.layer\.0\.SelfAttention\.q\.weight are missing"):
        load(tmp_path)
    saved = save(tmp_path)
    del saved["model"]["reader.decoder.block.1.layer.1.EncDecAttention.k.weight"]
    torch.save(saved, tmp_path / "model.pth.tar")
    with pytest.raises(CheckpointError, match=r"missing decoder\.block\.1\.layer\.1\.EncDecAttention\.k"):
        load(tmp_path)


@pytest.mark.parametrize("content", [{"step": 1}, [1], {"model": {"retriever.a": torch.ones(1)}}])
def test_something_else(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth.tar")
    with pytest.raises(CheckpointError, match="expected"):
        load(tmp_path)


def test_a_damaged_file(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "model.pth.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="expected tensors as PyTorch pickles them"):
        load(tmp_path)
