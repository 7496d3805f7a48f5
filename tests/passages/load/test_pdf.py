"""PDF files, made by reportlab and LibreOffice, read back: text, order, places and rectangles."""

import io
import random
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from fidkit.errors import UsageError
from fidkit.passages.load.document import Box, Document
from fidkit.passages.load.pdf import page_picture, read_pdf
from fidkit.passages.load.record import UnreadableFile

pytest.importorskip("pypdfium2")
canvas = pytest.importorskip("reportlab.pdfgen.canvas")

WIDTH, HEIGHT = 595.0, 842.0
SIZE = 10
NAMES = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll"]


def prose(seed: int, words: int) -> list[str]:
    """Words of sentences of ten; no two alike, so that their order can be compared."""
    draw = random.Random(seed)
    found = [f"{draw.choice(NAMES)}{letters(seed * 10_000 + at)}" for at in range(words)]
    for at in range(0, words, 10):
        found[at] = found[at].capitalize()
        found[min(at + 9, words - 1)] += "."
    return found


def letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def made(draw, **options) -> bytes:
    """A PDF of what `draw` does with reportlab's canvas."""
    stream = io.BytesIO()
    page = canvas.Canvas(stream, **{"pagesize": (WIDTH, HEIGHT), **options})
    page.setFont("Helvetica", SIZE)
    draw(page)
    page.save()
    return stream.getvalue()


def pages_of(*pages, **options) -> bytes:
    """A PDF with a page for each function."""

    def draw(page):
        for each in pages:
            page.setFont("Helvetica", SIZE)
            each(page)
            page.showPage()

    return made(draw, **options)


def written(page, lines, x=50.0, y=700.0, lead=13.0):
    for at, line in enumerate(lines):
        page.drawString(x, y - at * lead, line)


def filled(words, width=230.0):
    from reportlab.lib.utils import simpleSplit

    return simpleSplit(" ".join(words), "Helvetica", SIZE, width)


def read(content: bytes, name="a.pdf") -> Document:
    (document,) = read_pdf(io.BytesIO(content), name)
    check(document)
    return document


def check(document: Document) -> None:
    """What holds of every document: blocks hold all text, boxes hold all words, in order."""
    at = 0
    for block in document.blocks:
        assert at <= block.start < block.end
        assert not document.text[at : block.start].strip()
        at = block.end
    assert not document.text[at:].strip()
    at = 0
    for box in document.boxes:
        assert box.start < box.end
        assert not document.text[at : box.start].strip()
        assert not re.search(r"\s", document.text[box.start : box.end])
        assert any(
            place.start <= box.start < place.end for place in document.places if place.label == str(box.page)
        )
        at = box.end
    assert not document.text[at:].strip()
    assert [box.start for box in document.boxes] == sorted(box.start for box in document.boxes)


