"""Which parts of a web page are its text, and which stand beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

NEVER = frozenset((
    "script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "embed",
    "audio", "video", "select", "textarea", "button", "input", "head", "link", "meta", "dialog",
    "map", "area", "datalist", "progress", "meter", "rt", "rp", "annotation",
))  # fmt: skip
"""Elements without text for a reader, or with a text that a page can be read without."""
_BESIDE = frozenset(("nav", "aside", "footer", "menu", "search"))
_ROLES = frozenset((
    "navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar", "toolbar",
    "alert", "dialog",
))  # fmt: skip
_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|sidebar|breadcrumbs?|footer|cookies?|consent|banner|advert\w*|"
    r"ads?|promo|social|share|sharing|related|recommend\w*|newsletter|subscribe|comments?|pagination|pager|"
    r"toc|skip|headerlink|popup|modal|masthead|toolbar|editsection|noprint|hidden|sr-only)(?=$|[\s_-])",
    re.IGNORECASE,
)
# Of a page that is nested deeper than the parser goes, only these tags are kept, and all of the text.
_NOT_FLAT = re.compile(
    r"</?(?!(?:p|h[1-6]|br|li|tr|td|th|title|script|style|head|body|html|meta)\b)[a-z][^<>]*>", re.IGNORECASE
)
_NOTES = re.compile(r"note|admonition", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_NOT_BY_NAME = frozenset(
    ("html", "body", "main", "article", "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "code")
)
# What holds so much of a page is its text, whatever it is called.
_MOST_BY_NAME = 0.5
# A menu without a name: many short links and next to nothing else.
_MENU = ("ul", "ol", "div", "table", "tr", "td", "p", "dl", "center", "span")
_LINKS_OF_MENU = 5
_SHARE_OF_LINKS = 0.85
_LETTERS_OF_LINK = 30
# A header with so many links is one of a site, and not of a text.
_LINKS_OF_HEADER = 3


@dataclass(slots=True)
class _Count:
    """Of an element and everything in it: letters, those of links, links, and first headings."""

    letters: int = 0
    linked: int = 0
    links: int = 0
    titles: int = 0

    def add(self, other: _Count) -> None:
        self.letters += other.letters
        self.linked += other.linked
        self.links += other.links
        self.titles += other.titles


def parsed(text: str) -> Any:
    """The tree of a page, however broken; None where there is nothing.

    Raises:
        ModuleNotFoundError: lxml isn't installed.
    """
    from lxml import etree

    text = text.replace("\0", "")
    for part in (text, _NOT_FLAT.sub(" ", text)):
        # Without `huge_tree` a tree would end at a depth of 256; with it, it ends at 2048.
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(part.encode(), parser)
        except etree.XMLSyntaxError:
            return None
        if not any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
            break
    return root


def text_of(element: Any) -> str:
    """All text of an element, but for what nobody reads."""
    from lxml import etree

    parts: list[str] = []
    walk = etree.iterwalk(element, events=("start", "end"))
    for event, part in walk:
        if event == "start":
            if part.tag in NEVER:
                walk.skip_subtree()
            elif part.tag in ("br", "p", "div", "li"):
                parts += (" ", part.text or "")
            else:
                parts.append(part.text or "")
        elif part is not element:
            parts.append(part.tail or "")
    return "".join(parts)


def beside(root: Any) -> tuple[Any, set[Any]]:
    """The element that holds the text of a page, and the parts in it that stand beside the text."""
    from lxml import etree

    counts = _counted(root)
    chosen = _main(root, counts)
    left_out: set[Any] = set()
    inside = 0  # how many articles are open
    walk = etree.iterwalk(chosen, events=("start", "end"))
    for event, element in walk:
        inside += (1 if event == "start" else -1) * (element.tag in ("article", "main"))
        if event == "start" and element.tag in NEVER:
            walk.skip_subtree()
        elif event == "start" and element is not chosen and _is_beside(element, counts, chosen, inside > 0):
            left_out.add(element)
            walk.skip_subtree()
    return chosen, left_out


def _counted(root: Any) -> dict[Any, _Count]:
    """A count for every element with text."""
    from lxml import etree

    counts: dict[Any, _Count] = {}
    open_: list[_Count] = []
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if event == "start":
            open_.append(_Count(letters=_letters(element.text)))
            if element.tag in NEVER:
                open_[-1] = _Count()
                walk.skip_subtree()
            continue
        count = open_.pop()
        if element.tag == "a":
            count.linked, count.links = count.letters, 1
        count.titles += element.tag == "h1"
        counts[element] = count
        if open_:
            open_[-1].add(count)
            if element is not root:
                open_[-1].letters += _letters(element.tail)
    return counts


def _letters(text: str | None) -> int:
    return len("".join(text.split())) if text else 0


def _main(root: Any, counts: dict[Any, _Count]) -> Any:
    """The one element that says of itself that it holds the text; else all of the page."""
    mains = [e for e in root.iter() if e.tag == "main" or e.get("role") == "main"]
    mains = [main for main in mains if main in counts and counts[main].letters]
    outer = [main for main in mains if not any(above in mains for above in main.iterancestors())]
    if len(outer) == 1:
        return outer[0]
    articles = [a for a in root.iter("article") if a in counts and counts[a].letters]
    if len(articles) == 1 and 2 * counts[articles[0]].letters > counts[root].letters:
        return articles[0]
    return root


def _is_beside(element: Any, counts: dict[Any, _Count], chosen: Any, in_article: bool) -> bool:
    tag, count = element.tag, counts[element]
    attributes = element.attrib
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    if _HIDDEN.search(attributes.get("style", "")) or attributes.get("role", "") in _ROLES:
        return True
    named = f"{attributes.get('class', '')} {attributes.get('id', '')}"
    if tag in _BESIDE:
        return not (tag == "aside" and _NOTES.search(f"{named} {attributes.get('role', '')}"))
    if tag == "header":
        return not in_article and (not count.titles or count.links >= _LINKS_OF_HEADER)
    if tag not in _NOT_BY_NAME and _NAMES.search(named):
        return count.letters < _MOST_BY_NAME * counts[chosen].letters
    return not in_article and tag in _MENU and _is_menu(count)


def _is_menu(count: _Count) -> bool:
    return (
        count.links >= _LINKS_OF_MENU
        and count.linked >= _SHARE_OF_LINKS * count.letters
        and count.linked <= _LETTERS_OF_LINK * count.links
    )
