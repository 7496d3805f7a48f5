"""Blocks of HTML as books and mails have it: everything is text, nothing is navigation or advertisement."""

from __future__ import annotations

import html.entities
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from fidkit.passages.load.document import BlockKind, Writer
from fidkit.passages.load.grid import write_table
from fidkit.passages.load.package import parsed
from fidkit.passages.load.prose import flat, sound

if TYPE_CHECKING:
    from lxml import etree

_PASSED = {
    "head",
    "script",
    "style",
    "template",
    "noscript",
    "svg",
    "rt",
    "rp",
    "object",
    "iframe",
    "annotation",
    "annotation-xml",
}
_BLOCKS = {
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hr",
    "html",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
}
_TYPE = "{http://www.idpf.org/2007/ops}type"
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]*);")
_OF_XML = {b"amp", b"lt", b"gt", b"quot", b"apos"}
_MOST_SPAN = 1000


def xhtml_tree(data: bytes) -> etree._Element | None:
    """XHTML of a book as a tree; as HTML where it isn't well formed; None where there is nothing in it."""
    from lxml import etree

    try:
        return parsed(_ENTITY.sub(_numbered, data))
    except etree.XMLSyntaxError:
        return html_tree(data)


def html_tree(text: bytes | str) -> etree._Element | None:
    """HTML as a tree; None where there is nothing in it."""
    from lxml import etree

    parser = etree.HTMLParser(no_network=True, huge_tree=False, remove_comments=True, remove_pis=True,
                              encoding="utf-8")  # fmt: skip
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        return etree.fromstring(data, parser) if data.strip() else None
    except etree.XMLSyntaxError:
        return None


def _numbered(match: re.Match[bytes]) -> bytes:
    """An entity of HTML as a number, since XML knows five of them only."""
    character = html.entities.html5.get(match[1].decode() + ";") if match[1] not in _OF_XML else None
    return "".join(f"&#{ord(part)};" for part in character).encode() if character else match[0]


def write_html(writer: Writer, root: etree._Element, at: Callable[[str], None] = lambda _: None,
               kind: BlockKind = "paragraph") -> None:  # fmt: skip
    """Write headings, paragraphs, items, rows of tables and code.

    Args:
        writer: where to.
        root: of the tree, however deep.
        at: called with the id of each element where its text begins, before it is written.
        kind: of what is nothing else.
    """
    from lxml import etree

    walk = _Walk(writer, at, kind)
    skipped: etree._Element | None = None
    for event, node in etree.iterwalk(root, events=("start", "end")):
        if not isinstance(node.tag, str):
            if event == "end":
                walk.text(node.tail)
            continue
        tag = node.tag.rpartition("}")[2].lower()
        if event == "start" and skipped is None:
            if tag in _PASSED or _note(node, "backlink"):
                skipped = node
            else:
                walk.start(tag, node)
        elif event == "end" and (skipped is None or skipped is node):
            if skipped is None:
                walk.end(tag, node)
            skipped = None
            if node is not root:
                walk.text(node.tail)
    walk.flush()