def kinds(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


# Rectangles


def turned(x, y, quarters, crop):
    """A point of reportlab's as one from the upper left corner of the page as shown."""
    left, bottom, right, top = crop
    return [(x - left, top - y), (y - bottom, x - left), (right - x, y - bottom), (top - y, right - x)][
        quarters
    ]


@pytest.mark.parametrize("crop", [(0, 0, 700, 700), (20, 30, 590, 680)])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_each_word_has_its_rectangle_on_its_page(quarters, crop):
    from reportlab.pdfbase.pdfmetrics import stringWidth

    draw = random.Random(quarters)
    sentences = [" ".join(prose(at, 8)) for at in range(50)]
    put: dict[str, tuple[int, float, float]] = {}

    def page_with(number):
        def page(page):
            page.setCropBox((crop[0], crop[1], crop[2], crop[3]))
            page.setPageRotation(90 * quarters)
            for at, sentence in enumerate(sentences[number * 10 : number * 10 + 10]):
                x, y = draw.uniform(30, 60), 650 - 60 * at - draw.uniform(0, 20)
                put[sentence] = number + 1, x, y
                page.drawString(x, y, sentence)

        return page

    document = read(pages_of(*map(page_with, range(5)), pagesize=(700, 700)))
    for sentence, (number, x, y) in put.items():
        begin = document.text.index(sentence)
        for word in re.finditer(r"\S+", sentence):
            start = begin + word.start()
            (box,) = [box for box in document.boxes if box.start <= start < box.end]
            assert document.text[box.start : box.end] == word.group()
            left = x + stringWidth(sentence[: word.start()], "Helvetica", SIZE)
            right = left + stringWidth(word.group(), "Helvetica", SIZE)
            ends = [turned(left, y - 2.2, quarters, crop), turned(right, y + 9.2, quarters, crop)]
            (x1, x2), (y1, y2) = (sorted(axis) for axis in zip(*ends, strict=True))
            assert box.page == number
            assert (box.left, box.top, box.right, box.bottom) == pytest.approx((x1, y1, x2, y2), abs=0.6)


def test_a_word_parted_by_a_line_is_whole_and_has_two_rectangles():
    lines = [
        "Here is the infor-",
        "mation of a well-",
        "known and a quick-",
        "witted man, who is well-known.",
        "In 2019-",
    ]
    document = read(pages_of(lambda page: written(page, [*lines, "2020 it was", "an office."])))
    assert "the information of a well-known and a quickwitted man" in document.text
    assert "2019-2020" in document.text
    start = document.text.index("information")
    parts = [document.text[box.start : box.end] for box in document.boxes if start <= box.start < start + 11]
    assert parts == ["infor", "mation"]


def test_hyphens_of_narrow_lines_and_of_words_that_are_whole_elsewhere():
    lines = ["in-", "formation and some-", "thing: some like something, a thing"]
    assert read(pages_of(lambda page: written(page, lines))).text.startswith(
        "information and something: some like"
    )


def test_text_turned_to_its_side_is_read_and_stands_where_it_is_drawn():
    def draw(page):
        written(page, filled(prose(1, 60)))
        page.translate(20, 300)
        page.rotate(90)
        page.drawString(0, 0, "a stamp at the side")

    document = read(pages_of(draw))
    assert kinds(document)[-1] == ("paragraph", "a stamp at the side")
    box = document.boxes[-1]
    assert (box.left, box.right) == pytest.approx((20 - 9.2, 20 + 2.2), abs=0.6)
    assert box.bottom - box.top == pytest.approx(17.8, abs=1)
    assert box.bottom < HEIGHT - 300 - 60


def test_scripts_without_spaces_have_a_rectangle_a_character_and_no_space_at_a_line_end():
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))

    def draw(page):
        page.setFont("STSong-Light", 12)
        written(page, ["图书馆每天早上九点", "开门，晚上六点关门。"])
        written(page, ["room7图书"], y=300)

    document = read(pages_of(draw))
    assert document.text.strip() == "图书馆每天早上九点开门，晚上六点关门。\n\nroom7图书"
    assert len(document.boxes) == 19 + 3
    assert document.boxes[1].left == pytest.approx(62, abs=0.5)


# Order


def two_columns(page, left, right, by_row):
    if by_row:
        for at in range(max(len(left), len(right))):
            for x, lines in ((50, left), (305, right)):
                if at < len(lines):
                    page.drawString(x, 700 - at * 13, lines[at])
    else:
        written(page, left)
        written(page, right, x=305)


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("gap", [0, 4])
def test_columns_are_read_one_after_the_other(by_row, gap):
    left, right, end = prose(1, 150), prose(2, 130), prose(3, 60)
    heading = ["A", "heading", "that", "goes", "across", "both", "of", "the", "columns"]

    def draw(page):
        page.setFont("Helvetica-Bold", 18)
        page.drawCentredString(297, 760, " ".join(heading))
        page.setFont("Helvetica", SIZE)
        page.translate(0, -gap if by_row else 0)
        two_columns(page, filled(left), filled(right), by_row)
        written(page, filled(end, 485), y=180)

    document = read(pages_of(draw))
    assert document.blocks[0].kind == "heading"
    assert document.text.split() == [*heading, *left, *right, *end]


def test_columns_whose_lines_stand_at_different_heights():
    left, right = prose(1, 150), prose(2, 150)

    def draw(page):
        for at, (one, other) in enumerate(zip(filled(left), filled(right), strict=False)):
            page.drawString(50, 700 - at * 13, one)
            page.drawString(305, 694 - at * 13, other)

    words = read(pages_of(draw)).text.split()
    lines = min(len(filled(left)), len(filled(right)))
    assert words == " ".join(filled(left)[:lines] + filled(right)[:lines]).split()


def test_three_columns():
    columns = [prose(at, 120) for at in range(3)]

    def draw(page):
        texts = [filled(words, 150) for words in columns]
        for at in range(max(map(len, texts))):
            for x, text in zip((40, 215, 390), texts, strict=True):
                if at < len(text):
                    page.drawString(x, 700 - at * 13, text[at])

    assert read(pages_of(draw)).text.split() == [word for words in columns for word in words]


