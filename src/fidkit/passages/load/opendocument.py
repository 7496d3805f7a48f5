"""What texts, sheets and slides of OpenDocument have in common: the package, its facts, its paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.package import WITHOUT_PASSWORD, Package
from fidkit.passages.load.prose import flat, sound
from fidkit.passages.load.record import UnreadableFile

if TYPE_CHECKING:
    from lxml import etree

_NS = "{urn:oasis:names:tc:opendocument:xmlns:"
OFFICE, TEXT, TABLE, DRAW, STYLE, PRESENTATION = (
    f"{_NS}{room}:1.0}}" for room in ("office", "text", "table", "drawing", "style", "presentation")
)
# Text of its own: a footnote, a remark of somebody, text boxes and pictures, what is read aloud for a word.
_APART = {
    f"{TEXT}note",
    f"{OFFICE}annotation",
    f"{DRAW}frame",
    f"{DRAW}custom-shape",
    f"{DRAW}g",
    f"{TEXT}ruby-text",
}
PASSED = {
    f"{TEXT}tracked-changes",
    f"{OFFICE}annotation",
    f"{TEXT}note",
    f"{OFFICE}forms",
    f"{TEXT}sequence-decls",
}
"""What stands among paragraphs and is no part of the text."""
_MOST_SPACES = 1000


def opened(stream: BinaryIO, name: str, what: str, sibling: str, kind: str) -> Package:
    """An OpenDocument file.

    Args:
        stream: seekable.
        name: of the file.
        what: it should be, with its article.
        sibling: the ending of the format that the programs had before.
        kind: the word for it in the file's type: `text`, `spreadsheet` or `presentation`.

    Raises:
        UnreadableFile: another file, or one that needs a password.
    """
    package = Package(stream, name, what, sibling)
    manifest = package.maybe("META-INF/manifest.xml")
    if manifest is not None and any(True for _ in manifest.iter("{*}encryption-data")):
        raise UnreadableFile(name, f"expected {what} that is open, but it needs a password", WITHOUT_PASSWORD)
    if "mimetype" in package.names and f"opendocument.{kind}".encode() not in package.read("mimetype"):
        raise package.another()
    return package


def meta_facts(package: Package) -> tuple[str, dict[str, str]]:
    """Title, and author, date and language, that the file says of itself."""
    root = package.maybe("meta.xml")
    said: dict[str, str] = {}
    for node in () if root is None else root.iterfind("{*}meta/*"):
        said[str(node.tag).rpartition("}")[2]] = flat(node.text or "")
    facts = {
        "author": said.get("creator", "") or said.get("initial-creator", ""),
        "date": said.get("date", "") or said.get("creation-date", ""),
        "language": said.get("language", ""),
    }
    return said.get("title", ""), {key: value for key, value in facts.items() if value}


def paragraph_text(paragraph: etree._Element, marks: dict[etree._Element, int] | None = None) -> str:
    """The text of a paragraph or heading, without that of notes, remarks and boxes in it.

    Args:
        paragraph: the element.
        marks: gets the footnotes of the paragraph with their numbers; their marks are `[1]` in the text.
    """
    parts: list[str] = []
    _collect(paragraph, parts, marks)
    return sound("".join(parts))


def paragraphs(parent: etree._Element | None) -> Iterator[etree._Element]:
    """Paragraphs and headings below an element, in order, without those of notes and remarks."""
    for node in () if parent is None else parent.iterchildren("*"):
        if node.tag in (f"{TEXT}p", f"{TEXT}h"):
            yield node
        if node.tag not in PASSED:
            yield from paragraphs(node)


def _collect(node: etree._Element, parts: list[str], marks: dict[etree._Element, int] | None) -> None:
    parts.append(node.text or "")
    for child in node.iterchildren("*"):
        if child.tag == f"{TEXT}s":
            count = child.get(f"{TEXT}c", "1")
            parts.append(" " * min(int(count) if count.isdecimal() else 1, _MOST_SPACES))
        elif child.tag == f"{TEXT}tab":
            parts.append("\t")
        elif child.tag == f"{TEXT}line-break":
            parts.append("\n")
        elif child.tag == f"{TEXT}note" and marks is not None:
            parts.append(f"[{marks.setdefault(child, len(marks) + 1)}]")
        elif child.tag not in _APART:
            _collect(child, parts, marks)
        parts.append(child.tail or "")


def count_of(node: etree._Element, attribute: str) -> int:
    """How many rows or columns a part of a table stands for, by this attribute; 1 where it doesn't say."""
    value = node.get(f"{TABLE}{attribute}", "1")
    return max(1, int(value)) if value.isdecimal() and len(value) < 10 else 1