class _Walk:
    """A tree while it is walked, and the block that is being put together."""

    def __init__(self, writer: Writer, at: Callable[[str], None], kind: BlockKind) -> None:
        self._writer, self._at, self._kind = writer, at, kind
        self._parts: list[str] = []
        self._open: list[str] = []  # elements that say what kind of block a text is
        self._tables: list[_Table] = []
        self._later: list[str] = []

    def start(self, tag: str, node: etree._Element) -> None:
        if tag in _BLOCKS or _level(tag):
            self.flush()
        for name in filter(None, (node.get("id"), node.get("name") if tag == "a" else None)):
            if self._tables or "".join(self._parts).strip():
                self._later.append(name)
            else:
                self._at(name)
        if tag in ("pre", "li") or _level(tag):
            self._open.append(tag)
        elif tag == "table":
            self._tables.append(_Table())
        elif tag == "tr" and self._tables:
            self._tables[-1].row()
        elif tag in ("td", "th") and self._tables:
            self._tables[-1].cell(tag == "th", _span(node, "colspan"), _span(node, "rowspan"))
        elif _note(node, "noteref"):
            self._parts.append("[")
        elif tag == "br":
            self._parts.append("\n" if "pre" in self._open else "\x1e")
        elif tag == "img" and (node.get("alt") or "").strip():
            self._parts.append(f" {node.get('alt')} ")
        self.text(node.text)

    def end(self, tag: str, node: etree._Element) -> None:
        if tag in _BLOCKS or _level(tag):
            self.flush()
        if tag == "table" and self._tables:
            done = self._tables.pop()
            if self._tables and self._tables[-1].rows:
                # A table in a cell is text of that cell, or a whole page that is laid out as one.
                self._tables[-1].add("; ".join(" ".join(filter(None, row)) for row in done.rows))
            else:
                done.write(self._writer)
        elif _note(node, "noteref"):
            self._parts.append("]")
        elif tag in self._open:
            # The last of its name: elements are closed in the order in which they were opened.
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag)]

    def text(self, text: str | None) -> None:
        if text:
            self._parts.append(text)

    def flush(self) -> None:
        """Writes what has come together; ids within it begin with what comes next."""
        text, self._parts = "".join(self._parts), []
        self._block(text)
        if not self._tables:
            names, self._later = self._later, []
            for name in names:
                self._at(name)

    def _block(self, text: str) -> None:
        if "pre" in self._open and not self._tables:
            self._writer.block(sound(text.strip("\n")), "code")
            return
        text = sound("\n".join(filter(None, map(flat, text.split("\x1e")))))
        if self._tables:
            self._tables[-1].add(flat(text))
        elif level := next((_level(tag) for tag in self._open if _level(tag)), 0):
            self._writer.block(flat(text), "heading", level)
        else:
            self._writer.block(
                text, "item" if "li" in self._open and self._kind == "paragraph" else self._kind
            )


class _Table:
    """A table while it is read: its rows, with what spans several of them in each."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self._headed = False
        self._lasting: dict[
            int, tuple[int, int]
        ] = {}  # by column: the row where its text stands, and the last one
        self._at = 0
        self._before = ""

    def row(self) -> None:
        self.rows.append([])
        self._at = 0

    def cell(self, head: bool, across: int, down: int) -> None:
        if not self.rows:
            self.rows.append([])
        row, number = self.rows[-1], len(self.rows) - 1
        while (lasting := self._lasting.get(len(row))) and lasting[1] >= number and lasting[0] < number:
            above = self.rows[lasting[0]]
            row.append(above[len(row)] if len(row) < len(above) else "")
        self._at = len(row)
        if down > 1:
            self._lasting[self._at] = number, number + down - 1
        row += [""] * across
        if number == 0:
            self._headed = head and (self._headed or self._at == 0)

    def add(self, text: str) -> None:
        if not text:
            return
        if not self.rows or not self.rows[-1]:
            self._before = f"{self._before} {text}".strip()  # a caption
        else:
            old = self.rows[-1][self._at]
            self.rows[-1][self._at] = f"{old} {text}" if old else text

    def write(self, writer: Writer) -> None:
        writer.block(self._before)
        if max(map(len, self.rows), default=0) > 1:
            write_table(writer, self.rows, self._headed or None)
        else:  # one column: a frame around text
            for row in self.rows:
                writer.block("".join(row))


def _span(node: etree._Element, attribute: str) -> int:
    value = (node.get(attribute) or "1").strip()
    return min(max(int(value), 1), _MOST_SPAN) if value.isdecimal() and len(value) < 10 else 1


def _note(node: etree._Element, role: str) -> bool:
    """Whether an element is the mark of a footnote, or leads back from one."""
    return f"doc-{role}" in (node.get("role") or "") or role in (node.get(_TYPE) or "")


def _level(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0