def test_a_sentence_goes_on_in_the_next_column():
    words = [word.lower().rstrip(".") for word in prose(4, 200)]
    lines = filled(words)
    half = len(lines) // 2
    document = read(pages_of(lambda page: two_columns(page, lines[:half], lines[half:], by_row=False)))
    assert kinds(document) == [("paragraph", " ".join(words))]


@pytest.mark.parametrize("by_column", [True, False])
def test_tables_are_read_row_by_row(by_column):
    draw_from = random.Random(3)
    rows = [["Item", "Office", "Sum in euros"]]
    rows += [
        [f"Item number {at}", draw_from.choice(["Bern", "New York City"]), str(at * 617)] for at in range(20)
    ]

    def draw(page):
        cells = [(at, column) for at in range(len(rows)) for column in range(3)]
        for at, column in sorted(cells, key=lambda cell: cell[::-1]) if by_column else cells:
            page.drawString((60, 139, 330)[column], 700 - at * 14, rows[at][column])

    document = read(pages_of(draw))
    assert kinds(document) == [("paragraph", "\n".join("\t".join(row) for row in rows))]


def test_cells_of_several_lines_are_read_cell_by_cell():
    cells = [(prose(at, 25), prose(at + 50, 32)) for at in range(6)]

    def draw(page):
        y = 700
        for left, right in cells:
            written(page, filled(left, 180), y=y)
            written(page, filled(right, 230), x=300, y=y)
            y -= 100

    assert read(pages_of(draw)).text.split() == [word for pair in cells for cell in pair for word in cell]


def test_columns_below_a_table_whose_cells_end_at_the_same_gutter():
    rows = [(f"Row {at} and more", prose(at, 7)) for at in range(5)]
    left, right = prose(60, 120), prose(70, 120)

    def draw(page):
        for at, (name, cell) in enumerate(rows):
            page.drawString(50, 780 - 60 * at, name)
            written(page, filled(cell, 150), x=330, y=780 - 60 * at)
        written(page, filled(left), y=460)
        written(page, filled(right), x=305, y=460)

    wanted = [word for name, cell in rows for word in [*name.split(), *cell]]
    assert read(pages_of(draw)).text.split() == [*wanted, *left, *right]


def test_a_loosely_filled_line_is_no_row_of_a_table():
    def draw(page):
        """Lines stretched to 230 points, two of them of few words."""
        lines = ["mirror all the modules of", "tests/evaluate/metrics and", *filled(prose(1, 60))]
        for at, line in enumerate(lines):
            words = line.split()
            gap = (230 - sum(page.stringWidth(word) for word in words)) / (len(words) - 1)
            x = 50
            for word in words:
                page.drawString(x, 700 - 13 * at, word)
                x += page.stringWidth(word) + gap

    assert "\t" not in read(pages_of(draw)).text


# Blocks


def test_paragraphs_by_gap_by_indent_and_by_short_line():
    first, second, third = prose(1, 45), prose(2, 45), prose(3, 40)

    def draw(page):
        written(page, filled(first))
        y = 700 - 13 * len(filled(first)) - 8
        written(page, filled(second), y=y)
        y -= 13 * len(filled(second))
        lines = filled(["mmm", *third])
        page.drawString(70, y, lines[0].removeprefix("mmm "))
        written(page, lines[1:], y=y - 13)

    assert kinds(read(pages_of(draw))) == [("paragraph", " ".join(words)) for words in (first, second, third)]


@pytest.mark.parametrize(("gap", "indent", "last"), [(10, 0, "full"), (0, 20, "full"), (0, 0, "short")])
def test_each_sign_of_a_new_paragraph_is_enough(gap, indent, last):
    full = "a line that is as wide as its whole column."
    first = ["a line that is as wide as its whole columns", full if last == "full" else "and ends."]

    def draw(page):
        written(page, first * 2)
        page.drawString(50 + indent, 700 - 4 * 13 - gap, "Another one")
        written(page, ["a line that is as wide as its whole columns"] * 2, y=700 - 5 * 13 - gap)

    assert [text.split()[0] for _, text in kinds(read(pages_of(draw)))][-1] == "Another"


