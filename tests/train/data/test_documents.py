"""Documents: read from files or from `datasets`, each once an epoch, exact at resume."""

import gzip
import sys
from pathlib import Path
from typing import Any

import pytest

from fidkit.errors import DataError, UsageError
from fidkit.passages import Corpus
from fidkit.train.data import documents
from fidkit.train.data.documents import Documents, LocalDocuments, StreamedDocuments, open_documents
from train.toy import world, write_rows

TEXTS = [f"text {number}" for number in range(11)]


def opened(folder: Path, **settings: Any) -> Documents:
    """The documents of a task `text` with these settings, of a recipe in `folder`."""
    values = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
    recipe = world(folder, f"tasks.text={{ kind = 'span-corruption', {values} }}")
    return open_documents(recipe, recipe.tasks["text"])


def local(_folder: Path) -> Documents:
    return LocalDocuments(TEXTS, seed=3)


def streamed(folder: Path) -> Documents:
    """`datasets` over two files of rows."""
    write_rows(folder / "a.jsonl", [{"text": text, "url": "x"} for text in TEXTS[:6]])
    write_rows(folder / "b.jsonl", [{"text": text, "url": "x"} for text in TEXTS[6:]])
    return opened(folder, dataset="json", files=["a.jsonl", "b.jsonl"])


@pytest.fixture(params=[local, streamed])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes documents; blocks are smaller than the files and don't divide them."""
    monkeypatch.setattr(documents, "BLOCK", 4)
    return lambda: request.param(tmp_path)


def test_every_document_comes_once_an_epoch_in_another_order(source) -> None:
    opened = source()
    epochs = [[opened.next() for _ in TEXTS] for _ in range(3)]
    assert all(sorted(epoch) == sorted(TEXTS) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != TEXTS
    again = source()
    assert [[again.next() for _ in TEXTS] for _ in range(3)] == epochs


def test_a_restored_position_goes_on_with_the_documents_that_would_have_come(source) -> None:
    whole, states, texts = source(), [], []
    for _ in range(3 * len(TEXTS)):
        states.append(whole.state())
        texts.append(whole.next())
    for done in range(2 * len(TEXTS)):
        other = source()
        other.next()
        other.restore(states[done])
        assert other.state() == states[done]
        assert [other.next() for _ in range(len(TEXTS))] == texts[done : done + len(TEXTS)]


def test_files_are_documents_or_rows_packed_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "rows").mkdir(parents=True)
    (folder / "one.txt").write_text("A whole file,\nline after line.")
    with gzip.open(folder / "rows" / "rows.jsonl.gz", "wt") as file:
        file.write('{"text": "first", "title": "T"}\n{"text": "second"}\n')
    with gzip.open(tmp_path / "packed.txt.gz", "wt") as file:
        file.write("unpacked")
    found = opened(tmp_path, files=["texts", "packed.txt.gz"])
    texts = {found.next() for _ in range(4)}
    assert texts == {"A whole file,\nline after line.", "first", "second", "unpacked"}


# Datasets


def test_a_dataset_is_streamed_not_read(tmp_path: Path) -> None:
    source = streamed(tmp_path)
    assert isinstance(source, StreamedDocuments)
    assert type(source.dataset).__name__ == "IterableDataset"


def test_another_column_may_hold_the_text(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"body": "of the text"}])
    settings = {"dataset": "json", "files": ["a.jsonl"]}
    assert opened(tmp_path, **settings, column="body").next() == "of the text"
    with pytest.raises(DataError, match="no text in the column 'text', but the columns body; name another"):
        opened(tmp_path, **settings).next()


def test_a_dataset_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset 'json': can't be opened"):
        opened(tmp_path, dataset="json", files=["missing.jsonl"])


def test_a_dataset_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    with pytest.raises(DataError, match="a dataset has no rows"):
        opened(tmp_path, dataset="text", files=["none.txt"]).next()


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'fidkit\[datasets\]'"):
        opened(tmp_path, dataset="json", files=["a.jsonl"])


# What folders hold


def test_a_built_corpus_gives_its_passages(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS])
    Corpus.build(rows, tmp_path / "built").close()
    from_corpus, from_file = opened(tmp_path, files=["built"]), opened(tmp_path, files=["rows.jsonl"])
    drawn = [from_corpus.next() for _ in TEXTS]
    assert sorted(drawn) == sorted(TEXTS)
    assert [from_file.next() for _ in TEXTS] == drawn


def test_rows_come_in_the_order_that_they_had_in_memory(tmp_path: Path) -> None:
    """What a seed draws stays: the order of the files, then of their lines."""
    (tmp_path / "rows").mkdir()
    write_rows(tmp_path / "rows" / "b.jsonl", [{"text": text} for text in TEXTS[6:]])
    write_rows(tmp_path / "rows" / "a.jsonl", [{"text": text} for text in TEXTS[:6]])
    found, held = opened(tmp_path, files=["rows"]), LocalDocuments(TEXTS, seed=3)
    assert [found.next() for _ in range(30)] == [held.next() for _ in range(30)]


def test_a_document_of_a_folder_that_is_no_text_is_left_out_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "good.txt").write_text("A text.")
    (folder / "bad.txt").write_bytes(b"caf\xe9")
    notes: list[str] = []
    recipe = world(tmp_path, "tasks.text={ kind = 'span-corruption', files = ['texts'] }")
    found = open_documents(recipe, recipe.tasks["text"], notes.append)
    assert {found.next() for _ in range(3)} == {"A text."}
    [note] = notes
    assert note.startswith(
        f"1 of 2 documents left out, the first: {folder / 'bad.txt'}: expected text in UTF-8"
    )
