"""Books (EPUB): chapters in reading order, labelled as the table of contents has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.package import Package, reading, resolved
from fidkit.passages.load.prose import Sections, flat, titled
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.xhtml import write_html, xhtml_tree

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "a book in EPUB"
_PAGES = {"application/xhtml+xml", "text/html", "application/x-dtbook+xml"}
_OF_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


@dataclass(frozen=True, slots=True)
class _Chapter:
    """A line of the table of contents: where it leads to, its text, and its level, counted from 1."""

    member: str
    fragment: str
    label: str
    level: int


def read_epub(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A book. Places: `chapter`, labelled by the table of contents; chapters of one another lie in them.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or protected against copying.
    """
    with reading(name, _WHAT):
        document = _book(Package(stream, name, _WHAT, ".mobi"))
    yield document


def _book(package: Package) -> Document:
    _refuse_protected(package)
    container = package.xml("META-INF/container.xml")
    root_file = next((node.get("full-path", "") for node in container.iter("{*}rootfile")), "")
    root = package.xml(root_file)
    folder = root_file.rpartition("/")[0]
    manifest = {node.get("id", ""): node for node in root.iterfind("{*}manifest/{*}item")}
    members = {id_: resolved(folder, node.get("href", "")) for id_, node in manifest.items()}
    contents = _contents(package, root, manifest, members)
    writer, notes = Writer(), []
    chapters = Sections(writer, "chapter")
    for reference in root.iterfind("{*}spine/{*}itemref"):
        id_ = reference.get("idref", "")
        member = members.get(id_, "")
        if member not in package.names:
            notes.append(f"{member or id_} is missing in the book")
        elif manifest[id_].get("media-type", "") in _PAGES:
            tree = xhtml_tree(package.read(member))
            listed = "nav" in manifest[id_].get("properties", "").split()
            if tree is not None:
                _page(
                    writer,
                    chapters,
                    tree,
                    [] if listed else [line for line in contents if line.member == member],
                    listed,
                )
    chapters.end()
    title, facts = _facts(root)
    return titled(writer.document(title, facts=facts, notes=tuple(notes)))


def _page(
    writer: Writer, chapters: Sections, tree: etree._Element, lines: list[_Chapter], listed: bool
) -> None:
    """One file of the book; the page that lists the contents repeats what headings say."""
    known = {value for node in tree.iter("*") for value in (node.get("id"), node.get("name")) if value}
    inside = {line.fragment: line for line in reversed(lines) if line.fragment in known}
    for line in lines:
        if line.fragment not in known:
            chapters.begin(line.label, line.level)

    def at(id_: str) -> None:
        if line := inside.pop(id_, None):
            chapters.begin(line.label, line.level)

    write_html(writer, tree, at, "repeated" if listed else "paragraph")


def _refuse_protected(package: Package) -> None:
    """Fonts may be obscured; what else is encrypted needs a shop's program."""
    root = package.maybe("META-INF/encryption.xml")
    methods = (
        []
        if root is None
        else [node.get("Algorithm", "") for node in root.iterfind("{*}EncryptedData/{*}EncryptionMethod")]
    )
    if any(method not in _OF_FONTS for method in methods):
        reason = f"expected {_WHAT} that is open, but it is protected against copying"
        raise UnreadableFile(package.name, reason, "get it without protection or leave it out")


def _contents(
    package: Package, root: etree._Element, manifest: dict[str, etree._Element], members: dict[str, str]
) -> list[_Chapter]:
    """The table of contents: that of EPUB 3, else that of EPUB 2."""
    for id_, node in manifest.items():
        if "nav" in node.get("properties", "").split() and members[id_] in package.names:
            tree = xhtml_tree(package.read(members[id_]))
            navs = [] if tree is None else list(tree.iter("{*}nav"))
            navs.sort(key=lambda nav: nav.get("{http://www.idpf.org/2007/ops}type", "") != "toc")
            for top in [] if not navs else navs[0].iterchildren("{*}ol"):
                return list(_of_list(top, members[id_], 1))
    spine = root.find("{*}spine")
    old = members.get("" if spine is None else spine.get("toc", ""))
    ncx = package.maybe(old)
    top = None if ncx is None else ncx.find("{*}navMap")
    return [] if top is None or old is None else list(_of_map(top, old, 1))


def _of_list(parent: etree._Element, member: str, level: int) -> Iterator[_Chapter]:
    for item in parent.iterchildren("{*}li"):
        for node in item.iterchildren("*"):
            tag = str(node.tag).rpartition("}")[2]
            if tag == "a":
                yield _chapter(member, node.get("href", ""), "".join(node.itertext()), level)
            elif tag == "ol":
                yield from _of_list(node, member, level + 1)


def _of_map(parent: etree._Element, member: str, level: int) -> Iterator[_Chapter]:
    for point in parent.iterchildren("{*}navPoint"):
        content = point.find("{*}content")
        if content is not None:
            label = "".join(text for node in point.iterfind("{*}navLabel") for text in node.itertext())
            yield _chapter(member, content.get("src", ""), label, level)
        yield from _of_map(point, member, level + 1)


def _chapter(member: str, target: str, label: str, level: int) -> _Chapter:
    path, _, fragment = target.partition("#")
    return _Chapter(
        resolved(member.rpartition("/")[0], path) if path else member, fragment, flat(label), level
    )


def _facts(root: etree._Element) -> tuple[str, dict[str, str]]:
    said: dict[str, list[str]] = {}
    for node in root.iterfind("{*}metadata/*"):
        if isinstance(node.tag, str) and (text := flat("".join(node.itertext()))):
            said.setdefault(node.tag.rpartition("}")[2], []).append(text)
    facts = {"author": ", ".join(said.get("creator", [])), "date": said.get("date", [""])[0],
             "language": said.get("language", [""])[0]}  # fmt: skip
    return said.get("title", [""])[0], {key: value for key, value in facts.items() if value}