def test_right_to_left():
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    if not font.exists():
        pytest.skip("no font with Hebrew letters")
    pdfmetrics.registerFont(TTFont("DejaVu", str(font)))
    words = ["שלום", "לכולם", "fidkit", "2024", "ספר", "קצר"]

    def draw(page):
        page.setFont("DejaVu", 12)
        shown = ["שלום"[::-1], "לכולם"[::-1], "fidkit 2024", "ספר"[::-1], "קצר"[::-1]]
        x = 500
        for word in shown:
            x -= page.stringWidth(word, "DejaVu", 12)
            page.drawString(x, 700, word)
            x -= 5

    assert read(pages_of(draw)).text.split() == words


def test_headings_have_levels_by_their_size_and_lists_have_items():
    def draw(page):
        for y, size, text in ((760, 20, "The whole"), (700, 14, "A part of it")):
            page.setFont("Helvetica-Bold", size)
            page.drawString(50, y, text)
        page.setFont("Helvetica", SIZE)
        written(page, filled(prose(1, 50)), y=680)
        written(page, ["• one thing", "• and another", "2. a third"], y=500)

    document = read(pages_of(draw))
    assert [(block.kind, block.level) for block in document.blocks] == [
        ("heading", 1), ("heading", 2), ("paragraph", 1), ("item", 1), ("item", 1), ("item", 1),
    ]  # fmt: skip


def test_headings_of_more_sizes_than_there_are_levels_have_the_last():
    def page_with(size):
        def draw(page):
            page.setFont("Helvetica-Bold", size)
            page.drawString(50, 760, "A heading")
            page.setFont("Helvetica", SIZE)
            written(page, filled(prose(size, 50)), y=680)

        return draw

    document = read(pages_of(*map(page_with, range(16, 32, 2))))
    levels = [block.level for block in document.blocks if block.kind == "heading"]
    assert levels == [6, 6, 6, 5, 4, 3, 2, 1]


def test_lines_that_end_on_purpose_keep_their_ends():
    lines = filled(prose(5, 40))
    document = read(pages_of(lambda page: written(page, [*lines, "Rose Street 5", "Bern", "Switzerland"])))
    assert document.text.rstrip().endswith("Rose Street 5\nBern\nSwitzerland")


def test_what_pages_repeat_is_marked_and_stays_in_the_text():
    bodies = [prose(at, 300) for at in range(6)]

    def page_with(number):
        def draw(page):
            left = number % 2
            page.drawString(50 if left else 300, 800, "Report of 2024" if left else f"Chapter {number // 2}")
            page.drawRightString(540, 800, str(number + 7))
            page.drawString(250, 40, f"page {number + 1} of 6")
            written(page, filled(bodies[number], 480), y=770)

        return draw

    document = read(pages_of(*map(page_with, range(6))))
    for number, place in enumerate(place for place in document.places if place.kind == "page"):
        assert place.label == str(number + 1)
        inside = [block for block in document.blocks if place.start <= block.start < place.end]
        assert [block.kind for block in inside if block.kind == "repeated"] == ["repeated", "repeated"]
        head, *body, foot = (document.text[block.start : block.end] for block in inside)
        assert head == f"{'Report of 2024' if number % 2 else f'Chapter {number // 2}'} {number + 7}"
        assert foot == f"page {number + 1} of 6"
        assert " ".join(body).split() == bodies[number]


@pytest.mark.parametrize(("pages", "size"), [((0, 7, 14), 10), ((3, 4, 5), 24)])
def test_what_some_pages_begin_with_is_not_repeated(pages, size):
    def page_with(number):
        def draw(page):
            page.setFont("Helvetica", size)
            page.drawString(50, 790, "Exercises" if number in pages else "".join(prose(number, 1)))
            page.setFont("Helvetica", SIZE)
            written(page, filled(prose(number, 60)), y=740)

        return draw

    assert "repeated" not in {kind for kind, _ in kinds(read(pages_of(*map(page_with, range(15)))))}


def test_rows_that_merely_have_numbers_are_not_repeated():
    draw_from = random.Random(1)

    def page(page):
        rows = [[str(draw_from.randrange(1000)) for _ in range(3)] for _ in range(50)]
        for at, row in enumerate(rows):
            for x, cell in zip((60, 200, 340), row, strict=True):
                page.drawString(x, 790 - 14 * at, cell)

    assert {kind for kind, _ in kinds(read(pages_of(*[page] * 5)))} == {"paragraph"}


# Characters


