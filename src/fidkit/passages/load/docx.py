"""Word documents (DOCX, DOCM).

The XML is read directly: libraries that edit documents pass over text boxes, footnotes, content controls
and what was inserted while changes were tracked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from fidkit.passages.load.document import BlockKind, Document, Writer
from fidkit.passages.load.grid import write_table
from fidkit.passages.load.package import Package, core_facts, parsed, reading
from fidkit.passages.load.prose import Sections, flat, sound, titled
from fidkit.wording import counted

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "a Word document"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# Documents in the strict variant of the standard have names of their own.
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/wordprocessingml/main")
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
# Elements whose text isn't the document's: deleted or moved away, the code of fields, comments' marks, and
# the picture of a text box for programs that can't draw it (`Choice` holds it as well).
_PASSED = {"del", "moveFrom", "delText", "instrText", "delInstrText", "Fallback", "pPr", "rPr", "tblPr",
           "trPr", "tcPr", "sdtPr", "sectPr", "rt", "fldData"}  # fmt: skip
_CODE = {"source code", "html preformatted", "code", "preformatted text"}
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011", "ptab": "\t"}


def read_docx(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A Word document: headings with their levels and places, items, tables by row, footnotes at the end.

    Text that was deleted while changes were tracked, and comments, are left out, which `notes` says.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or needs a password.
    """
    with reading(name, _WHAT):
        document = _Reading(Package(stream, name, _WHAT, ".doc")).document()
    yield document


class _Reading:
    """One document while it is read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._main = package.main("word/document.xml")
        self._related = package.related(self._main)
        self._styles = _styles(self._part("styles"))
        self._writer = Writer()
        self._sections = Sections(self._writer)
        self._title = ""
        self._notes: dict[tuple[str, str], int] = {}

    def document(self) -> Document:
        root = self._xml(self._main)
        body = root.find(f"{_W}body")
        if body is None:
            raise self._package.another()
        self._repeated("header")
        for block in _blocks(body):
            self._block(block)
        self._sections.end()
        self._footnotes()
        self._repeated("footer")
        title, facts = core_facts(self._package)
        made = self._writer.document(title or self._title, facts=facts, notes=self._remarks(root))
        return titled(made)

    def _xml(self, member: str) -> etree._Element:
        return parsed(_STRICT.sub(_W[1:-1].encode(), self._package.read(member)))

    def _part(self, kind: str) -> etree._Element | None:
        found = [target for type_, target in self._related.values() if type_ == kind]
        return self._xml(found[0]) if found and found[0] in self._package.names else None

    def _repeated(self, kind: str) -> None:
        """Headers or footers, each once."""
        seen = set()
        for type_, target in self._related.values():
            if type_ == kind and target in self._package.names:
                text = "\n".join(
                    filter(str.strip, (self._text(node) for node in self._xml(target).iter(f"{_W}p")))
                )
                if text not in seen:
                    seen.add(text)
                    self._writer.block(text, "repeated")

    def _block(self, node: etree._Element) -> None:
        if node.tag == f"{_W}tbl":
            self._table(node)
            return
        text, boxes = self._text(node), list(_boxes(node))
        style = self._styles.get(_value(node.find(f"{_W}pPr/{_W}pStyle")), _Style())
        level = _level(node.find(f"{_W}pPr")) or style.level
        if style.name.lower() == "title" and text.strip():
            self._title = self._title or flat(text)
            self._writer.block(flat(text), "heading", 1)
        elif level:
            self._sections.heading(text, level)
        else:
            numbered = _value(node.find(f"{_W}pPr/{_W}numPr/{_W}numId"))
            item = numbered != "0" if numbered else style.item
            kind: BlockKind = "code" if style.name.lower() in _CODE else "item" if item else "paragraph"
            self._writer.block(text, kind)
        for box in boxes:
            for block in _blocks(box):
                self._block(block)

    def _table(self, table: etree._Element) -> None:
        rows = list(_children(table, "tr"))
        above: list[str] = []
        texts = []
        for row in rows:
            above = self._cells(row, above)
            texts.append(above)
        headed = any(row.find(f"{_W}trPr/{_W}tblHeader") is not None for row in rows[:1])
        write_table(self._writer, texts, headed or None)
        for cell in table.iter(f"{_W}txbxContent"):
            if not _within(cell, "Fallback", table):
                for block in _blocks(cell):
                    self._block(block)

    def _cells(self, row: etree._Element, above: list[str]) -> list[str]:
        """The texts of a row; one that goes on from the row above has that one's text."""
        before = row.find(f"{_W}trPr/{_W}gridBefore")
        cells: list[str] = [""] * min(int(_value(before) or 0), 100)
        for cell in _children(row, "tc"):
            properties = cell.find(f"{_W}tcPr")
            merge = None if properties is None else properties.find(f"{_W}vMerge")
            span = None if properties is None else properties.find(f"{_W}gridSpan")
            if merge is not None and _value(merge) != "restart":
                text = above[len(cells)] if len(cells) < len(above) else ""
            else:
                text = "; ".join(self._inside(cell))
            cells += [text] + [""] * (min(max(int(_value(span) or 1), 1), 1000) - 1)
        return cells

    def _inside(self, cell: etree._Element) -> Iterator[str]:
        """The paragraphs of a cell, those of tables in it as well."""
        for paragraph in cell.iter(f"{_W}p"):
            if not _within(paragraph, "txbxContent", cell) and (text := flat(self._text(paragraph))):
                yield text

    def _text(self, paragraph: etree._Element) -> str:
        """The text of a paragraph, without that of boxes that are anchored in it."""
        parts: list[str] = []
        self._collect(paragraph, parts)
        return sound("".join(parts))

    def _collect(self, node: etree._Element, parts: list[str]) -> None:
        for child in node.iterchildren("*"):
            tag = child.tag.rpartition("}")[2]
            if tag in _PASSED or tag == "txbxContent":
                continue
            if tag == "t":
                parts.append(child.text or "")
            elif tag in _SIGNS:
                parts.append("" if tag == "br" and child.get(f"{_W}type") else _SIGNS[tag])
            elif tag == "sym":
                parts.append(_symbol(child.get(f"{_W}char", "")))
            elif tag in ("footnoteReference", "endnoteReference"):
                key = (tag.removesuffix("Reference"), child.get(f"{_W}id", ""))
                parts.append(f"[{self._notes.setdefault(key, len(self._notes) + 1)}]")
            else:
                self._collect(child, parts)

    def _footnotes(self) -> None:
        """Footnotes and endnotes, in the order of their marks."""
        parts = {kind: self._part(f"{kind}s") for kind in ("footnote", "endnote")}
        # A note may hold the mark of another one: the list grows on the way.
        done = 0
        while done < len(self._notes):
            (kind, number), mark = list(self._notes.items())[done]
            done += 1
            root = parts[kind]
            nodes = () if root is None else root.iterchildren(f"{_W}{kind}")
            for node in nodes:
                if node.get(f"{_W}id") == number:
                    texts = [flat(self._text(paragraph)) for paragraph in node.iter(f"{_W}p")]
                    self._writer.block(f"[{mark}] " + " ".join(filter(None, texts)))

    def _remarks(self, root: etree._Element) -> tuple[str, ...]:
        found = []
        if any(True for _ in root.iter(f"{_W}del", f"{_W}moveFrom", f"{_W}delText")):
            found.append("text that was deleted while changes were tracked is left out")
        comments = self._part("comments")
        count = 0 if comments is None else sum(1 for _ in comments.iterchildren(f"{_W}comment"))
        if count:
            found.append(f"{counted(count, 'comment is', 'comments are')} left out")
        if any(_value(node) not in ("0", "false") for node in root.iter(f"{_W}vanish")):
            found.append("some text is hidden; it is read like the rest")
        return tuple(found)


