"""Presentations (PPTX, PPTM): a place a slide, with tables, charts, diagrams and the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import WITHOUT_TEXT, BlockKind, Document, Writer
from fidkit.passages.load.grid import write_table
from fidkit.passages.load.package import Package, core_facts, reading
from fidkit.passages.load.prose import flat, sound, titled
from fidkit.passages.load.shapes import Shape, in_reading_order

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "a PowerPoint presentation"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_SHAPES = {"sp", "grpSp", "graphicFrame", "pic", "cxnSp"}
_TITLES = {"title", "ctrTitle"}
_REPEATED = {"sldNum", "dt", "ftr", "hdr"}


def read_pptx(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A presentation: title of each slide as a heading, shapes from top to bottom and left to right.

    Places: `slide`, labelled by number. Hidden slides are read, which `notes` says; comments are not.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or needs a password.
    """
    with reading(name, _WHAT):
        document = _Reading(Package(stream, name, _WHAT, ".ppt")).document()
    yield document


class _Reading:
    """One presentation while it is read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._main = package.main("ppt/presentation.xml")
        self._writer = Writer()
        self._remarks: list[str] = []
        self._hidden: list[str] = []
        self._comments = 0
        self._layouts: dict[str, list[etree._Element]] = {}

    def document(self) -> Document:
        related = self._package.related(self._main)
        root = self._package.xml(self._main)
        if _local(root) != "presentation":
            raise self._package.another()
        ids = [node.get(f"{_R}id", "") for node in root.iterfind("{*}sldIdLst/{*}sldId")]
        for number, id_ in enumerate(ids, start=1):
            member = related.get(id_, ("", ""))[1]
            if member in self._package.names:
                self._writer.begin("slide", str(number))
                self._slide(member, number)
                self._writer.end()
            else:
                self._remarks.append(f"slide {number} is missing in the file")
        title, facts = core_facts(self._package)
        if self._hidden:
            self._remarks.append(f"hidden slides are read like the others: {', '.join(self._hidden)}")
        if self._comments:
            self._remarks.append("comments are left out")
        return titled(self._writer.document(title, facts=facts, notes=tuple(self._remarks)))

    def _slide(self, member: str, number: int) -> None:
        root, related = self._package.xml(member), self._package.related(member)
        if root.get("show") in ("0", "false"):
            self._hidden.append(str(number))
        self._comments += any(kind == "comments" for kind, _ in related.values())
        parents = self._parents(related)
        before = len(self._writer)
        tree = root.find("{*}cSld/{*}spTree")
        shapes = [] if tree is None else in_reading_order(list(_shapes(tree, parents)))
        # A title is what the slide is about, wherever it was moved to.
        for shape in sorted(shapes, key=lambda shape: shape.role not in _TITLES):
            self._shape(shape, related, parents)
        if len(self._writer) == before and any(True for _ in root.iter("{*}pic")):
            self._remarks.append(f"slide {number} {WITHOUT_TEXT[0]}")
        self._speaker(related)

    def _parents(self, related: dict[str, tuple[str, str]]) -> list[etree._Element]:
        """Placeholders of the slide's layout, and of its master: they say where those of slides lie."""
        layout = next((target for kind, target in related.values() if kind == "slideLayout"), "")
        if layout not in self._layouts:
            found: list[etree._Element] = []
            over = [
                target for kind, target in self._package.related(layout).values() if kind == "slideMaster"
            ]
            for part in (layout, *over):
                root = self._package.maybe(part)
                found += () if root is None else root.iterfind("{*}cSld/{*}spTree/{*}sp")
            self._layouts[layout] = found
        return self._layouts[layout]

    def _shape(
        self, shape: Shape, related: dict[str, tuple[str, str]], parents: list[etree._Element]
    ) -> None:
        tag = _local(shape.node)
        if tag == "grpSp":
            for inner in in_reading_order(list(_shapes(shape.node, parents))):
                self._shape(inner, related, parents)
        elif tag == "graphicFrame":
            self._graphic(shape.node, related)
        elif (body := shape.node.find("{*}txBody")) is not None:
            self._body(body, shape.role)

    def _body(self, body: etree._Element, role: str) -> None:
        paragraphs = [node for node in body.iterchildren(f"{_A}p") if _text(node).strip()]
        if role in _TITLES:
            self._writer.block(flat(" ".join(map(_text, paragraphs))), "heading", 1)
            return
        listed = role in ("body", "obj") and len(paragraphs) > 1
        for node in paragraphs:
            properties = node.find(f"{_A}pPr")
            marks = set() if properties is None else {_local(child) for child in properties.iterchildren("*")}
            item = bool(marks & {"buChar", "buAutoNum", "buBlip"}) or (listed and "buNone" not in marks)
            kind: BlockKind = "repeated" if role in _REPEATED else "item" if item else "paragraph"
            self._writer.block(_text(node), kind)

    def _graphic(self, frame: etree._Element, related: dict[str, tuple[str, str]]) -> None:
        for table in frame.iter(f"{_A}tbl"):
            properties = table.find(f"{_A}tblPr")
            headed = properties is not None and properties.get("firstRow") in ("1", "true")
            write_table(self._writer, _rows(table), headed or None)
        for node in frame.iter("*"):
            if (
                _local(node) == "chart"
                and (root := self._package.maybe(related.get(node.get(f"{_R}id", ""), ("", ""))[1]))
                is not None
            ):
                self._chart(root)
            if (
                _local(node) == "relIds"
                and (root := self._package.maybe(related.get(node.get(f"{_R}dm", ""), ("", ""))[1]))
                is not None
            ):
                for paragraph in root.iter(f"{_A}p"):
                    self._writer.block(_text(paragraph), "item")

    def _chart(self, root: etree._Element) -> None:
        """Titles of a chart, and its values as the file keeps them, as a table."""
        for title in root.iter("{*}title"):
            self._writer.block(flat(" ".join(_text(node) for node in title.iter(f"{_A}p"))))
        names: list[str] = []
        columns: list[dict[int, str]] = []
        categories: dict[int, str] = {}
        for series in root.iter("{*}ser"):
            names.append(flat(" ".join(node.text or "" for node in series.iterfind("{*}tx//{*}v"))))
            categories = categories or _points(series, "cat", "xVal")
            columns.append(_points(series, "val", "yVal"))
        keys = sorted({key for column in (categories, *columns) for key in column})
        rows = [[categories.get(key, ""), *(column.get(key, "") for column in columns)] for key in keys]
        if rows:
            write_table(self._writer, [["", *names], *rows], any(names))

    def _speaker(self, related: dict[str, tuple[str, str]]) -> None:
        """What the speaker wrote below the slide."""
        page = self._package.maybe(
            next((part for kind, part in related.values() if kind == "notesSlide"), None)
        )
        for shape in () if page is None else page.iterfind("{*}cSld/{*}spTree/{*}sp"):
            holder = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
            if holder is not None and holder.get("type") == "body":
                texts = [text for node in shape.iter(f"{_A}p") if (text := _text(node)).strip()]
                for at, text in enumerate(texts):
                    self._writer.block(f"Notes: {text}" if at == 0 else text)


