import io

import pytest
from pptx import Presentation

from documents import blocks, office, one, place, presentation


@pytest.fixture(scope="module")
def deck() -> bytes:
    return presentation()


EXPECTED = [
    ("heading", "First"),
    ("item", "bullet a"),
    ("item", "bullet b"),
    ("paragraph", "left"),
    ("paragraph", "right"),
    ("paragraph", "upper in a group"),
    ("paragraph", "lower in a group"),
    ("paragraph", "Notes: say hello"),
    ("paragraph", "and bye"),
    ("heading", "Numbers"),
    ("row", "Port | Masts"),
    ("row", "Port: Kiel | Masts: 3"),
    ("row", "Port: Kiel | Masts: 4"),
    ("paragraph", "Growth"),
    ("row", "Kiel | Ulm"),
    ("row", "2023 | Kiel: 1.5 | Ulm: 3"),
    ("row", "2024 | Kiel: 2 | Ulm: 4"),
]


def test_shapes_from_top_to_bottom_and_left_to_right(deck):
    document = one(deck, "a.pptx")
    assert blocks(document) == EXPECTED
    assert (document.title, document.facts["author"]) == ("Ports", "Ada")
    assert document.notes == ("hidden slides are read like the others: 2",)


def test_slides_are_places(deck):
    document = one(deck, "a.pptx")
    assert place(document, "slide", "1").startswith("First\n\nbullet a\nbullet b\n")
    assert place(document, "slide", "1").endswith("Notes: say hello\n\nand bye")
    assert place(document, "slide", "2").startswith("Numbers\n\nPort | Masts\n")
    assert len(document.places) == 2


def test_a_slide_that_is_a_picture_is_said():
    from PIL import Image

    made, picture, stream = Presentation(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    made.slides.add_slide(made.slide_layouts[6]).shapes.add_picture(picture, 0, 0)
    made.save(stream)
    document = one(stream.getvalue(), "a.pptx")
    assert document.notes == ("slide 1 has no text; it may be a picture",)
    assert document.text == ""


@pytest.mark.slow
def test_as_libreoffice_writes_it(deck, tmp_path):
    document = one(office(deck, "a.pptx", "pptx", tmp_path), "a.pptx")
    assert blocks(document) == EXPECTED
    assert document.notes == ("hidden slides are read like the others: 2",)
