import pytest

from documents import blocks, one, packed, pandoc, place, texts
from fidkit.passages.load.record import UnreadableFile

NAMES = " ".join(
    f'xmlns:{room}="urn:oasis:names:tc:opendocument:xmlns:{full}:1.0"'
    for room, full in [("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing")]
)


def text(inner: str, **members: str) -> bytes:
    content = (
        f"<office:document-content {NAMES}><office:body><office:text>{inner}</office:text></office:body>"
    )
    return packed({"content.xml": content + "</office:document-content>", **members})


def test_a_text_as_pandoc_writes_it():
    document = one(pandoc("odt"), "a.odt")
    assert (document.title, document.facts["author"]) == ("The Harbour", "Ada Berg")
    assert blocks(document)[2:6] == [
        ("heading", "Ships"),
        ("paragraph", "The Aurora sailed in 1901.[1] See the list."),
        ("item", "first thing"),
        ("item", "second thing"),
    ]
    assert ("row", "Ship: Aurora | Masts: 3 | Built: 1901") in blocks(document)
    assert ("paragraph", "[1] She was rebuilt in 1910.") in blocks(document)
    assert place(document, "heading", "Storms") == "Storms\n\nA storm came."
    assert place(document, "heading", "Masts").startswith("Masts\n\nShip | Masts | Built\n")


def test_spaces_boxes_changes_and_remarks():
    box = "<draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box></draw:frame>"
    inner = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>old</text:p></text:deletion>"
        "</text:changed-region></text:tracked-changes>"
        f'<text:p>a<text:s text:c="2"/>b<text:tab/>c<text:line-break/>d{box}</text:p>'
        "<text:p>e<office:annotation><text:p>remark</text:p></office:annotation></text:p>"
    )
    document = one(text(inner), "a.odt")
    assert texts(document) == ["a  b\tc\nd", "boxed", "e"]
    assert document.notes == (
        "text that was deleted while changes were tracked is left out",
        "1 comment is left out",
    )


def test_a_cell_that_spans_rows_stands_in_each():
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
    rows = [
        cell.format("", "Port") + cell.format("", "Ship"),
        cell.format(' table:number-rows-spanned="2"', "Kiel") + cell.format("", "Aurora"),
        "<table:covered-table-cell/>" + cell.format("", "Borealis"),
    ]
    table = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    assert texts(one(text(f"<table:table>{table}</table:table>"), "a.odt")) == [
        "Port | Ship",
        "Port: Kiel | Ship: Aurora",
        "Port: Kiel | Ship: Borealis",
    ]


def test_a_password_is_named():
    manifest = '<m:manifest xmlns:m="urn:m"><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>'
    with pytest.raises(UnreadableFile, match="needs a password; save it without"):
        one(text("", **{"META-INF/manifest.xml": manifest}), "a.odt")
