"""`fidkit corpus` with vectors: built, left out, searched and explained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fidkit.cli import building
from fidkit.cli.app import run


@pytest.fixture
def built(tmp_path: Path, capsys) -> str:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Pets\n\nThe physician owns a small kitten.\n")
    (tmp_path / "docs" / "b.md").write_text("# Streets\n\nThe road to the harbour is closed.\n")
    assert run(["corpus", "build", str(tmp_path / "docs"), "--to", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    return str(tmp_path / "c")


def test_each_way_and_why(built: str, capsys) -> None:
    assert run(["corpus", "search", built, "doctor with cat", "-k", "1", "--explain", "--json"]) == 0
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert hit["title"].startswith("Pets")
    assert hit["words"]["score"] is None
    assert hit["meaning"]["rank"] == 1
    assert run(["corpus", "search", built, "doctor with cat", "--by", "words", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["hits"] == []
    assert "no passage shares a word" in err
    assert run(["corpus", "search", built, "harbour cat", "--by", "meaning", "--explain"]) == 0
    assert "by words: not searched; by meaning: rank 1, score 0." in capsys.readouterr().out
    assert run(["corpus", "search", built, "harbour", "--by", "words", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "by words: rank 1, score 0." in out
    assert "; by meaning: not searched\n" in out
    assert run(["corpus", "search", built, "doctor with cat", "-k", "1", "--explain"]) == 0
    assert "by words: not found; by meaning: rank 1" in capsys.readouterr().out
    assert run(["corpus", "search", built, "harbour", "--by", "words", "--explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["meaning"] is None
    assert run(["corpus", "search", built, "harbour", "-k", "1"]) == 0
    place = capsys.readouterr().out.split()[1]
    assert run(["show", place, "--in", built]) == 0  # a hit can be looked at
    assert "The road to the harbour is closed." in capsys.readouterr().out
    assert run(["corpus", "info", built]) == 0
    assert "vectors      2 of minilm, 384 numbers each" in capsys.readouterr().out


def test_none_are_made_and_that_is_said(built: str, capsys, monkeypatch) -> None:
    docs = str(Path(built).parent / "docs")
    assert run(["corpus", "build", docs, "--to", built, "--no-vectors"]) == 0
    assert run(["corpus", "search", built, "cat", "--by", "both"]) == 1
    assert "has no vectors; `fidkit corpus build" in capsys.readouterr().err
    assert run(["corpus", "info", built]) == 0
    assert "vectors      none: searched by words" in capsys.readouterr().out
    monkeypatch.setattr(building, "MOST_UNASKED", 1)
    assert run(["corpus", "build", docs, "--to", built]) == 0
    assert "--vectors adds search by meaning, in about" in capsys.readouterr().err


def test_no_torch_is_imported(built: str) -> None:
    code = (
        "import sys; from fidkit import Corpus; from fidkit.engine.meaning import minilm\n"
        "c = Corpus.open(sys.argv[1], minilm); c.search('cat', 1, 'meaning'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, built], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_in_some_documents_alone(built: str, capsys) -> None:
    command = ["corpus", "search", built, "kitten harbour", "--json"]
    assert run([*command, "--where", "source=a*", "--where", "kind=md"]) == 0
    assert [hit["source"][:4] for hit in json.loads(capsys.readouterr().out)["hits"]] == ["a.md"]
    assert run([*command, "--where", "kind=pdf"]) == 1
    assert "no document has kind=.pdf; kinds are .md" in capsys.readouterr().err
    assert run([*command, "--where", "pdf"]) == 2
    assert "expected NAME=VALUE" in capsys.readouterr().err


def test_a_folder_is_taken_as_ask_takes_it(built: str, capsys) -> None:
    docs = Path(built).parent / "docs"
    (docs / "picture.txt").write_bytes(b"\xff\0")
    assert run(["corpus", "search", str(docs), "doctor with cat", "-k", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["hits"][0]["source"].startswith("a.md")
    assert "1 of 3 files were left out (picture.txt: binary, not text)" in err
    assert run(["corpus", "info", str(docs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passages"], found["sources"]) == (2, [str(docs)])
    assert sorted(docs.iterdir()) == [docs / "a.md", docs / "b.md", docs / "picture.txt"]
    assert run(["corpus", "info", str(docs / "none")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_several_questions_are_found_apart(built: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "q.txt").write_text("\nharbour road\n\nnothing of it\n")
    command = ["corpus", "search", built, "kitten", "--by", "words", "-k", "1"]
    command += ["--file", str(tmp_path / "q.txt")]
    assert run([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["query"] for one in found] == ["kitten", "harbour road", "nothing of it"]
    assert [[hit["source"][0] for hit in one["hits"]] for one in found] == [["a"], ["b"], []]
    assert "shares a word with the question: nothing of it" in err
    assert run(command) == 0
    assert capsys.readouterr().out.startswith("kitten\n")
    assert run(["corpus", "search", built]) == 2
    assert "there is nothing to search for" in capsys.readouterr().err
    (tmp_path / "q.txt").write_text("\n")
    assert run(["corpus", "search", built, "--file", str(tmp_path / "q.txt")]) == 2
    assert "holds no question" in capsys.readouterr().err
    assert run(["corpus", "search", built, "--file", str(tmp_path / "none")]) == 2
    assert "can't be read (No such file" in capsys.readouterr().err


def test_what_says_the_same_is_named_and_counted(built: str, capsys) -> None:
    docs = Path(built).parent / "docs"
    (docs / "c.md").write_text("# Pets\n\nThe physician owns\na small kitten.\n")
    build = ["corpus", "build", str(docs), "--to", built, "--passage-words", "50", "--overlap", "5"]
    assert run(build) == 0
    assert run(["corpus", "search", built, "kitten", "--by", "words", "--explain", "--json"]) == 0
    [found] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    [hit] = json.loads(found)["hits"]
    assert {hit["source"][0], hit["alike"][0]["source"][0]} == {"a", "c"}
    assert run(["corpus", "search", built, "kitten", "--by", "words", "--explain"]) == 0
    assert "the same: " in capsys.readouterr().out
    assert run(["corpus", "info", built]) == 0
    out = capsys.readouterr().out
    assert "alike        2 passages in 1 group" in out
    assert "cut          passages of about 50 words, up to 5 of them repeated" in out
