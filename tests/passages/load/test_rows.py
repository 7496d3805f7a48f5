import gzip
import io

import pytest

from fidkit.errors import DataError
from fidkit.passages.load.rows import Row, read_passages


def read(text: str | bytes, name: str = "p.jsonl") -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_passages(io.BytesIO(gzip.compress(data) if name.endswith(".gz") else data), name))


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
    with pytest.raises(DataError, match="non-empty string as text"):
        read('{"id": "0", "contents": "no text"}')


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
            list(read_passages(io.BytesIO(data), "p.jsonl.gz"))
