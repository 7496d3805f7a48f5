"""What is left of a corpus when a build dies, the disk fills up, or nothing may be written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import corpus_kill
import pytest

from disks import mounted
from fidkit.errors import CorpusError
from fidkit.passages import Corpus, TokenCache


@pytest.fixture
def files(tmp_path, write_rows) -> list[Path]:
    """Four passage files, enough for a build of about a second with the start of the process."""
    return [
        write_rows(
            tmp_path / "in" / f"{file}.jsonl",
            (
                {"id": f"{file}-{n}", "title": f"title {n % 97}", "text": f"words {n} {n * n} " * 20}
                for n in range(1500)
            ),
        )
        for file in range(4)
    ]


@pytest.mark.parametrize(
    ("count", "first"),
    [
        pytest.param(1, False, id="1-rebuild"),
        pytest.param(20, False, id="20-rebuild", marks=pytest.mark.slow),
        pytest.param(20, True, id="20-first build", marks=pytest.mark.slow),
    ],
)
def test_kill_at_random_moments(files, tmp_path, count, first):
    row = corpus_kill.trial(files, tmp_path / "work", count, seed=count, first=first)
    assert row["rebuild"] == "equals an undisturbed build"
    assert not [outcome for outcome in row["outcomes"] if "bad" in outcome], row


def test_a_kill_just_before_the_commit_and_just_after(docs, tmp_path):
    """The two moments that matter most, hit exactly."""
    for where, expected in (("before", 3), ("after", 4)):
        corpus = Corpus.build(docs, tmp_path / where)
        (docs / "new.txt").write_text("Maté comes from Paraguay.")
        code = f"""
import os, sys
from fidkit.passages import Corpus
from fidkit.passages.local import builder, catalogue
def die(*_, **__): os._exit(9)
if {where!r} == "before": catalogue.Catalogue.commit = die
else: builder.sweep = die
Corpus.build(sys.argv[1], sys.argv[2])
"""
        assert (
            subprocess.run(
                [sys.executable, "-c", code, str(docs), str(tmp_path / where)], check=False
            ).returncode
            == 9
        )
        assert len(list((tmp_path / where).glob("lexical-*"))) == 2
        with Corpus.open(tmp_path / where) as left:
            assert len(left) == len(left.search("comes from", k=9)) == expected
        assert corpus.refresh().files_read == 4 - expected
        assert len(list((tmp_path / where).glob("lexical-*"))) == 1
        (docs / "new.txt").unlink()


def test_a_first_build_that_never_ended_is_said(docs, tmp_path):
    code = """
import os, sys
from fidkit.passages import Corpus
from fidkit.passages.local import catalogue
catalogue.Catalogue.commit = lambda *_: os._exit(9)
Corpus.build(sys.argv[1], sys.argv[2])
"""
    subprocess.run([sys.executable, "-c", code, str(docs), str(tmp_path / "c")], check=False)
    with pytest.raises(CorpusError, match="never completed; run `fidkit corpus build"):
        Corpus.open(tmp_path / "c")
    assert len(Corpus.build(docs, tmp_path / "c")) == 3


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own, 4 MB."""
    with mounted(tmp_path / "disk", "tmpfs", "size=4m") as disk:
        yield disk


@pytest.mark.parametrize("rows", [3_000, 10_000], ids=["index", "catalogue"])
def test_a_full_disk_is_said_and_costs_nothing(small_disk, tmp_path, docs, write_rows, rows):
    corpus = Corpus.build(docs, small_disk / "c")
    many = ({"id": n, "text": " ".join(hex(n * k * 2654435761) for k in range(1, 60))} for n in range(rows))
    big = write_rows(tmp_path / "big.jsonl", many)
    with pytest.raises(
        CorpusError,
        match=r"the disk is full .* \(.* MB free, about .* MB are needed\); free some space",
    ):
        Corpus.build([docs, big], small_disk / "c")
    assert len(corpus) == len(corpus.search("comes from")) == 3
    (docs / "new.txt").write_text("Maté comes from Paraguay.")
    assert len(Corpus.build(docs, small_disk / "c")) == 4


def test_a_read_only_corpus_can_be_searched(small_disk, docs):
    Corpus.build(docs, small_disk / "c").close()
    for leftover in small_disk.glob("c/*-wal"), small_disk.glob("c/*-shm"):
        for path in leftover:
            path.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Corpus.open(small_disk / "c") as corpus:
        hits = corpus.search("tea")
        assert hits[0].passage.id == "tea.md#1"
        assert TokenCache(corpus.derived, "k").get([hits[0].passage], lambda some: [[7] for _ in some]) == [
            [7]
        ]
    with pytest.raises(CorpusError, match="can't be written"):
        Corpus.build(docs, small_disk / "c")


def test_file_size_limits_count_as_full(docs, tmp_path, write_rows):
    rows = write_rows(tmp_path / "p.jsonl", ({"id": n, "text": f"some words {n} " * 40} for n in range(5000)))
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
from fidkit.passages import Corpus
from fidkit.errors import CorpusError
try: Corpus.build(sys.argv[1], sys.argv[2])
except CorpusError as error: print(error)
"""
    command = [sys.executable, "-c", code, str(rows), str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert "build again" in done.stdout, done
    assert len(done.stdout.splitlines()) == 1
