"""A damaged index is found whatever became of it: it would give other hits, or end a search."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fidkit import Corpus
from fidkit.errors import CorpusError
from fidkit.passages.local.check import check
from fidkit.passages.search import lexical
from fidkit.passages.search.lexical import Lexical
from fidkit.passages.search.lexical_check import damaged_files


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    docs = folder / "docs"
    docs.mkdir()
    for number in range(30):
        (docs / f"{number}.txt").write_text(f"The lease of house {number} ends in May. Harbour, cat and tea.")
    Corpus.build(docs, folder / "c").close()
    (docs / "3.txt").unlink()
    Corpus.build(docs, folder / "c", tidied=False).close()
    return folder / "c"


def test_whole_as_it_was_written(built: Path) -> None:
    [index] = built.glob("lexical-*")
    assert any(path.suffix == ".del" for path in index.iterdir())
    assert list(damaged_files(index)) == []
    assert check(built).faults == []


@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "a bit", "the record behind"])
@pytest.mark.parametrize("ending", ["fast", "fieldnorm", "idx", "pos", "store", "term", "del"])
def test_what_became_of_a_file_is_found(built: Path, tmp_path: Path, ending: str, harm: str) -> None:
    shutil.copytree(built, tmp_path / "c")
    [index] = (tmp_path / "c").glob("lexical-*")
    path = sorted(index.glob(f"*.{ending}"))[0]
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "a bit":
        content[0] ^= 4
        path.write_bytes(content)
    elif harm == "the record behind":
        content[-20] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else b"")
    assert [name for name, _ in damaged_files(index)] == [path.name]
    said = f"the index can't be read ({path.name}: "
    remedy = f"`fidkit corpus check {tmp_path / 'c'} --repair` writes it anew"
    with pytest.raises(CorpusError, match=f"{re.escape(said)}.*{re.escape(remedy)}"):
        Lexical(index)
    report = check(tmp_path / "c", repair=True)
    assert path.name in report.faults[0].reason
    assert report.mended == ["the index was written anew from the catalogue"]
    assert check(tmp_path / "c").faults == []
    with Corpus.open(tmp_path / "c") as corpus:
        assert len(corpus.search("lease harbour", 40)) == 29


def test_a_list_of_files_that_lie_elsewhere_is_no_list(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "c")
    [index] = (tmp_path / "c").glob("lexical-*")
    listed = json.loads((index / "meta.json").read_text())
    listed["segments"][0]["segment_id"] = "../../x"
    (index / "meta.json").write_text(json.dumps(listed))
    assert list(damaged_files(index)) == [("meta.json", "names files elsewhere")]


def test_a_large_index_is_opened_as_it_is(built: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(built, tmp_path / "c")
    [index] = (tmp_path / "c").glob("lexical-*")
    path = sorted(index.glob("*.store"))[0]
    path.write_bytes(b"X" + path.read_bytes()[1:])
    monkeypatch.setattr(lexical, "_COMPARED_BYTES", 100)
    assert len(Lexical(index)) == 29