class _Style:
    """What a style of paragraphs says: its name, its level as a heading (0 for none), and if of items."""

    def __init__(self, name: str = "", level: int = 0, item: bool = False) -> None:
        self.name, self.level, self.item = name, level, item


def _styles(root: etree._Element | None) -> dict[str, _Style]:
    """Styles by their ids; what one doesn't say, it has of the one that it is based on."""
    nodes = (
        {}
        if root is None
        else {node.get(f"{_W}styleId", ""): node for node in root.iterchildren(f"{_W}style")}
    )
    found = {}
    for id_, node in nodes.items():
        style, seen = _Style(_value(node.find(f"{_W}name"))), set[str]()
        parent: etree._Element | None = node
        base = id_
        while parent is not None and base not in seen:
            seen.add(base)
            named = _HEADING.fullmatch(_value(parent.find(f"{_W}name")))
            style.level = style.level or _level(parent.find(f"{_W}pPr")) or (int(named[1]) if named else 0)
            style.item = style.item or parent.find(f"{_W}pPr/{_W}numPr") is not None
            base = _value(parent.find(f"{_W}basedOn"))
            parent = nodes.get(base)
        found[id_] = style
    return found


def _level(properties: etree._Element | None) -> int:
    """The level that a paragraph or a style has in the outline, counted from 1; 0 for none."""
    value = "" if properties is None else _value(properties.find(f"{_W}outlineLvl"))
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else 0


def _value(node: etree._Element | None) -> str:
    return "" if node is None else cast(str, node.get(f"{_W}val", ""))


def _symbol(code: str) -> str:
    """A character of a symbol font; the area for private use, where most of them lie, says nothing."""
    try:
        character = chr(int(code, 16))
    except (ValueError, OverflowError):
        return ""
    return "" if "\ue000" <= character <= "\uf8ff" else character


def _blocks(parent: etree._Element) -> Iterator[etree._Element]:
    """Paragraphs and tables, those in content controls and the like as well."""
    for node in parent.iterchildren("*"):
        tag = node.tag.rpartition("}")[2]
        if node.tag in (f"{_W}p", f"{_W}tbl"):
            yield node
        elif tag not in _PASSED:
            yield from _blocks(node)


def _children(parent: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """Rows of a table or cells of a row, those in content controls as well."""
    for node in parent.iterchildren("*"):
        tag = node.tag.rpartition("}")[2]
        if tag == wanted:
            yield node
        elif tag in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _children(node, wanted)


def _boxes(paragraph: etree._Element) -> Iterator[etree._Element]:
    """Text boxes that are anchored in a paragraph, without those in one another."""
    for box in paragraph.iter(f"{_W}txbxContent"):
        if not _within(box, "Fallback", paragraph) and not _within(box, "txbxContent", paragraph):
            yield box


def _within(node: etree._Element, tag: str, top: etree._Element) -> bool:
    """Whether an element lies in one of this name that lies in `top`."""
    for parent in node.iterancestors():
        if parent is top:
            return False
        if parent.tag.rpartition("}")[2] == tag:
            return True
    return False
