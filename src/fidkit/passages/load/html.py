"""Documents as web pages: what a page says, without what every page of its site has around it.

A tree of HTML may be as deep as somebody likes, so it is walked without recursion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import BlockKind, Document, Writer
from fidkit.passages.load.html_parts import NEVER, beside, parsed, text_of
from fidkit.passages.load.html_table import is_table_of_data, rows_of

_DECLARED = re.compile(
    rb"""<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
_DECLARED_WITHIN = 4096
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = _HEADINGS.keys() | {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header",
    "hgroup", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "search",
    "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
_LISTS = ("ul", "ol", "menu", "dir")
_SPACES = re.compile(r"[ \t\n\r\f]+")
_AROUND_BREAKS = re.compile(r" *\n *")

NOTHING = "the page has no text of its own; a script may have to make it"


def read_html(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A page's headings, paragraphs, items, tables by row, and preformatted text.

    Menus, headers and footers of the site, and what can't be read (scripts, forms) are left out. A row says
    `Column: value | Column: value`. Facts are the author, date and language as far as the page gives them.

    Raises:
        UnreadableFile: binary, or in an encoding that can't be told.
        ModuleNotFoundError: lxml isn't installed.
    """
    data = stream.read()
    declared = _DECLARED.search(data[:_DECLARED_WITHIN])
    root = parsed(decode(data, name, declared.group(1).decode("ascii", "replace") if declared else ""))
    if root is None:
        yield Document("", "", notes=(NOTHING,))
        return
    chosen, left_out = beside(root)
    page = _Page()
    page.read(chosen, left_out)
    if not page.writer.blocks:  # a page that is all menu has its links as its text
        page.read(root, set())
    notes = () if page.writer.blocks else (NOTHING,)
    yield page.writer.document(_title(root, page.headings), facts=_facts(root), notes=notes)


class _Page:
    """Writes the blocks of a page. Inline text gathers until a block begins or ends."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.headings: list[tuple[int, str]] = []
        self._text: list[str] = []
        self._levels: list[int] = []
        self._lists: list[int | None] = []
        self._mark = ""
        self._pre = 0

    def read(self, root: Any, left_out: set[Any]) -> None:
        """Write what stands in an element."""
        from lxml import etree

        walk = etree.iterwalk(root, events=("start", "end"))
        passed = None
        for event, element in walk:
            if event == "start":
                if element.tag in NEVER or element in left_out:
                    passed = element
                    walk.skip_subtree()
                elif element.tag == "table" and is_table_of_data(element):
                    self._flush()
                    self._table(element)
                    passed = element
                    walk.skip_subtree()
                else:
                    self._start(element)
            else:
                if element is passed:
                    passed = None
                else:
                    self._end(element)
                if element is not root and element.tail:
                    self._add(element.tail)
        self._flush()

    def _start(self, element: Any) -> None:
        tag = element.tag
        if tag in _BLOCKS:
            self._flush()
        if tag == "pre":
            self._pre += 1
        elif tag == "br":
            self._text.append("\n")
        elif tag in _LISTS:
            self._lists.append(_first_number(element) if tag == "ol" else None)
        elif tag == "li":
            number = self._lists[-1] if self._lists else None
            self._mark = "- " if number is None else f"{number}. "
            if number is not None:
                self._lists[-1] = number + 1
        if element.text:
            self._add(element.text)

    def _end(self, element: Any) -> None:
        tag = element.tag
        if tag in _BLOCKS:
            self._flush(_HEADINGS.get(tag, 0))
        if tag == "pre":
            self._pre -= 1
        elif tag == "li":
            self._mark = ""
        elif tag in _LISTS and self._lists:
            self._lists.pop()

    def _add(self, text: str) -> None:
        self._text.append(text if self._pre else _SPACES.sub(" ", text))

    def _flush(self, level: int = 0) -> None:
        """Write the block that has gathered, if there is one."""
        text = "".join(self._text)
        self._text.clear()
        if not text.strip():
            return
        if self._pre:
            self.writer.block(text.strip("\r\n"), "code")
            return
        text = _AROUND_BREAKS.sub("\n", _SPACES_ONLY.sub(" ", text)).strip()
        kind: BlockKind = "paragraph"
        if level:
            self._section(text, level)
            kind = "heading"
        elif self._mark:
            text, kind, self._mark = self._mark + text, "item", ""
        self.writer.block(text, kind, level or 1)

    def _section(self, text: str, level: int) -> None:
        label = " ".join(text.split())
        while self._levels and self._levels[-1] >= level:
            self._levels.pop()
            self.writer.end()
        self._levels.append(level)
        self.writer.begin("heading", label)
        self.headings.append((level, label))

    def _table(self, table: Any) -> None:
        caption, rows = rows_of(table)
        self.writer.block(caption)
        for row in rows:
            self.writer.block(row, "row")


_SPACES_ONLY = re.compile(r" {2,}")


def _first_number(element: Any) -> int:
    given = (element.get("start") or "").strip()
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 9 else 1


def _title(root: Any, headings: list[tuple[int, str]]) -> str:
    """What the page is called, without the name of its site where that can be told."""
    for meta in root.iter("meta"):
        if meta.get("property") == "og:title" and (title := " ".join((meta.get("content") or "").split())):
            return title
    element = next(root.iter("title"), None)
    title = " ".join(text_of(element).split()) if element is not None else ""
    highest = [label for level, label in headings if level == 1]
    if len(highest) == 1 and (not title or highest[0].casefold() in title.casefold()):
        return highest[0]
    return title or (headings[0][1] if headings else "")


_AUTHORS = ("author", "article:author", "dc.creator", "dcterms.creator")
_DATES = ("article:published_time", "datepublished", "date", "dc.date", "dcterms.date", "dcterms.created")
_DATE = re.compile(r"\d{4}-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?)?$")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*$")


def _facts(root: Any) -> dict[str, str]:
    """Author, date and language, as far as the page says them."""
    said: dict[str, str] = {}
    for meta in root.iter("meta"):
        key = meta.get("name") or meta.get("property") or meta.get("itemprop") or meta.get("http-equiv") or ""
        said.setdefault(key.strip().lower(), " ".join((meta.get("content") or "").split()))
    times = [time.get("datetime", "").strip() for time in root.iter("time")]
    dates = [said[name] for name in _DATES if name in said] + times
    languages = [
        root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or root.get("xml:lang")
    ]
    languages.append(said.get("content-language"))
    facts = {
        "author": next((said[name] for name in _AUTHORS if said.get(name) and "://" not in said[name]), ""),
        "date": next((date for date in dates if _DATE.match(date)), ""),
        "language": next(
            (tongue for tongue in languages if tongue and _LANGUAGE.match(tongue.strip())), ""
        ).strip(),
    }
    return {name: value for name, value in facts.items() if value}
