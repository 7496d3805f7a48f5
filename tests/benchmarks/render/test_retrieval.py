"""Tables of search by words, by meaning and by both."""

from render import retrieval

ABOUT = {"threads": 2, "hardware": {"cpu": "a CPU"}, "command": "python it"}


def row(name: str, **ways: float) -> dict:
    recall = {"words": 0.0, "meaning": 0.0} | ways | {"both, 0.5": 50.0, "both, by rank": 7.0}
    recall = {way: {"5": share, "20": share + 1} for way, share in recall.items()}
    return {"of": "recall", "set": name, "n": 300, "passages": 23_000, "recall": recall, **ABOUT}


def test_recall_by_set_and_depth() -> None:
    rows = [row("a", words=1.0), row("b", words=2.0), row("a", words=3.0, meaning=4.0)]
    head, _, a, b, _, about = retrieval.recall(rows).splitlines()
    assert head == "|  | words, 5 | meaning, 5 | both, 5 | words, 20 | meaning, 20 | both, 20 |"
    assert a == "| a | 3.0 | 4.0 | 50.0 | 4.0 | 5.0 | 51.0 |"  # the newest of two
    assert b.startswith("| b | 2.0 | 0.0 |")
    assert "300 questions of each set" in about
    assert "23,000 passages" in about


def test_ways_to_mix_and_the_folder() -> None:
    folder = {**row("", words=9.0), "of": "folder", "n": 70, "passages": 103}
    head, _, a, five, twenty, _, about = retrieval.mixes([row("a"), folder]).splitlines()
    assert head == "| recall | words | meaning | both, 0.5 | both, by rank |"
    assert a == "| a at 20 | 1.0 | 1.0 | 51.0 | 8.0 |"
    assert five == "| a folder at 5 | 9.0 | 0.0 | 50.0 | 7.0 |"
    assert twenty.startswith("| a folder at 20 | 10.0 |")
    assert "70 questions, 103 passages" in about
    assert "folder" not in retrieval.mixes([row("a")])


def test_speed_and_bytes() -> None:
    times = {way: {"median": 1.25, "p95": 2.0} for way in ("words", "both, 0.5")}
    measured = {
        "of": "speed", "passages": 100, "milliseconds": times, "question_ms": 3.0, "scan_ms": 0.5,
        "encoded_a_second": 41.4, "bytes": {"lexical-1": 20_000, "vectors-1": 48_000}, **ABOUT,
    }  # fmt: skip
    _, _, words, both, question, scanned, _, about = retrieval.speed([measured]).splitlines()
    assert words == "| by words | 1.2 | 2.0 |"
    assert both.startswith("| by both | ")
    assert (question, scanned) == (
        "| the question encoded | 3.0 |  |",
        "| its vector searched for | 0.5 |  |",
    )
    assert "41 passages are encoded a second; one takes 200 bytes in the lexical index and 480 as" in about


def test_scans_beside_faiss() -> None:
    rows = [
        {"of": "scan", "passages": n, "questions": q, "found": 1000, "ours_ms": 2.0, "faiss_ms": m, **ABOUT}
        for n, q, m in ((1000, 16, 1.0), (1000, 1, 1.5), (1000, 16, 0.5))
    ]
    _, _, one, many, _, about = retrieval.scans(rows).splitlines()
    assert (one, many) == ("| 1,000 | 1 | 2.00 | 1.50 |", "| 1,000 | 16 | 2.00 | 0.50 |")
    assert "nearest 1,000" in about


def test_without_rows() -> None:
    for table, _ in retrieval.TABLES.values():
        assert table([]) == retrieval.NOTHING


def test_answers_by_words_and_by_both() -> None:
    def answered(name: str, by: str, em: float) -> dict:
        marks = {"em": em, "forced_em": em + 1, "forced_f1": em + 2, "recall": {"1": 0.5, "20": em + 3}}
        about = {"of": "answers", "n": 200, "passages": 20, "corpus_passages": 325_076, "reader": "pocket"}
        return {"set": name, "by": by, **marks, **about, **ABOUT}

    rows = [answered("a", "words", 1.0), answered("a", "both", 5.0), answered("a", "words", 10.0)]
    rows += [answered("b", "words", 20.0), answered("b", "both", 25.0)]
    head, _, a, _, mean, _, about = retrieval.answers(rows).splitlines()
    assert head.startswith("|  | recall, words | recall, both | EM, words | EM, both |")
    assert a == "| a | 13.0 | 8.0 | 11.0 | 6.0 | 12.0 | 7.0 | 10.0 | 5.0 |"
    assert mean == "| mean | 18.0 | 18.0 | 16.0 | 16.0 | 17.0 | 17.0 | 15.0 | 15.0 |"
    assert "200 questions of each set, 20 passages of 325,076 each" in about
