import io

import pytest
from documents import blocks, office, one, place
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches


def box(shapes, text: str, left: float, top: float) -> None:
    shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(0.5)).text_frame.text = text


@pytest.fixture(scope="module")
def deck() -> bytes:
    made = Presentation()
    made.core_properties.title, made.core_properties.author = "Ports", "Ada"
    slide = made.slides.add_slide(made.slide_layouts[1])
    box(slide.shapes, "right", 6, 5)
    box(slide.shapes, "left", 1, 5.1)
    title = slide.shapes.title
    title.text, title.left, title.top, title.width, title.height = "First", 0, Inches(6), Inches(1), Inches(1)
    slide.placeholders[1].text = "bullet a\nbullet b"
    group = slide.shapes.add_group_shape()
    box(group.shapes, "lower in a group", 1, 6.4)
    box(group.shapes, "upper in a group", 1, 5.8)
    slide.notes_slide.notes_text_frame.text = "say hello\nand bye"
    slide = made.slides.add_slide(made.slide_layouts[5])
    slide.shapes.title.text = "Numbers"
    slide._element.set("show", "0")
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(4), Inches(2)).table
    for at, row in enumerate([["Port", "Masts"], ["Kiel", "3"], ["", "4"]]):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    data = CategoryChartData()
    data.categories = ["2023", "2024"]
    data.add_series("Kiel", (1.5, 2))
    data.add_series("Ulm", (3, 4))
    where = Inches(1), Inches(5), Inches(4), Inches(2)
    chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *where, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Growth"
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


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
