import pytest

from documents import blocks, one, packed, pandoc, place, texts, unpacked
from fidkit.passages.load.record import UnreadableFile

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/b.opf"/></rootfiles></container>'
PAGE = '<item id="{0}" href="{0}.xhtml" media-type="application/xhtml+xml"/>'


def book(pages: dict[str, str], points: str = "", more: dict[str, str] | None = None) -> bytes:
    """A book of EPUB 2, with pages by name, in order, and a table of contents."""
    manifest = "".join(PAGE.format(name) for name in pages)
    spine = "".join(f'<itemref idref="{name}"/>' for name in pages)
    root = (
        '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>B</dc:title><dc:creator>Ada'
        "</dc:creator><dc:creator>Bo</dc:creator><dc:language>de</dc:language><dc:date>1901</dc:date></metadata>"
        f'<manifest>{manifest}<item id="ncx" href="toc.ncx"/></manifest>'
        f'<spine toc="ncx">{spine}</spine></package>'
    )
    members = {f"OEBPS/{name}.xhtml": f"<html><body>{body}</body></html>" for name, body in pages.items()}
    ncx = f"<ncx><navMap>{points}</navMap></ncx>"
    return packed({"META-INF/container.xml": CONTAINER, "OEBPS/b.opf": root, "OEBPS/toc.ncx": ncx, **members,
                   **(more or {})})  # fmt: skip


def point(label: str, target: str, inner: str = "") -> str:
    return f'<navPoint><navLabel><text>{label}</text></navLabel><content src="{target}"/>{inner}</navPoint>'


def test_a_book_as_pandoc_writes_it():
    document = one(pandoc("epub"), "a.epub")
    assert (document.title, document.facts["author"]) == ("The Harbour", "Ada Berg")
    assert ("paragraph", "The Aurora sailed in 1901.[1] See the list.") in blocks(document)
    assert ("item", "She was rebuilt in 1910.") in blocks(document)
    ships = place(document, "chapter", "Ships")  # the chapter below it included
    assert ships.startswith("Ships\n\nThe Aurora")
    assert "Masts: 4 | Built: 1911" in ships
    assert place(document, "chapter", "Storms") == "Storms\n\nA storm came."
    masts = place(document, "chapter", "Masts")
    assert masts.startswith("Masts\n\nShip | Masts | Built\nShip: Aurora | Masts: 3 | Built: 1901\n")
    assert [block.level for block in document.blocks if block.kind == "heading"][-3:] == [1, 2, 1]


def test_chapters_within_a_page_and_in_one_another():
    pages = {
        "a": '<h1>One</h1><p>first &eacute;</p><p>before <a id="x"/>after</p><h2 id="two">Two</h2>'
        "<p>second</p>",
        "b": "<p>goes on</p>",
        "c": "<h1>Three</h1>",
    }
    points = (
        point("I", "a.xhtml", point("I.2", "a.xhtml#two")) + point("X", "a.xhtml#x") + point("III", "c.xhtml")
    )
    document = one(book(pages, points), "a.epub")
    assert texts(document) == ["One", "first é", "before after", "Two", "second", "goes on", "Three"]
    assert place(document, "chapter", "I.2") == "Two\n\nsecond\n\ngoes on"
    assert place(document, "chapter", "III") == "Three"
    assert place(document, "chapter", "I") == "One\n\nfirst é\n\nbefore after"
    assert document.facts == {"author": "Ada, Bo", "date": "1901", "language": "de"}


def test_a_chapter_holds_those_of_a_lower_level():
    page = {"a": '<h1>One</h1><p>first</p><h2 id="two">Two</h2><p>second</p>', "b": "<h1>Three</h1>"}
    points = point("I", "a.xhtml", point("I.1", "a.xhtml#two")) + point("II", "b.xhtml")
    document = one(book(page, points), "a.epub")
    assert place(document, "chapter", "I") == "One\n\nfirst\n\nTwo\n\nsecond"
    assert place(document, "chapter", "I.1") == "Two\n\nsecond"


def test_blocks_of_html():
    html = (
        "<div>loose <b>text</b><p>a<br/>b</p></div><ol><li><p>x</p></li><li>y</li></ol><pre>c\n  d</pre>"
        "<table><tr><th>Ship</th><th>Built</th></tr><tr><td rowspan='2'>Aurora</td><td>1901</td></tr>"
        "<tr><td>1910</td></tr></table><script>no</script><p>e<ruby>f<rt>g</rt></ruby></p>tail"
    )
    assert blocks(one(book({"a": html}), "a.epub")) == [
        ("paragraph", "loose text"),
        ("paragraph", "a\nb"),
        ("item", "x"),
        ("item", "y"),
        ("code", "c\n  d"),
        ("row", "Ship | Built"),
        ("row", "Ship: Aurora | Built: 1901"),
        ("row", "Ship: Aurora | Built: 1910"),
        ("paragraph", "ef"),
        ("paragraph", "tail"),
    ]


def test_a_page_that_is_not_well_formed_is_read_as_html():
    assert texts(one(book({"a": "<p>one<p>two <b>three"}), "a.epub")) == ["one", "two three"]


def test_a_missing_page_is_said_and_the_rest_is_read():
    members = unpacked(book({"a": "<p>x</p>", "b": "<p>y</p>"}))
    del members["OEBPS/a.xhtml"]
    document = one(packed(members), "a.epub")
    assert texts(document) == ["y"]
    assert document.notes == ("OEBPS/a.xhtml is missing in the book",)


def test_protection_against_copying_is_named():
    method = '<e><EncryptedData><EncryptionMethod Algorithm="{}"/></EncryptedData></e>'
    fonts = method.format("http://www.idpf.org/2008/embedding")
    assert texts(one(book({"a": "<p>x</p>"}, more={"META-INF/encryption.xml": fonts}), "a.epub")) == ["x"]
    with pytest.raises(UnreadableFile, match="protected against copying"):
        one(book({"a": "<p>x</p>"}, more={"META-INF/encryption.xml": method.format("aes")}), "a.epub")
