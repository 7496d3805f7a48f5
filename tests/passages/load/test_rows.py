import gzip
import io

import pytest

from fidkit.errors import DataError
from fidkit.passages.load import record
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.rows import Row, read_rows


def read(text: str | bytes, name: str = "p.jsonl") -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_rows(io.BytesIO(gzip.compress(data) if name.endswith(".gz") else data), name))


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_jsonl(name):
    rows = read(
        '{"id": 7, "title": "T", "text": "a", "src": "x"}\n\n{"id": "b", "text": "c"}\n{"text": "d"}', name
    )
    assert [(row.id, row.title, row.text) for row in rows] == [
        ("7", "T", "a"),
        ("b", "", "c"),
        (f"{name}#4", "", "d"),
    ]


def test_a_section_joins_the_title():
    assert read('{"id": 1, "title": "Tea", "section": "History", "text": "x"}')[0].title == "Tea: History"


def test_flashrag_has_title_and_text_in_one():
    rows = read(
        '{"id": "0", "contents": "\\"Tea\\"\\nfirst\\nsecond"}\n{"id": "1", "contents": "", "text": "a"}'
    )
    assert rows == [Row("0", "Tea", "first\nsecond"), Row("1", "", "a")]
    with pytest.raises(DataError, match="non-empty string as text, got ''"):
        read('{"id": "0", "contents": ""}')


def test_rows_as_the_field_s_tools_write_them():
    rows = read(
        '\ufeff{"id": "d1", "contents": "Pyserini, one line"}\n{"_id": "b7", "title": "BEIR", "text": "x"}'
    )
    assert rows == [Row("d1", "", "Pyserini, one line"), Row("b7", "BEIR", "x")]
    # Some rows of BEIR's corpora are a title alone.
    assert read('{"_id": "b8", "title": "Tea", "text": " "}') == [Row("b8", "", "Tea")]
    assert read("id\ttext\ttitle\n1\t\tT\n", "p.tsv") == [Row("1", "", "T")]
    assert read("\ufeffid\ttext\ttitle\r\n1\ta\tT\r\n", "p.tsv") == [Row("1", "T", "a")]


@pytest.mark.parametrize("name", ["P.TSV", "P.Tsv.GZ", "p.tsv.gz"])
def test_endings_in_any_case(name):
    data = b"id\ttext\ttitle\n1\ta\tT\n"
    packed = gzip.compress(data) if name.lower().endswith(".gz") else data
    assert list(read_rows(io.BytesIO(packed), name)) == [Row("1", "T", "a")]


def test_a_packed_document_has_the_title_of_its_name():
    assert next(read_rows(io.BytesIO(gzip.compress(b"words")), "n/tea.TXT.gz")).title == "tea"


@pytest.mark.parametrize("last", ["", "\n", "\n3\tc\tC\n"])
@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"Hello', '"Hello'),
        ('"Tea" is good', '"Tea" is good'),
        ('"', '"'),
        ('"whole"', "whole"),
        ('say "tea"', 'say "tea"'),
    ],
)
def test_a_stray_quote_swallows_no_row(cell, text, last):
    rows = read(f'id\ttext\ttitle\n1\t{cell}\tT\n2\tWorld"\tU{last}', "p.tsv")
    assert rows[:2] == [Row("1", "T", text), Row("2", "U", 'World"')]
    assert len(rows) == 2 + last.count("3")


def test_the_file_stays_open(tmp_path):
    for name in ("p.tsv", "p.jsonl", "p.txt"):
        raw = io.BytesIO(b"id\ttext\ttitle\n1\ta\tT\n" if name == "p.tsv" else b'{"text": "a"}')
        list(read_rows(raw, name))
        assert raw.tell() > 0


def test_an_object_nested_too_deep_is_a_malformed_line():
    with pytest.raises(DataError, match=r"p\.jsonl, line 1: expected one JSON object"):
        read("[" * 200_000)


@pytest.mark.parametrize("name", ["psgs.tsv", "psgs.tsv.gz"])
def test_dpr_tsv(name):
    rows = read('id\ttext\ttitle\n1\t"He said ""tea""\tand\nleft"\tTea\n2\tplain\t"A ""B"""\n', name)
    assert rows == [Row("1", "Tea", 'He said "tea"\tand\nleft'), Row("2", 'A "B"', "plain")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": 1, "text": "a"}\n{"id": 2, "te', "line 2"),
        (
            '{"id": 1, "title": "no text"}',
            "line 1: expected a passage with a non-empty string as text, got none",
        ),
        ('{"id": 1, "text": " "}', "line 1"),
        ('{"id": 1, "title": " ", "text": ""}', "line 1"),
        ('{"id": 1, "title": 5, "text": ""}', "line 1"),
        ('{"id": 1, "text": ["a"]}', "line 1"),
        ('{"id": 1.5, "text": "a"}', "as id, got 1.5"),
        ('{"id": true, "text": "a"}', "as id, got True"),
        ('{"id": 1, "text": "a", "title": 5}', "line 1"),
        ("[1, 2]", "got list"),
        ('{"text": "\\ud800 half"}', "line 1: expected whole characters"),
        (b'{"text": "caf\xe9"}', "line 1"),
    ],
)
def test_a_malformed_row_names_file_and_line(text, says):
    with pytest.raises(DataError) as caught:
        read(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("p.jsonl, line ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("text\ttitle\na\tb\n", "line 1: expected the header"), ("id\ttext\ttitle\n1\ta\tb\n2\ta\n", "line 3")],
)
def test_a_malformed_table_names_file_and_line(text, says):
    with pytest.raises(DataError, match=says):
        read(text, "psgs.tsv")


def test_a_broken_archive_is_said():
    whole = gzip.compress(b'{"text": "a"}\n' * 1000)
    for data in (whole[: len(whole) // 2], b"no gzip at all"):
        with pytest.raises(DataError, match=r"p\.jsonl\.gz: expected a whole gzip file"):
            list(read_rows(io.BytesIO(data), "p.jsonl.gz"))


@pytest.mark.parametrize(("name", "line"), [("a.jsonl", b'{"text": "%b"}\n'), ("a.tsv", b"1\t%b\tt\n")])
def test_a_line_longer_than_any_passage_is_refused(monkeypatch, name, line):
    monkeypatch.setattr(record, "MOST_LINE", 100)
    head = b"id\ttext\ttitle\n" if name == "a.tsv" else b""
    assert len(list(read_rows(io.BytesIO(head + line % (b"x" * 80)), name))) == 1
    with pytest.raises(
        UnreadableFile, match=r"line 2: expected a passage on a line, got a line of more than"
    ):
        list(read_rows(io.BytesIO((head or line % b"x") + line % (b"x" * 200)), name))
