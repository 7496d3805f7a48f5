import pytest

from fidkit.passages.load.document import Place
from fidkit.passages.places import Where, split, spoken

PLACES = (
    Place(0, 90, "chapter", "One"),
    Place(0, 40, "page", "3"),
    Place(0, 90, "heading", "The house"),
    Place(20, 60, "heading", "The deposit"),
    Place(40, 90, "page", "4"),
)


@pytest.mark.parametrize(
    ("start", "end", "page", "heading"),
    [
        (0, 5, "3", "The house"),
        (25, 30, "3", "The deposit"),
        (39, 40, "3", "The deposit"),
        (39, 41, "3-4", "The deposit"),
        (61, 70, "4", "The house"),
    ],
)
def test_the_innermost_place_of_a_kind_counts_and_pages_may_be_several(start, end, page, heading):
    places = tuple(place for place in PLACES if place.start < end and start < place.end)
    assert Where(start, end, places).labels() == {"chapter": "One", "page": page, "heading": heading}


def test_what_is_between_places_is_at_the_nearest():
    assert Where(10, 12, (Place(0, 4, "page", "1"), Place(13, 20, "page", "2"))).labels() == {"page": "2"}
    assert Where(0, 100, (Place(3, 4, "row", "7"), Place(50, 60, "row", "9"))).labels() == {"row": "7-9"}
    assert Where().labels() == {}


def test_a_person_is_told_all_but_the_heading():
    labels = {"heading": "x", "row": "7", "sheet": "Sales", "page": "3-4"}
    assert spoken(labels) == ["pages 3-4", "sheet Sales", "row 7"]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a.md:12-70", ("a.md", (12, 70))),
        ("z.zip/a:1-2.md:12-70", ("z.zip/a:1-2.md", (12, 70))),
        ("a.md", ("a.md", None)),
        ("a.md:12", ("a.md:12", None)),
        ("a.md:x-y", ("a.md:x-y", None)),
        ("a.md:١-٢", ("a.md:١-٢", None)),
        ("a.md:1-" + "9" * 30, ("a.md:1-" + "9" * 30, None)),
        (":1-2", ("", (1, 2))),
    ],
)
def test_a_source_is_a_name_and_perhaps_characters(source, parts):
    assert split(source) == parts
