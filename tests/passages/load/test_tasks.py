"""Documents read by Ray: the corpus is the same to the byte as one read by workers of this machine."""

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fidkit.cli.app import run
from fidkit.cluster import joined
from fidkit.errors import CorpusError
from fidkit.passages import Corpus
from fidkit.passages.load import tasks
from fidkit.passages.load.address import ObjectAddress
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.fetched import Fetcher
from fidkit.passages.load.found import SourceFile
from fidkit.passages.load.workers import Limits, Read

LIMITS = Limits(seconds=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """More files than a task reads, of several kinds, some of them broken."""
    folder = tmp_path / "in"
    (folder / "rows").mkdir(parents=True)
    for number in range(40):
        (folder / f"{number:02}.md").write_text(f"# Harbour {number}\n\n" + f"It is {number} m deep. " * 8)
    for number in range(5):
        (folder / f"{number}.csv").write_text(f"Ship,Masts\nAurora,{number}\n")
    (folder / "broken.pdf").write_text("no PDF")
    (folder / "broken.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with zipfile.ZipFile(folder / "more.zip", "w") as out:
        out.writestr("in.txt", "Mate comes from Paraguay.")
    (folder / "rows" / "rows.jsonl").write_text(json.dumps({"id": "1", "title": "T", "text": "A row."}))
    for path in folder.rglob("*"):  # of a file written just now no time is kept
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def contents(directory: Path) -> list[list[tuple[object, ...]]]:
    """All that a catalogue keeps of files, documents and passages."""
    with Corpus.open(directory) as corpus:
        sql = corpus._catalogue._sql
        return [
            sql.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("files", "documents", "passages")
        ]


@pytest.mark.slow
def test_ray_reads_the_same(folder, bucket, tmp_path, monkeypatch) -> None:
    pytest.importorskip("ray.data")
    bucket.upload(folder)
    Corpus.build(bucket.url(), tmp_path / "local").close()
    with Corpus.build(bucket.url(), tmp_path / "ray", by="ray") as corpus:
        assert corpus.report is not None
        assert corpus.report.files_read == 49
        assert corpus.refresh().files_read == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    # That a task failed is said in one line, and nothing is forgotten.
    before = contents(tmp_path / "ray")
    bucket.put({"00.md": "# Another\n\nText.\n"})
    monkeypatch.setattr(tasks, "read_batch", ending)
    with pytest.raises(
        CorpusError, match=r"^a task of Ray failed \(ZeroDivisionError: by nothing\); see"
    ) as info:
        Corpus.build(bucket.url(), tmp_path / "ray", by="ray")
    assert "\n" not in str(info.value)
    assert contents(tmp_path / "ray") == before


@pytest.mark.slow
def test_tasks_cut_as_they_are_told_and_tell_of_the_right_file(folder, tmp_path, monkeypatch) -> None:
    pytest.importorskip("ray.data")
    with joined() as ray:
        for by in ("local", "ray"):
            Corpus.build(folder, tmp_path / by, passage_words=10, overlap=3, by=by).close()
        assert contents(tmp_path / "ray") == contents(tmp_path / "local")
        for name in ("02.md", "03.md"):
            (folder / name).write_text("# Another\n\nText.\n")
        for task, said in (
            (unseen, r"03\.md: a machine of the cluster doesn't see it"),
            (refused, "^no rights$"),
            (ending, r"^a task of Ray failed \(ZeroDivisionError: by nothing\); see"),
        ):
            monkeypatch.setattr(tasks, "read_batch", task)
            with pytest.raises(CorpusError, match=said):
                Corpus.build(folder, tmp_path / "ray", by="ray")
        assert ray.is_initialized()  # as it was found
    assert not ray.is_initialized()


def ending(batch: object, limits: object, cutting: object) -> object:
    raise ZeroDivisionError("by nothing")


def unseen(batch: Any, limits: object, cutting: object) -> object:
    """All but the first of the files aren't there."""
    import pyarrow

    read = [Read(), *(Read(not_opened="No such file", number=2) for _ in batch["file"][1:])]
    return pyarrow.table({"read": pyarrow.array(map(pickle.dumps, read), pyarrow.large_binary())})


def refused(batch: object, limits: object, cutting: object) -> object:
    import pyarrow

    return pyarrow.table(
        {"read": pyarrow.array([pickle.dumps(CorpusError("no rights"))], pyarrow.large_binary())}
    )


def test_a_machine_that_does_not_see_a_file(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("Here.")
    gone = Read(not_opened="No such file or directory", number=2)
    with pytest.raises(
        CorpusError, match=r"a\.txt: a machine of the cluster doesn't see it; sources have to"
    ):
        tasks._refuse_unseen(SourceFile("a.txt", tmp_path / "a.txt", "document"), gone)
    tasks._refuse_unseen(SourceFile("b.txt", tmp_path / "b.txt", "document"), gone)
    tasks._refuse_unseen(SourceFile("a.txt", tmp_path / "a.txt", "document"), Read())
    tasks._refuse_unseen(SourceFile("a.txt", tmp_path / "a.txt", "document"), Read(not_opened="", number=13))
    tasks._refuse_unseen(SourceFile("a.txt", ObjectAddress("b", "a.txt"), "document"), gone)


def test_a_task_reads_a_batch(folder, monkeypatch) -> None:
    """What Ray calls, without Ray."""
    pyarrow = pytest.importorskip("pyarrow")
    closed = list[Fetcher]()
    monkeypatch.setattr(Fetcher, "close", lambda fetcher: closed.append(fetcher))
    names = ["00.md", "gone.txt", "more.zip", "broken.pdf"]
    files = [SourceFile(name, folder / name, "document", size=100) for name in names]
    batch = pyarrow.table({"file": [pickle.dumps(file) for file in files]})
    tasks._workers.cache_clear()
    table = tasks.read_batch(batch, LIMITS, Cutting(10))
    md, gone, more, broken = (pickle.loads(one.as_py()) for one in table["read"])
    [(_, of_md), (_, of_zip)] = (*md.documents, *more.documents)
    assert ([row.id for row in of_md][::3], of_zip[0].id) == (["00.md#1", "00.md#4"], "more.zip/in.txt#1")
    assert gone.number == 2
    assert broken.reason
    nowhere = SourceFile("x.txt", ObjectAddress("no_such!", "x.txt"), "document", size=100)
    batch = pyarrow.table({"file": [pickle.dumps(file) for file in (files[0], nowhere)]})
    *_, failed = tasks.read_batch(batch, LIMITS, Cutting())["read"]
    assert "can't be asked for" in str(pickle.loads(failed.as_py()))
    assert len(closed) == 2  # what was fetched doesn't stay, whatever came of it
    assert tasks._workers(LIMITS)._limits == LIMITS
    tasks._workers(LIMITS).close()
    assert tasks._workers.cache_info().misses == 1  # the same for all, with their limits
    tasks._workers.cache_clear()


@pytest.mark.parametrize(
    ("by", "said"),
    [("spark", "--by is 'spark'; expected local or ray"), ("ray", "pip install 'fidkit[ray]'")],
)
def test_by_what_is_not_there(folder, tmp_path, capsys, monkeypatch, by, said) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["corpus", "build", str(folder), "--to", str(tmp_path / "c"), "--by", by]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "c").exists()
    watch = ["corpus", "build", str(folder), "--to", str(tmp_path / "c"), "--by", "ray", "--watch"]
    assert run(watch) == 2
    assert "leave --by out" in capsys.readouterr().err
