"""Texts of OpenDocument (ODT): headings, items, tables, text boxes, footnotes at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import BlockKind, Document, Writer
from fidkit.passages.load.odf_table import write_odf_table
from fidkit.passages.load.opendocument import (
    DRAW,
    OFFICE,
    PASSED,
    STYLE,
    TABLE,
    TEXT,
    meta_facts,
    opened,
    paragraph_text,
    paragraphs,
)
from fidkit.passages.load.package import Package, reading
from fidkit.passages.load.prose import Sections, flat, titled
from fidkit.wording import counted

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "an OpenDocument text"


def read_odt(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text of OpenDocument, as `read_docx` has one of Word.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or needs a password.
    """
    with reading(name, _WHAT):
        document = _Reading(opened(stream, name, _WHAT, ".sxw", "text")).document()
    yield document


class _Reading:
    """One document while it is read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._writer = Writer()
        self._sections = Sections(self._writer)
        self._marks: dict[etree._Element, int] = {}
        self._title = ""

    def document(self) -> Document:
        root = self._package.xml("content.xml")
        if root.find(f"{OFFICE}body/{OFFICE}text") is None:
            raise self._package.another()
        self._repeated("header")
        titles = {"Title", *(node.get(f"{STYLE}name", "") for node in root.iter(f"{STYLE}style")
                             if node.get(f"{STYLE}parent-style-name") == "Title")}  # fmt: skip
        for body in root.iterfind(f"{OFFICE}body/{OFFICE}text"):
            self._blocks(body, titles)
        self._sections.end()
        # A note may hold the mark of another one: there are more on the way.
        done = 0
        while done < len(self._marks):
            note, mark = list(self._marks.items())[done]
            done += 1
            texts = [
                flat(paragraph_text(node, self._marks)) for node in paragraphs(note.find(f"{TEXT}note-body"))
            ]
            self._writer.block(f"[{mark}] " + " ".join(filter(None, texts)))
        self._repeated("footer")
        title, facts = meta_facts(self._package)
        return titled(self._writer.document(title or self._title, facts=facts, notes=_remarks(root)))

    def _repeated(self, kind: str) -> None:
        """Headers or footers of pages, each once."""
        root = self._package.maybe("styles.xml")
        seen = set()
        for node in (
            () if root is None else root.iter(f"{STYLE}{kind}", f"{STYLE}{kind}-first", f"{STYLE}{kind}-left")
        ):
            text = "\n".join(filter(str.strip, (paragraph_text(part) for part in paragraphs(node))))
            if text not in seen:
                seen.add(text)
                self._writer.block(text, "repeated")

    def _blocks(self, parent: etree._Element, titles: set[str], kind: BlockKind = "paragraph") -> None:
        for node in parent.iterchildren("*"):
            if node.tag == f"{TEXT}h":
                level = node.get(f"{TEXT}outline-level", "1")
                self._sections.heading(
                    paragraph_text(node, self._marks), int(level) if level.isdecimal() else 1
                )
                self._boxes(node, titles)
            elif node.tag == f"{TEXT}p":
                text = paragraph_text(node, self._marks)
                if node.get(f"{TEXT}style-name") in titles and text.strip():
                    self._title = self._title or flat(text)
                    self._writer.block(flat(text), "heading", 1)
                else:
                    self._writer.block(text, kind)
                self._boxes(node, titles)
            elif node.tag == f"{TABLE}table":
                write_odf_table(self._writer, node, self._marks)
            elif node.tag not in PASSED:
                listed = node.tag in (f"{TEXT}list-item", f"{TEXT}list-header")
                self._blocks(node, titles, "item" if listed else kind)

    def _boxes(self, paragraph: etree._Element, titles: set[str]) -> None:
        """Text boxes and drawn shapes that are anchored in a paragraph."""
        for node in paragraph.iterchildren("*"):
            if node.tag.startswith(DRAW):
                self._blocks(node, titles)
            elif node.tag not in PASSED:
                self._boxes(node, titles)


def _remarks(root: etree._Element) -> tuple[str, ...]:
    found = []
    if any(True for _ in root.iter(f"{TEXT}deletion")):
        found.append("text that was deleted while changes were tracked is left out")
    objects = sum(1 for _ in root.iter(f"{DRAW}object"))
    if objects:
        found.append(
            f"{counted(objects, 'embedded object is', 'embedded objects are')} left out, such as a formula"
        )
    count = sum(1 for _ in root.iter(f"{OFFICE}annotation"))
    if count:
        found.append(f"{counted(count, 'comment is', 'comments are')} left out")
    return tuple(found)