def test_ligatures_odd_spaces_and_soft_hyphens():
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    if not font.exists():
        pytest.skip("no font with ligatures")
    pdfmetrics.registerFont(TTFont("DejaVu", str(font)))

    def draw(page):
        page.setFont("DejaVu", SIZE)
        written(
            page, ["the ﬁrst o\ufb03ce,\u00a0as\u2003it was, fran\u00adzö\u00adsisch cafe\u0301 \ufeffend"]
        )

    assert read(pages_of(draw)).text.strip() == "the first office, as it was, französisch café end"


def test_characters_that_a_font_does_not_name_are_said():
    def draw(page):
        page.drawString(50, 700, "xyxyxyxy")

    # The glyphs of a font are called what they are no more.
    broken = raw_pdf(
        b"BT /F 12 Tf 50 700 Td <0102030405060708> Tj ET",
        font=b"<</Type/Font/Subtype/Type3/FontBBox[0 0 9 9]/FontMatrix[.1 0 0 .1 0 0]/CharProcs<<>>"
        b"/FirstChar 1/LastChar 8/Widths[9 9 9 9 9 9 9 9]"
        b"/Encoding<</Differences[1/q1 /q2 /q3 /q4 /q5 /q6 /q7 /q8]>>>>",
    )
    document = read(broken)
    assert "page 1 has a font without names of characters; its text may be wrong" in document.notes
    assert "\0" not in document.text
    assert document.text.isprintable() or "\n" in document.text
    assert not read(pages_of(draw)).notes


# What a PDF says of itself


def test_title_author_and_date():
    def draw(page):
        page.setTitle("Rules of  the house")
        page.setAuthor("A. Writer")
        page.drawString(50, 700, "text")

    document = read(made(draw))
    assert document.title == "Rules of the house"
    assert document.facts["author"] == "A. Writer"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", document.facts["date"])


@pytest.mark.parametrize(
    "title", ["untitled", "Microsoft Word - report.doc", "report_final.docx", "2024-1", "(anonymous)"]
)
def test_titles_that_programs_make_up_are_none(title):
    def draw(page):
        page.setTitle(title)
        page.drawString(50, 700, "text")

    assert read(made(draw)).title == ""


@pytest.mark.parametrize(
    ("said", "date"),
    [
        (b"D:20240501123005+02'00'", "2024-05-01T12:30:05+02:00"),
        (b"D:20240501123005Z", "2024-05-01T12:30:05Z"),
        (b"D:20240501", "2024-05-01"),
        (b"D:2024", "2024"),
        (b"D:20249901", None),
        (b"yesterday", None),
    ],
)
def test_dates(said, date):
    content = raw_pdf(b"BT /F 12 Tf 50 700 Td (text) Tj ET", info=b"<</CreationDate(" + said + b")>>")
    assert read(content).facts.get("date") == date


def test_the_outline_makes_chapters():
    def page_with(number):
        def draw(page):
            # The title counts where the mark stands above it, and where it stands below.
            page.bookmarkPage(f"c{number}", fit="XYZ", top=790 if number else 690)
            page.addOutlineEntry(f"Chapter {number}", f"c{number}", 0)
            page.drawString(50, 730, f"Chapter {number}")
            written(page, [*filled(prose(number, 40)), "Below", *filled(prose(number + 5, 40))], y=687)
            page.bookmarkPage(
                f"s{number}", fit="XYZ", top=700 - 13 * (len(filled(prose(number, 40))) + 1) + 10
            )
            page.addOutlineEntry("No words of the page", f"s{number}", 1)

        return draw

    document = read(pages_of(*map(page_with, range(3))))
    chapters = [place for place in document.places if place.kind == "chapter"]
    assert [place.label for place in chapters] == [
        label for number in range(3) for label in (f"Chapter {number}", "No words of the page")
    ]
    for number, (chapter, section) in enumerate(zip(chapters[::2], chapters[1::2], strict=True)):
        assert document.text[chapter.start : chapter.end].startswith(f"Chapter {number}")
        assert document.text[section.start : section.end].startswith("Below")
        assert (
            chapter.end
            == section.end
            == (chapters[2 * number + 2].start if number < 2 else len(document.text))
        )


# What is missing


def picture(page):
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    page.drawImage(ImageReader(Image.new("RGB", (60, 80), "grey")), 50, 50, 400, 600)


def text(page):
    page.drawString(50, 400, "Some text")


