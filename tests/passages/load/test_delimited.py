import pytest

from documents import one, place, texts
from fidkit.passages.load.record import UnreadableFile


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    lines = ["id;name;note", "1;Ada;a, b", "2;Béa;c", "3;Cy;d"]
    document = one("\n".join(lines).replace(";", delimiter).replace("a, b", "a b").encode(), "a.csv")
    assert texts(document)[1:] == ["id: 1 | name: Ada | note: a b", "id: 2 | name: Béa | note: c",
                                   "id: 3 | name: Cy | note: d"]  # fmt: skip


def test_quotes_empty_lines_and_the_line_that_excel_writes():
    document = one(b'sep=;\nName;Age\nAda;36\n"Bob\nB";7\n\nCy;"a ""q"" b"\n', "a.csv")
    assert texts(document) == [
        "Name | Age",
        "Name: Ada | Age: 36",
        "Name: Bob B | Age: 7",
        'Name: Cy | Age: a "q" b',
    ]
    assert place(document, "row", "4") == "Name: Bob B | Age: 7"
    assert place(document, "row", "6") == 'Name: Cy | Age: a "q" b'
    assert {found.kind for found in document.places} == {"row"}


def test_a_quote_that_is_never_closed_opens_nothing():
    assert texts(one(b'a\tb\n"x\t1\ny\t2\n', "a.tsv")) == ["a | b", 'a: "x | b: 1', "a: y | b: 2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding):
    assert texts(one("Straße,Nr\nÖlweg,3\n".encode(encoding), "a.csv"))[1] == "Straße: Ölweg | Nr: 3"


def test_a_binary_file_is_refused():
    with pytest.raises(UnreadableFile, match="binary, not text"):
        one(b"a,b\0\1\n", "a.csv")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"sep=\xc3\xa9\na,b\n", b"one line", b'"'])
def test_odd_tables(data):
    assert one(data, "a.csv").title == ""
