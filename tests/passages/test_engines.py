"""What every engine does alike: each test runs on a corpus in a directory, on one in PostgreSQL, searched
here in a replica, and on one that its server searches.
"""

import os
import zipfile
from contextlib import closing

import pytest

from fidkit import Answerer, Filter
from fidkit.errors import CorpusError, DataError, UsageError
from fidkit.passages import Corpus, Passages
from fidkit.passages.local import cuts
from fidkit.passages.opening import open_sources
from word_vectors import encoder


@pytest.fixture
def corpus(docs, place):
    with Corpus.build(docs, place) as built:
        yield built


def test_it_is_a_collection_of_passages(corpus, docs):
    assert isinstance(corpus, Passages)
    assert [passage.id for passage in corpus] == ["coffee.txt#1", "tea.md#1", "deep/cocoa.txt#1"]
    assert len(corpus) == 3
    for passage in corpus:
        name, span = passage.source.rsplit(":", 1)
        start, end = map(int, span.split("-"))
        assert (docs / name).read_text()[start:end] == passage.text


def test_it_finds_what_a_directory_finds(corpus, docs, place, tmp_path):
    with Corpus.build(docs, tmp_path / "beside") as beside:
        for question in ("Where does tea come from?", "hot water", "comes", "quantum"):
            found, wanted = corpus.search(question), beside.search(question)
            if "replica=none" in place:  # ranked by the server, on a scale of its own
                assert {hit.passage for hit in found} == {hit.passage for hit in wanted}
                assert [hit.passage for hit in found][:1] == [hit.passage for hit in wanted][:1]
            else:
                assert found == wanted
        assert corpus.fingerprint == beside.fingerprint
        assert list(corpus) == list(beside)


def test_equal_scores_are_in_the_order_of_the_sources(tmp_path, place):
    folder = tmp_path / "berths"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"Berth {number:02} is free.")
    with Corpus.build(folder, place) as corpus:
        found = corpus.search("free", 20)
        assert len({hit.score for hit in found}) == 1
        assert [hit.passage.id for hit in found] == [f"{number:02}.txt#1" for number in range(20)]


def test_passages_are_got_by_id(corpus):
    assert [passage.title for passage in corpus.get(["tea.md#1", "coffee.txt#1"])] == ["Tea", "coffee"]
    with pytest.raises(CorpusError, match=r"no passage with id 'x' \(1 of 2"):
        corpus.get(["tea.md#1", "x"])


def test_a_document_and_its_places(corpus, docs):
    assert corpus.document("tea.md").text == (docs / "tea.md").read_text()
    assert [place.label for place in corpus.place("tea.md", (50, 52)).places] == ["Tea", "Brewing"]
    with pytest.raises(CorpusError, match=r"no document is called 'teas\.md'; did you mean tea\.md"):
        corpus.document("teas.md")


def test_each_document_of_a_file_is_itself(docs, place):
    said = {"a.txt": "Mate comes from Paraguay.", "b.md": "# Sake\n\nSake comes from Japan."}
    with zipfile.ZipFile(docs / "more.zip", "w") as out:
        for name, text in said.items():
            out.writestr(name, text)
    (docs / "zz.md").write_text("# Last\n\nRead after the archive.")
    with Corpus.build(docs, place) as corpus:
        documents = {f"more.zip/{name}": text for name, text in said.items()}
        documents |= {name: (docs / name).read_text() for name in ("coffee.txt", "tea.md", "zz.md")}
        assert {name: corpus.document(name).text for name in documents} == documents
        assert [place.label for place in corpus.place("more.zip/b.md", (10, 12)).places] == ["Sake"]
        assert [place.label for place in corpus.place("zz.md", (10, 12)).places] == ["Last"]
        only = Filter(source="more.zip/b*")
        assert [hit.passage.id for hit in corpus.search("comes from", where=only)] == ["more.zip/b.md#1"]
        assert corpus.info().documents == 6


def test_a_folder_that_was_moved_is_not_read_again(docs, place):
    for path in docs.rglob("*.*"):  # of a file written just now no time is kept
        os.utime(path, (1e9, 1e9))
    Corpus.build(docs, place).close()
    with Corpus.open(place) as before, Corpus.build(docs.rename(docs.with_name("moved")), place) as corpus:
        assert (corpus.report.files_read, corpus.report.files_removed) == (0, 0)
        before.refresh()
        for found in (before, corpus):
            assert {file.path for file in found.files()} == {
                str(docs.with_name("moved") / name) for name in ("coffee.txt", "tea.md", "deep/cocoa.txt")
            }
            assert found.info().sources == [str(docs.with_name("moved"))]
            assert found.document("tea.md").record.path == str(docs.with_name("moved") / "tea.md")
        generation = corpus.generation
    with Corpus.build(docs.with_name("moved"), place) as again:
        assert again.generation == generation