def test_pages_without_text_are_named():
    document = read(pages_of(text, picture, text, picture, picture, picture, text, picture))
    assert document.notes == ("pages 2, 4 to 6 and 8 have no text; they may be pictures",)
    assert [place.label for place in document.places] == ["1", "3", "7"]
    assert read(pages_of(text, picture)).notes == ("page 2 has no text; it may be a picture",)
    assert not read(pages_of(text, lambda page: None, text)).notes, "a blank page isn't worth a word"


def test_a_pdf_without_any_text_is_a_document_that_says_so():
    document = read(pages_of(picture))
    assert (document.text, document.notes) == ("", ("page 1 has no text; it may be a picture",))
    assert read(pages_of(lambda page: None)).notes == (
        "it has no text, and nothing else is drawn on its pages",
    )


def test_words_that_are_not_shown_are_left_out_and_said():
    def draw(page):
        page.setCropBox((0, 300, WIDTH, HEIGHT))
        page.drawString(50, 200, "secret")
        page.drawString(50, 400, "shown")

    document = read(pages_of(draw))
    assert document.text.strip() == "shown"
    assert document.notes == ("page 1 has words outside of what it shows, which are left out",)


def test_a_page_that_cannot_be_read_is_named_and_the_others_are_read():
    content = pages_of(text, text, text)
    second = [match.start() for match in re.finditer(rb"/Type /Page\b(?!s)", content)][1]
    document = read(content[:second] + b"/Type /Cage" + content[second + len(b"/Type /Page") :])
    assert document.notes == ("page 2 can't be read",)
    assert document.text.split() == ["Some", "text"] * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty, expected a PDF"),
        (b"\0" * 5000, "empty, expected a PDF"),
        (b"<html>not one</html>", "not a PDF"),
        (b"%PDF-1.7\n1 0 obj", "a PDF that is damaged or cut off"),
    ],
)
def test_what_is_no_pdf_is_said(content, reason):
    with pytest.raises(UnreadableFile) as caught:
        read(content, "x.pdf")
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"x.pdf: {reason}; ")


def test_a_pdf_without_its_end_is_refused_or_says_so():
    content = pages_of(*[text] * 3)
    document = read(content[: content.rindex(b"startxref")])
    assert document.notes == ("its end is missing; so may pages be",)
    with pytest.raises(UnreadableFile, match="damaged or cut off"):
        read(content[:200])


def test_encrypted_files_need_a_password_unless_it_is_empty():
    from reportlab.lib.pdfencrypt import StandardEncryption

    locked = made(
        lambda page: page.drawString(50, 700, "text"), encrypt=StandardEncryption("secret", "owner")
    )
    with pytest.raises(
        UnreadableFile, match=r"a.pdf: encrypted, and it needs a password; save a copy without"
    ):
        read(locked)
    opened = made(lambda page: page.drawString(50, 700, "text"), encrypt=StandardEncryption("", "owner"))
    assert read(opened).text.strip() == "text"


# Strange files


def raw_pdf(
    content: bytes,
    font=b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    box=b"[0 0 612 792]",
    count=1,
    info=b"<<>>",
):
    """A PDF of one page, by hand."""
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count %d>>" % count,
        b"<</Type/Page/Parent 2 0 R/MediaBox %s/Resources<</Font<</F 6 0 R>>>>/Contents 4 0 R>>" % box,
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        info,
        font,
    ]
    whole, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    end = b"trailer <</Size %d/Root 1 0 R/Info 5 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(parts) + 1, len(whole))
    return whole + head + table + end


HELLO = b"BT /F 12 Tf 50 700 Td (Hello there) Tj ET "


@pytest.mark.parametrize(
    "content",
    [
        raw_pdf(b"q " * 100_000 + HELLO),
        raw_pdf(HELLO, box=b"[0 0 1000000000 1000000000]"),
        raw_pdf(HELLO, box=b"[0 0 0 0]"),
        raw_pdf(b"-1 0 0 1 600 0 cm " + HELLO),
        raw_pdf(HELLO, count=2_000_000_000),
        raw_pdf(HELLO, count=-5),
    ],
)
def test_strange_files_are_read(content):
    assert read(content).text.strip() == "Hello there"


