import pytest

from documents import blocks, office, one, opendocument_slides, packed, place, presentation, texts
from fidkit.passages.load.record import UnreadableFile


def box(text: str, left: str, top: str, more: str = "") -> str:
    at = f'svg:x="{left}" svg:y="{top}" svg:height="1cm" {more}'
    return f"<draw:frame {at}><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"


def test_slides_as_libreoffice_writes_them(tmp_path):
    document = one(office(presentation(), "a.pptx", "odp", tmp_path), "a.odp")
    found = blocks(document)
    assert found[:9] == [
        ("heading", "First"),
        ("item", "bullet a"),
        ("item", "bullet b"),
        ("paragraph", "left"),
        ("paragraph", "right"),
        ("paragraph", "upper in a group"),
        ("paragraph", "lower in a group"),
        ("paragraph", "Notes: say hello"),
        ("paragraph", "and bye"),
    ]
    assert found[9:13] == [
        ("heading", "Numbers"),
        ("row", "Port | Masts"),
        ("row", "Port: Kiel | Masts: 3"),
        ("row", "Port: Kiel | Masts: 4"),
    ]
    assert found[13:] == [
        ("paragraph", "Growth"),
        ("row", "Kiel | Ulm"),
        ("row", "2023 | Kiel: 1.5 | Ulm: 3"),
        ("row", "2024 | Kiel: 2 | Ulm: 4"),
    ]
    assert document.title == "Ports"
    assert document.notes == ("hidden slides are read like the others: 2",)
    assert place(document, "slide", "1").endswith("Notes: say hello\n\nand bye")
    assert place(document, "slide", "2").startswith("Numbers\n\nPort | Masts\n")


def test_shapes_are_read_in_order_whatever_their_units():
    turned = 'draw:transform="rotate (1.57) translate (1cm 9cm)"'
    group = f"<draw:g>{box('d', '9cm', '6cm')}{box('c', '1cm', '5cm')}</draw:g>"
    last = box("last", "0cm", "0cm", turned).replace('svg:x="0cm" svg:y="0cm"', "")
    first = box("1", "0cm", "0cm", 'presentation:class="footer"')
    shown = [last, group, box("b", "2in", "10mm"), box("a", "30mm", "1.1cm"), first]
    document = one(opendocument_slides("".join(shown)), "a.odp")
    assert texts(document) == ["1", "a", "b", "c", "d", "last"]
    assert blocks(document)[0][0] == "repeated"


def test_what_is_left_out_is_said():
    picture = "<draw:frame><draw:image/></draw:frame>"
    remark = "<office:annotation><text:p>hm</text:p></office:annotation>"
    document = one(opendocument_slides(picture, box("text", "0cm", "0cm") + remark), "a.odp")
    assert document.text.strip() == "text"
    assert document.notes == ("slide 1 has no text; it may be a picture", "comments are left out")


def test_another_file_is_refused():
    with pytest.raises(UnreadableFile, match="expected an OpenDocument presentation, got another kind"):
        one(packed({"content.xml": "<a/>"}), "a.odp")