def test_filters_leave_some_documents(corpus):
    assert [hit.passage.id for hit in corpus.search("comes from", where=Filter(kind="md"))] == ["tea.md#1"]
    with pytest.raises(CorpusError, match=r"kinds are \.md, \.txt"):
        corpus.search("tea", where=Filter(kind="pdf"))


def test_filters_see_what_came(corpus, docs, place):
    only = Filter(kind="md")
    assert corpus.search("Maté", where=only) == []
    (docs / "maté.md").write_text("Maté comes from Paraguay.")
    Corpus.build(docs, place).close()
    corpus.refresh()
    assert [hit.passage.id for hit in corpus.search("Maté", where=only)] == ["maté.md#1"]


def test_it_is_searched_by_meaning_and_by_both(docs, place, tmp_path):
    with Corpus.build(docs, place, encoder=encoder) as corpus:
        [found] = corpus.search("Amazon cocoa", 1, "meaning")
        assert found.passage.id == "deep/cocoa.txt#1"
        only = Filter(kind="md")
        assert [hit.passage.id for hit in corpus.search("cocoa", 3, "both", where=only)] == ["tea.md#1"]
        for question in ("comes from", "the Amazon."):
            assert corpus.search(question) == corpus.search(question, by="both")
            assert len(corpus.search(question, by="both")) == len(corpus) == 3
        assert corpus.info().vectors == {"encoder": "words", "dimension": 100, "passages": 3}


def test_vectors_need_an_encoder(docs, place):
    with pytest.raises(UsageError, match="encoder"):
        Corpus.build(docs, place, vectors=True)


def test_a_build_reads_what_changed(corpus, docs, place):
    before, generation = corpus.fingerprint, corpus.generation
    (docs / "tea.md").write_text("# Tea\n\nTea comes from Assam.\n")
    (docs / "coffee.txt").unlink()
    (docs / "maté.txt").write_text("Maté comes from Paraguay.")
    with Corpus.build(docs, place) as now:
        assert (now.report.files_read, now.report.files_removed) == (2, 2)
        assert [passage.id for passage in now] == ["maté.txt#1", "tea.md#1", "deep/cocoa.txt#1"]
        assert len(now) == now.info().passages == 3
        assert now.search("Ethiopia") == now.search("China") == []
        assert now.search("Assam")[0].passage.id == "tea.md#1"
        assert now.fingerprint != before
        assert now.generation > generation
        with Corpus.build(docs, place) as again:
            assert again.report.files_read == again.report.files_removed == 0
            assert (again.generation, again.fingerprint) == (now.generation, now.fingerprint)


def test_info_says_what_there_is(corpus, docs):
    found = corpus.info()
    assert (found.passages, found.files, found.documents, found.skipped) == (3, 3, 3, 0)
    assert found.sources == [str(docs)]
    assert found.kinds[".txt"]["files"] == 2
    assert found.generation == corpus.generation
    assert found.to_json()["fingerprint"] == corpus.fingerprint


def test_what_is_left_out_is_said(docs, place):
    (docs / "half.txt").write_bytes(b"\xff\xfet")
    (docs / "x.bin").write_bytes(b"x")
    with Corpus.build(docs, place) as corpus:
        assert corpus.info().skipped_files == [
            ("half.txt", "binary, not text"), ("x.bin", "not a kind of file that is read"),
        ]  # fmt: skip
        assert corpus.report.files_read == 4  # looked into: all but the last
    os.utime(docs / "half.txt", (1e9, 1e9))  # it is the same, and has no passages beside those of the next
    with Corpus.build(docs, place) as corpus:
        assert corpus.report.files_read == 0
        assert corpus.search("Where does tea come from?")[0].passage.id == "tea.md#1"
        with pytest.raises(CorpusError, match=r"kinds are \.md, \.txt") as told:
            corpus.search("tea", where=Filter(kind="pdf"))
        assert ".bin" not in str(told.value)  # of which there is nothing to be found


