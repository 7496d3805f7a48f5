import io

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from documents import MARKDOWN, blocks, office, one, pandoc, place, texts
from fidkit.passages.load.record import UnreadableFile

BOX = """<w:p {} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"
xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"><w:r><w:t>anchor</w:t></w:r><w:r>
<mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx><w:txbxContent><w:p><w:r><w:t>boxed</w:t>
</w:r></w:p></w:txbxContent></wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:t>stale</w:t><w:pict><w:txbxContent><w:p><w:r><w:t>boxed
</w:t></w:r></w:p></w:txbxContent></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"""


def saved(document) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def add(parent, xml: str) -> None:
    parent.append(parse_xml(xml.format(nsdecls("w"))))


def test_headings_items_and_footnotes_as_pandoc_writes_them():
    document = one(pandoc("docx"), "a.docx")
    assert document.title == "The Harbour"
    assert document.facts["author"] == "Ada Berg"
    assert document.facts["date"].startswith("20")
    assert document.facts["language"] == "en"
    assert blocks(document)[2:6] == [
        ("heading", "Ships"),
        ("paragraph", "The Aurora sailed in 1901.[1] See the list."),
        ("item", "first thing"),
        ("item", "second thing"),
    ]
    assert texts(document)[-1] == "[1] She was rebuilt in 1910."
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 1, 2, 1]


def test_a_heading_is_a_place_with_what_stands_under_it():
    document = one(pandoc("docx"), "a.docx")
    masts = "Masts\n\nShip | Masts | Built\nShip: Aurora | Masts: 3 | Built: 1901\n"
    assert place(document, "heading", "Masts") == masts + "Ship: Borealis | Masts: 4 | Built: 1911"
    assert place(document, "heading", "Ships").endswith("Built: 1911")
    assert place(document, "heading", "Storms") == "Storms\n\nA storm came."


def test_what_was_deleted_is_left_out_and_what_was_inserted_is_read():
    made = docx.Document()
    paragraph = made.add_paragraph("see ")
    add(
        paragraph._p,
        '<w:ins {} w:id="1" w:author="x"><w:r><w:t xml:space="preserve">new </w:t></w:r></w:ins>',
    )
    add(paragraph._p, '<w:del {} w:id="2" w:author="x"><w:r><w:delText>old</w:delText></w:r></w:del>')
    for tag in ("del", "moveFrom"):
        add(paragraph._p, f"<w:{tag} {{}}><w:r><w:t>gone</w:t></w:r></w:{tag}>")
    add(paragraph._p, "<w:hyperlink {}><w:r><w:t>link</w:t></w:r></w:hyperlink>")
    made.add_comment(paragraph.runs[0], "a remark", "x")
    document = one(saved(made), "a.docx")
    assert texts(document) == ["see new link"]
    assert document.notes == (
        "text that was deleted while changes were tracked is left out",
        "1 comment is left out",
    )


def test_boxes_controls_and_what_pages_repeat():
    made = docx.Document()
    made.add_paragraph("first")
    for xml in (
        BOX,
        "<w:sdt {}><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>",
    ):
        made.element.body.insert(-1, parse_xml(xml.format(nsdecls("w"))))
    made.sections[0].header.paragraphs[0].text = "at the top"
    made.sections[0].footer.paragraphs[0].text = "at the bottom"
    assert blocks(one(saved(made), "a.docx")) == [
        ("repeated", "at the top"),
        ("paragraph", "first"),
        ("paragraph", "anchor"),
        ("paragraph", "boxed"),
        ("paragraph", "controlled"),
        ("repeated", "at the bottom"),
    ]


def test_a_cell_that_spans_rows_stands_in_each():
    made = docx.Document()
    table = made.add_table(3, 3)
    for at, row in enumerate([["Port", "Ship", "Masts"], ["Kiel", "Aurora", "3"], ["", "Borealis", "4"]]):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    assert blocks(one(saved(made), "a.docx")) == [
        ("row", "Port | Ship | Masts"),
        ("row", "Port: Kiel | Ship: Aurora | Masts: 3"),
        ("row", "Port: Kiel | Ship: Borealis | Masts: 4"),
    ]


def test_a_style_of_a_person_s_own_is_a_heading_by_what_it_is_based_on():
    made = docx.Document()
    style = made.styles.add_style("Mine", 1)
    style.base_style = made.styles["Heading 2"]
    made.add_paragraph("Masts", style="Mine")
    made.add_paragraph("an item", style="List Bullet")
    document = one(saved(made), "a.docx")
    assert blocks(document) == [("heading", "Masts"), ("item", "an item")]
    assert document.blocks[0].level == 2
    assert document.title == "Masts"


@pytest.mark.slow
def test_as_libreoffice_writes_it(tmp_path):
    document = one(office(pandoc("odt", MARKDOWN), "a.odt", "docx", tmp_path), "a.docx")
    assert ("paragraph", "The Aurora sailed in 1901.[1] See the list.") in blocks(document)
    assert ("row", "Ship: Aurora | Masts: 3 | Built: 1901") in blocks(document)
    assert place(document, "heading", "Storms") == "Storms\n\nA storm came."


def test_an_older_file_and_one_with_a_password():
    old = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
    with pytest.raises(UnreadableFile, match=r"older kind \(as \.doc is\); save it in today's format"):
        one(old, "a.docx")
    with pytest.raises(UnreadableFile, match="needs a password; save it without"):
        one(old + "EncryptedPackage".encode("utf-16-le"), "a.docx")
