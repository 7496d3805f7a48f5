"""Headings of every kind of document: their levels, and what each of them holds."""

import io
import json

import docx
import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn

from documents import READERS, packed
from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.html import read_html
from fidkit.passages.load.markdown import read_markdown
from fidkit.passages.load.outline import Outline
from fidkit.passages.load.prose import LONGEST_LABEL, Sections
from fidkit.passages.load.rst import read_rst

LEVELS = {"Alpha": 1, "Beta": 2, "Gamma": 2, "Delta": 3, "Omega": 1}
LAST = {"Alpha": "d.", "Beta": "b.", "Gamma": "d.", "Delta": "d.", "Omega": "o."}
"""The last word of what each holds: of the paragraph under it, or under the last heading below it."""
ALL = {**READERS, ".md": read_markdown, ".rst": read_rst, ".html": read_html}


def under(name: str) -> str:
    return f"It goes on and says what is to be said of {name}, and of nothing else {name[0].lower()}."


def each(form: str) -> str:
    """All headings with a paragraph each, in the form of {name}, {level} and {under}."""
    return "".join(form.format(name=name, level=n, under=under(name)) for name, n in LEVELS.items())


def as_markdown() -> str:
    return "".join(f"{'#' * level} {name}\n\n{under(name)}\n\n" for name, level in LEVELS.items())


def underlined() -> str:
    heads = {name: f"{name}\n{'==-'[n] * 3}" if n < 3 else f"### {name}" for name, n in LEVELS.items()}
    return "".join(f"{head}\n\n{under(name)}\n\n" for name, head in heads.items())


def as_rst() -> str:
    """The first level with a line above, which makes it another than the second."""
    return "".join(
        f"{'=====' if level == 1 else ''}\n{name}\n{' ==~'[level] * 5}\n\n{under(name)}\n\n"
        for name, level in LEVELS.items()
    )


def page(first: int, more: str = "") -> str:
    heads = ((name, level + first - 1) for name, level in LEVELS.items())
    body = "".join(f"<h{level}>{name}</h{level}><p>{under(name)}</p>" for name, level in heads)
    return f"<html><body><main>{body}{more}</main></body></html>"


def as_docx() -> bytes:
    """By a style's name, by its outline, by the style that it is based on, and by the paragraph itself."""
    made, stream = docx.Document(), io.BytesIO()
    outlined, based = made.styles["Heading 5"], made.styles.add_style("Mine", 1)
    set_outline(outlined.element.get_or_add_pPr(), 2)  # goes before what its name says
    set_outline(made.styles["Heading 1"].element.get_or_add_pPr(), None)
    based.base_style = outlined
    styles = {"Beta": outlined, "Gamma": based, "Delta": based}
    for name, level in LEVELS.items():
        heading = made.add_paragraph(name, styles.get(name, made.styles["Heading 1"]))
        if name == "Delta":
            set_outline(heading._p.get_or_add_pPr(), level)
        made.add_paragraph(under(name))
    made.save(stream)
    return stream.getvalue()


def set_outline(properties, level: int | None) -> None:
    for old in properties.findall(qn("w:outlineLvl")):
        properties.remove(old)
    if level is None:
        return
    outline = OxmlElement("w:outlineLvl")
    outline.set(qn("w:val"), str(level - 1))
    properties.append(outline)


def as_odt() -> bytes:
    """The level of the first headings is left out, and is 1."""
    text, office = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("text", "office"))
    body = each('<t:h t:outline-level="{level}">{name}</t:h><t:p>{under}</t:p>')
    body = body.replace(' t:outline-level="1"', "")
    content = f'<o:x xmlns:o="{office}" xmlns:t="{text}"><o:body><o:text>{body}</o:text></o:body></o:x>'
    return packed({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def as_rtf() -> bytes:
    """Of the second level by a style, of the others by themselves, counted from 0."""
    body = each(r"\pard\outlinelevel{level} {name}\par\pard {under}\par ").replace(r"\outlinelevel2", r"\s7")
    for level in (1, 3):
        body = body.replace(rf"\outlinelevel{level}", rf"\outlinelevel{level - 1}")
    return (r"{\rtf1\ansi{\stylesheet{\s7\outlinelevel1 Second;}}" + body + "}").encode()


FILES = {
    "a.md": as_markdown, "underlined.md": underlined, "a.rst": as_rst, "a.html": lambda: page(1),
    "a.docx": as_docx, "a.odt": as_odt, "a.rtf": as_rtf,
}  # fmt: skip


def read(name: str, data: str | bytes) -> Document:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    (document,) = ALL[name[name.rindex(".") :]](stream, name)
    return document


def levels(document: Document) -> list[int]:
    return [block.level for block in document.blocks if block.kind == "heading"]


@pytest.mark.parametrize("name", FILES)
def test_headings_have_levels_and_hold_what_lies_below_them(name):
    document = read(name, FILES[name]())
    assert levels(document) == list(LEVELS.values())
    held = {place.label: document.text[place.start : place.end].split() for place in document.places}
    assert {label: words[-1] for label, words in held.items()} == LAST
    assert all(label in words[:2] for label, words in held.items())
    assert document.title == "Alpha"


def test_a_web_page_has_six_levels_and_is_called_by_its_highest():
    document = read("a.html", page(4, "<h1>Title</h1><p>Below it all.</p>"))
    assert levels(document) == [4, 5, 5, 6, 4, 1]
    assert document.title == "Title"


def test_cells_of_old_notebooks():
    cells = [
        {"cell_type": "heading", "source": name} | ({} if level == 1 else {"level": level})
        for name, level in LEVELS.items()
    ]
    notebook = {"nbformat": 3, "worksheets": [{"cells": cells}]}
    assert levels(read("a.ipynb", json.dumps(notebook))) == list(LEVELS.values())


def test_of_headings_that_begin_together_the_higher_comes_first():
    outline = Outline("class A: pass")
    for start, label, level in ((0, "file", 1), (0, "class", 2), (9, "body", 2)):
        outline.begin(start, label, level)
    places = [(place.label, place.end) for place in outline.document("").places]
    assert places == [("file", 13), ("class", 9), ("body", 13)]


def test_a_long_heading_is_cut_off_as_a_label_and_whole_as_text():
    writer, text = Writer(), "long " * 100
    sections = Sections(writer)
    sections.heading(text, 1)
    sections.end()
    document = writer.document()
    assert document.text.split() == text.split()
    assert [place.label for place in document.places] == [text[:LONGEST_LABEL]]
