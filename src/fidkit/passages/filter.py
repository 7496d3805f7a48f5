"""Which documents a search looks in: by name, kind, date and what documents say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import translate
from typing import NamedTuple, Self
from unicodedata import normalize

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.table import PACKED, ending_of

_DAY = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?!\d)")
NAMES = ("source", "kind", "after", "before")
"""Of conditions on what every document has; all others are on what some say of themselves."""

Many = str | tuple[str, ...]


class Described(NamedTuple):
    """What a document is asked about.

    Attributes:
        source: what it is called, and `file` the file that it is in.
        day: of its own metadata, or else when its file was changed last; `2024-05-31`, empty if unknown.
        facts: as of `fidkit.passages.load.document.Document`.
    """

    source: str
    file: str
    day: str
    facts: Mapping[str, str]


class FilterError(CorpusError):
    """A filter leaves no document; it says which condition nothing meets, and what there is instead."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents' passages may be found: those that meet everything that is given.

    Of several values of one kind, such as two kinds of files, a document has to meet one. In patterns, `*`
    stands for any characters, a slash too, and `?` for one.

    Attributes:
        source: patterns of what a document is called: `contracts/*`. Upper and lower case differ.
        kind: patterns of endings, `pdf`, `.pdf` or `doc*`, of the document or of the archive or mail that it
            is in. Upper and lower case are the same.
        after: the first day, `2024-01-31`; `2024-01` and `2024` are their first days. Documents without a
            date of their own have that of their file's last change, in local time.
        before: the first day that is too late.
        facts: what a document says of itself: `{"author": "*lovelace*"}`, patterns by name. Upper and lower
            case are the same. Several values of one name are pairs: `(("author", "a*"), ("author", "b*"))`.

    Raises:
        UsageError: a day that is none, or an empty pattern.
    """

    source: Many = ()
    kind: Many = ()
    after: str = ""
    before: str = ""
    facts: Mapping[str, str] | tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        facts = tuple(self.facts.items()) if isinstance(self.facts, Mapping) else tuple(self.facts)
        facts = tuple((name.strip().casefold(), pattern) for name, pattern in facts)
        kinds = tuple(f".{kind.lower().lstrip('.')}" for kind in _many(self.kind))
        values: dict[str, object] = {"source": _many(self.source), "kind": kinds, "facts": facts}
        for name in ("after", "before"):
            given = getattr(self, name)
            if not isinstance(given, str):
                raise UsageError(f"{name} is {given!r}; expected a day as text, such as 2024-01-31")
            values[name] = day_of(given)
            if given and not values[name]:
                raise UsageError(f"{name} is {given!r}; expected a day such as 2024-01-31, a month or a year")
        if "" in (*_many(self.source), *_many(self.kind), *(part for pair in facts for part in pair)):
            raise UsageError("a filter has an empty value; expected such as source=contracts/* or kind=pdf")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, conditions: Iterable[str]) -> Self | None:
        """Conditions as they are typed: `source=contracts/*`, `kind=pdf`, `after=2024`, `author=*lovelace*`.

        Returns:
            None for none.

        Raises:
            UsageError: one isn't of the form NAME=VALUE, or a day comes twice.
        """
        given: dict[str, tuple[str, ...]] = {}
        facts: list[tuple[str, str]] = []
        for condition in conditions:
            name, equals, value = (part.strip() for part in condition.partition("="))
            name = name.casefold()
            if not equals or not name or not value:
                raise UsageError(
                    f"{condition!r} is no condition; expected NAME=VALUE with the name {', '.join(NAMES)} "
                    "or what documents say of themselves, such as author"
                )
            if name == "source":
                value = shown(value)
            if name in NAMES:
                given[name] = (*given.get(name, ()), value)
            else:
                facts.append((name, value))
        days = {}
        for name in ("after", "before"):
            if len(values := given.get(name, ())) > 1:
                raise UsageError(f"{name} is given as {' and '.join(values)}; expected one day")
            days[name] = "".join(values)
        found = cls(given.get("source", ()), given.get("kind", ()), **days, facts=tuple(facts))
        return None if found == cls() else found

    def parts(self) -> dict[str, Filter]:
        """Each condition as a filter of its own, by its name."""
        found = {name: Filter(**{name: getattr(self, name)}) for name in NAMES if getattr(self, name)}
        facts = _pairs(self)
        for name in dict.fromkeys(name for name, _ in facts):
            found[name] = Filter(facts=tuple(pair for pair in facts if pair[0] == name))
        return found

    def test(self) -> Callable[[Described], bool]:
        """Says of a document whether it meets this."""
        sources = _any_of(_many(self.source))
        kinds = _any_of(_many(self.kind))
        facts: dict[str, list[str]] = {}
        for name, pattern in _pairs(self):
            facts.setdefault(name, []).append(pattern.casefold())
        patterns = {name: _any_of(given) for name, given in facts.items()}

        def meets(document: Described) -> bool:
            return (
                (not self.source or bool(sources(document.source)))
                and (not self.kind or any(map(kinds, kinds_of(document))))
                and (not self.after or document.day >= self.after)
                and (not self.before or "" < document.day < self.before)
                and all(
                    bool(value) and bool(given(value))
                    for name, given in patterns.items()
                    for value in (document.facts.get(name, "").casefold(),)
                )
            )

        return meets

    def __str__(self) -> str:
        """As it is typed."""
        given = [(name, value) for name in NAMES for value in _many(getattr(self, name)) if value]
        return " ".join(f"{name}={value}" for name, value in (*given, *_pairs(self)))


def kinds_of(document: Described) -> set[str]:
    """Endings that a document goes by: its own and its file's, packed or not; with a full stop in front."""
    endings = (ending_of(name) for name in {document.source, document.file})
    return {kind for ending in endings for kind in (ending, ending.removesuffix(PACKED)) if kind}


def day_of(text: str) -> str:
    """The day that a date in ISO 8601 begins with: `2024-05-31`; empty where there is none.

    A month alone is its first day, and a year its first of January.
    """
    found = _DAY.match(text.strip())
    if found is None:
        return ""
    year, month, day = (int(part) if part else 1 for part in found.groups())
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return ""


def _many(given: Many) -> tuple[str, ...]:
    many = (given,) if isinstance(given, str) else given
    many = tuple(many) if isinstance(many, Iterable) else (many,)
    if not all(isinstance(one, str) for one in many):  # those who don't check types may give anything
        raise UsageError(f"a filter has {given!r}; expected a text such as contracts/* or pdf, or several")
    return many


def _pairs(where: Filter) -> tuple[tuple[str, str], ...]:
    return tuple(where.facts.items()) if isinstance(where.facts, Mapping) else where.facts


def _any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    """Whether a text is one of the patterns, all of it, however its accents are written."""
    # Brackets are characters of names here, and no sets as `translate` has them.
    plain = (normalize("NFC", pattern).replace("[", "[[]") for pattern in patterns)
    match = re.compile("|".join(map(translate, plain))).match
    return lambda text: match(normalize("NFC", text))
