"""Presentations of OpenDocument (ODP): a place a slide, with tables, charts and the speaker's notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import WITHOUT_TEXT, BlockKind, Document, Writer
from fidkit.passages.load.odf_table import write_odf_table
from fidkit.passages.load.opendocument import (
    DRAW,
    OFFICE,
    PASSED,
    PRESENTATION,
    STYLE,
    TABLE,
    TEXT,
    meta_facts,
    opened,
    paragraph_text,
    paragraphs,
)
from fidkit.passages.load.package import Package, reading, resolved
from fidkit.passages.load.prose import flat, titled
from fidkit.passages.load.shapes import Shape, in_reading_order

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "an OpenDocument presentation"
_REPEATED = {"page-number", "date-time", "footer", "header"}
_LENGTH = re.compile(r"(-?[0-9]{1,6}(?:\.[0-9]{1,9})?)(cm|mm|in|pt|pc)")
_MILLIMETRES = {"cm": 10.0, "mm": 1.0, "in": 25.4, "pt": 25.4 / 72, "pc": 25.4 / 6}
_MOVED = re.compile(r"translate\s*\(\s*(\S+?)[\s,]+([^\s)]+)")


def read_odp(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A presentation of OpenDocument, as `read_pptx` has one of PowerPoint.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or needs a password.
    """
    with reading(name, _WHAT):
        document = _Reading(opened(stream, name, _WHAT, ".sxi", "presentation")).document()
    yield document


class _Reading:
    """One presentation while it is read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._writer = Writer()
        self._remarks: list[str] = []

    def document(self) -> Document:
        root = self._package.xml("content.xml")
        body = root.find(f"{OFFICE}body/{OFFICE}presentation")
        if body is None:
            raise self._package.another()
        unseen, hidden = _hidden_styles(root), []
        for number, page in enumerate(body.iterchildren(f"{DRAW}page"), start=1):
            self._writer.begin("slide", str(number))
            self._slide(page, number)
            self._writer.end()
            if page.get(f"{DRAW}style-name") in unseen:
                hidden.append(str(number))
        if hidden:
            self._remarks.append(f"hidden slides are read like the others: {', '.join(hidden)}")
        if body.find(f".//{OFFICE}annotation") is not None:
            self._remarks.append("comments are left out")
        title, facts = meta_facts(self._package)
        return titled(self._writer.document(title, facts=facts, notes=tuple(self._remarks)))

    def _slide(self, page: etree._Element, number: int) -> None:
        before = len(self._writer)
        # A title is what the slide is about, wherever it was moved to.
        for shape in sorted(in_reading_order(_shapes(page)), key=lambda shape: shape.role != "title"):
            self._shape(shape)
        if len(self._writer) == before and page.find(f"{DRAW}frame/{DRAW}image") is not None:
            self._remarks.append(f"slide {number} {WITHOUT_TEXT[0]}")
        notes = page.find(f"{PRESENTATION}notes")
        for frame in () if notes is None else notes.iterchildren(f"{DRAW}frame"):
            if frame.get(f"{PRESENTATION}class") == "notes":
                texts = [text for node in paragraphs(frame) if (text := paragraph_text(node)).strip()]
                for at, text in enumerate(texts):
                    self._writer.block(f"Notes: {text}" if at == 0 else text)

    def _shape(self, shape: Shape) -> None:
        if shape.role == "title":
            text = " ".join(paragraph_text(node) for node in paragraphs(shape.node))
            self._writer.block(flat(text), "heading", 1)
        elif shape.node.tag == f"{DRAW}g":
            for inner in in_reading_order(_shapes(shape.node)):
                self._shape(inner)
        else:
            self._blocks(shape.node, "repeated" if shape.role in _REPEATED else "paragraph")

    def _blocks(self, parent: etree._Element, kind: BlockKind) -> None:
        for node in parent.iterchildren("*"):
            if node.tag in (f"{TEXT}p", f"{TEXT}h"):
                self._writer.block(paragraph_text(node), kind)
            elif node.tag == f"{TABLE}table":
                write_odf_table(self._writer, node)
            elif node.tag == f"{DRAW}object":
                self._chart(node)
            elif node.tag not in PASSED:
                self._blocks(node, "item" if node.tag == f"{TEXT}list-item" else kind)

    def _chart(self, drawn: etree._Element) -> None:
        """Titles of a chart, and its values as the file keeps them, as a table; nothing of other objects."""
        folder = next((value for key, value in drawn.items() if key.endswith("}href")), "")
        root = self._package.maybe(resolved("", f"{folder}/content.xml"))
        chart = None if root is None else root.find(f"{OFFICE}body/{OFFICE}chart")
        for title in () if chart is None else chart.iter("{*}title"):
            self._writer.block(flat(" ".join(map(paragraph_text, paragraphs(title)))))
        for table in () if chart is None else chart.iter(f"{TABLE}table"):
            write_odf_table(self._writer, table)


def _hidden_styles(root: etree._Element) -> set[str]:
    """The names of styles whose slides aren't shown."""
    found = root.iter(f"{STYLE}drawing-page-properties")
    hidden = (node.getparent() for node in found if node.get(f"{PRESENTATION}visibility") == "hidden")
    return {style.get(f"{STYLE}name", "") for style in hidden if style is not None}


def _shapes(parent: etree._Element) -> list[Shape]:
    """What is drawn in a slide or a group; a group lies where what is in it does."""
    return [
        Shape(node, *_place(node), node.get(f"{PRESENTATION}class", ""))
        for node in parent.iterchildren("*")
        if str(node.tag).startswith(DRAW)
    ]


def _place(node: etree._Element) -> tuple[int, int, int]:
    """Left, top and height of a shape, in thousandths of a millimetre."""
    if node.tag == f"{DRAW}g":
        inner = [(shape.left, shape.top, shape.top + shape.height) for shape in _shapes(node)]
        lefts, tops, ends = zip(*inner, strict=True) if inner else ((0,), (0,), (0,))
        return min(lefts), min(tops), max(ends) - min(tops)
    said = {str(key).rpartition("}")[2]: str(value) for key, value in node.items()}
    moved = _MOVED.search(said.get("transform", ""))  # of what is turned
    left, top = (moved[1], moved[2]) if moved else (said.get("x", ""), said.get("y", ""))
    return _length(left), _length(top), _length(said.get("height", ""))


def _length(said: str) -> int:
    found = _LENGTH.fullmatch(said)
    return round(1000 * float(found[1]) * _MILLIMETRES[found[2]]) if found else 0