def test_ids_are_unique(tmp_path, write_rows, place):
    one = write_rows(tmp_path / "in" / "one.jsonl", [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
    two = write_rows(tmp_path / "in" / "two.jsonl", [{"id": 3, "text": "c"}, {"id": "2", "text": "d"}])
    with pytest.raises(DataError, match=r"two\.jsonl: .* '2' occurs in one\.jsonl"):
        Corpus.build([one, two], place)
    with Corpus.build(tmp_path / "in", place) as corpus:  # in a folder, the file is left out
        assert [passage.id for passage in corpus] == ["1", "2"]
        [(name, reason)] = corpus.info().skipped_files
        assert name == "two.jsonl"
        assert "'2' occurs in one.jsonl already" in reason


def test_ids_may_move_between_files(tmp_path, write_rows, place):
    one, two = tmp_path / "in" / "one.jsonl", tmp_path / "in" / "two.jsonl"
    write_rows(one, [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}])
    write_rows(two, [{"id": 3, "text": "c"}])
    Corpus.build(tmp_path / "in", place).close()
    write_rows(one, [{"id": 3, "text": "a"}])
    write_rows(two, [{"id": 1, "text": "b"}, {"id": 2, "text": "c"}])
    with Corpus.build(tmp_path / "in", place) as corpus:
        assert [(passage.id, passage.text) for passage in corpus] == [("3", "a"), ("1", "b"), ("2", "c")]


def test_a_passage_file_may_be_renamed(tmp_path, write_rows, place):
    one = write_rows(tmp_path / "in" / "one.jsonl", [{"id": 1, "text": "a"}])
    Corpus.build(tmp_path / "in", place).close()
    one.rename(tmp_path / "in" / "two.jsonl")
    with Corpus.build(tmp_path / "in", place) as corpus:
        assert [(passage.id, passage.source) for passage in corpus] == [("1", "two.jsonl")]
        assert corpus.info().skipped_files == []


def test_what_cannot_be_makes_nothing(docs, place):
    for wrong, said in (({"passage_words": 5}, "passages of 5 words can't be"), ({"by": "spark"}, "spark")):
        with pytest.raises(UsageError, match=said):
            Corpus.build(docs, place, **wrong)
    with pytest.raises(CorpusError, match="nowhere"):
        Corpus.build(docs / "nowhere", place)
    with pytest.raises(CorpusError, match=r"does not exist|has no corpus|no corpus is called"):
        Corpus.open(place)


def test_passages_may_be_cut_in_another_way(docs, place):
    (docs / "long.txt").write_text("One sentence of seven words stands here. " * 60)
    Corpus.build(docs, place).close()
    with Corpus.build(docs, place, passage_words=20) as corpus:
        assert corpus.report.files_read == 4
        assert len(corpus) > 20
        assert corpus.info().passage_words == 20
    with Corpus.build(docs, place) as corpus:
        assert corpus.report.files_read == 0


def test_documents_are_read_again_once_a_newer_fidkit_reads_them_otherwise(docs, place, monkeypatch):
    Corpus.build(docs, place).close()
    newer, older = cuts.LOADERS + 1, cuts.LOADERS
    for number, files_read in ((newer, 3), (newer, 0), (older, 0)):
        monkeypatch.setattr(cuts, "LOADERS", number)
        with Corpus.build(docs, place) as corpus:
            assert corpus.report.files_read == files_read


def test_nothing_to_read_is_an_error(tmp_path, place):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "empty.txt").write_text("")
    with pytest.raises(CorpusError, match="found nothing to read"):
        Corpus.build(tmp_path / "docs", place)


def test_it_is_opened_again(corpus, place):
    opened, notes = open_sources(place)
    with closing(opened):
        assert notes == ()
        assert list(opened) == list(corpus)
    with Corpus.open(place) as opened:
        assert opened.search("tea") == corpus.search("tea")


def test_answers_come_with_evidence(corpus, place):
    with Answerer.open(place, "pocket") as qa:
        answer = qa.answer("Where does tea come from?", 3)
    first = max(answer.evidence, key=lambda evidence: evidence.score)
    assert first.passage in list(corpus)
    assert first.where["heading"]


def test_wrong_use_is_said(corpus):
    for question, k, says in (("", 5, "question is empty"), ("tea", 0, "k is 0")):
        with pytest.raises(UsageError, match=says):
            corpus.search(question, k)