def _points(series: etree._Element, *roles: str) -> dict[int, str]:
    """Values of a chart's series by their index."""
    found = {}
    for role in roles:
        for point in series.iterfind(f"{{*}}{role}//{{*}}pt"):
            index, value = point.get("idx", ""), point.find("{*}v")
            if index.isdecimal() and value is not None:
                found[int(index)] = flat(value.text or "")
    return found


def _shapes(tree: etree._Element, parents: list[etree._Element]) -> Iterator[Shape]:
    for node in tree.iterchildren("*"):
        if _local(node) == "AlternateContent":
            # What newer programs draw; older ones draw `Fallback`.
            for choice in list(node.iterchildren("{*}Choice"))[:1]:
                yield from _shapes(choice, parents)
        elif _local(node) in _SHAPES:
            holder = node.find("{*}nvSpPr/{*}nvPr/{*}ph")
            left, top, height = _place(node) or _inherited(holder, parents) or (0, 0, 0)
            yield Shape(node, left, top, height, "" if holder is None else holder.get("type", "obj"))


def _place(node: etree._Element) -> tuple[int, int, int] | None:
    frame = next(
        (
            found
            for path in ("{*}spPr/{*}xfrm", "{*}grpSpPr/{*}xfrm", "{*}xfrm")
            if (found := node.find(path)) is not None
        ),
        None,
    )
    if frame is None:
        return None
    at, size = frame.find(f"{_A}off"), frame.find(f"{_A}ext")
    if at is None:
        return None
    height = 0 if size is None else int(size.get("cy", "0"))
    return int(at.get("x", "0")), int(at.get("y", "0")), height


def _inherited(holder: etree._Element | None, parents: list[etree._Element]) -> tuple[int, int, int] | None:
    """Where a placeholder lies that doesn't say so itself."""
    if holder is None:
        return None
    for parent in parents:
        other = parent.find("{*}nvSpPr/{*}nvPr/{*}ph")
        if other is None:
            continue
        same = (
            other.get("idx") == holder.get("idx")
            if holder.get("idx")
            else other.get("type") == holder.get("type")
        )
        if same and (place := _place(parent)):
            return place
    return None


def _rows(table: etree._Element) -> list[list[str]]:
    """Texts of a table; a cell that spans rows stands in each of them."""
    rows: list[list[str]] = []
    for row in table.iterchildren(f"{_A}tr"):
        cells = []
        for at, cell in enumerate(row.iterchildren(f"{_A}tc")):
            text = "; ".join(flat(_text(node)) for node in cell.iter(f"{_A}p") if _text(node).strip())
            if cell.get("vMerge") in ("1", "true") and rows and at < len(rows[-1]):
                text = rows[-1][at]
            cells.append(text)
        rows.append(cells)
    return rows


def _text(paragraph: etree._Element) -> str:
    parts: list[str] = []
    _collect(paragraph, parts)
    return sound("".join(parts))


def _collect(node: etree._Element, parts: list[str]) -> None:
    for child in node.iterchildren("*"):
        tag = _local(child)
        if tag in ("t", "br", "tab"):
            parts.append({"br": "\n", "tab": "\t"}.get(tag, child.text or ""))
        elif tag not in ("Fallback", "pPr", "rPr", "endParaRPr"):
            _collect(child, parts)


def _local(node: etree._Element) -> str:
    return str(node.tag).rpartition("}")[2]