def test_pages_that_are_promised_and_missing_are_not_all_looked_for():
    assert read(raw_pdf(HELLO, count=1_000_000)).notes == ("pages 2 to 1000000 can't be read",)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, HELLO.replace(b"12", b"1e30"), b"1e38 0 0 1e38 0 0 cm " * 20 + HELLO]
)
def test_strange_files_without_text_say_so(content):
    assert any("no text" in note for note in read(raw_pdf(content)).notes)


def test_a_hundred_damaged_files_are_read_or_refused():
    def draw(page):
        page.addOutlineEntry("One", "one")
        page.bookmarkPage("one")
        two_columns(page, filled(prose(1, 90)), filled(prose(2, 90)), by_row=True)

    whole = pages_of(draw, picture, text)
    draw_from = random.Random(0)
    ends = {True: 0, False: 0}
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(draw_from.choice([1, 10, 100])):
            content[draw_from.randrange(len(content))] = draw_from.randrange(256)
        try:
            check(next(read_pdf(io.BytesIO(bytes(content)), "x.pdf")))
            ends[True] += 1
        except UnreadableFile:
            ends[False] += 1
    assert min(ends.values()) > 0


# Pictures


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(io.BytesIO(png)))


def test_a_picture_of_a_page_has_its_words_marked():
    content = pages_of(text, lambda page: written(page, ["first words and", "second words"]))
    document = read(content)
    start = document.text.index("words and second")
    boxes = [box for box in document.boxes if start <= box.start < start + 16]
    plain, marked = (pixels(page_picture(io.BytesIO(content), 2, some)) for some in ([], boxes))
    assert plain.shape == marked.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    changed = (plain != marked).any(axis=2)
    rows, columns = np.nonzero(changed)
    ends = [min(box.top for box in boxes), max(box.bottom for box in boxes)]
    assert [rows.min() / 2, rows.max() / 2] == pytest.approx(ends, abs=1)
    # Between two marked words of a line, the mark goes on; what is dark under it stays dark.
    first, second = boxes[0], boxes[1]
    assert changed[round(first.top + first.bottom), round(first.right + second.left)]
    assert (marked.min(axis=2) < 60)[changed].any()
    # Nothing else is marked, and nothing of other pages.
    before = next(box for box in document.boxes if document.text[box.start : box.end] == "first")
    assert columns.min() / 2 >= before.left - 1
    assert not changed[
        round(2 * before.top) : round(2 * before.bottom) - 4, : round(2 * before.right) - 2
    ].any()
    other = [Box(0, 1, 1, 50, 50, 90, 90)]
    assert (pixels(page_picture(io.BytesIO(content), 2, other)) == plain).all()


def test_pictures_of_pages_that_are_not_there_and_of_huge_ones():
    content = pages_of(text)
    for page in (0, 2):
        with pytest.raises(UsageError, match="expected a page from 1 to 1"):
            page_picture(io.BytesIO(content), page, [])
    huge = page_picture(io.BytesIO(raw_pdf(HELLO, box=b"[0 0 14000 14000]")), 1, [])
    width, height = (int.from_bytes(huge[at : at + 4], "big") for at in (16, 20))
    assert width * height < 41_000_000
    assert zlib.crc32(huge[12:29]) == int.from_bytes(huge[29:33], "big")


# LibreOffice


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice")
def test_a_document_of_libreoffice(tmp_path):
    body = [" ".join(prose(at, 60)) for at in range(20)]
    writing = pytest.importorskip("docx").Document()
    writing.core_properties.title = "Rules of the house"
    writing.sections[0].header.paragraphs[0].text = "A running head"
    writing.add_heading("The first of them", 1)
    for paragraph in body:
        writing.add_paragraph(paragraph)
    writing.add_heading("Another one", 2)
    for item in ("café", "naïve"):
        writing.add_paragraph(item, style="List Bullet")
    writing.save(tmp_path / "a.docx")
    command = ["soffice", "--headless", f"-env:UserInstallation=file://{tmp_path}/profile", "--convert-to"]
    subprocess.run([*command, "pdf", "a.docx"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    document = read((tmp_path / "a.pdf").read_bytes())
    assert document.title == "Rules of the house"
    wanted = "The first of them " + " ".join(body) + " Another one • café • naïve"
    shown = [text for kind, text in kinds(document) if kind != "repeated"]
    assert " ".join(shown).split() == wanted.split()
    assert {text for kind, text in kinds(document) if kind == "repeated"} == {"A running head"}
    assert [text for kind, text in kinds(document) if kind == "heading"] == [
        "The first of them",
        "Another one",
    ]
