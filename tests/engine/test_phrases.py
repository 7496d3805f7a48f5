"""A piece of a text ends where its line, cell or number does."""

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.engine import phrases
from fidkit.engine.phrases import line_around, phrase
from oracles import quick


@pytest.mark.parametrize(
    ("text", "copied", "wanted"),
    [
        ("A year costs €19.90 and", "€19.", "€19.90"),
        ("at 21:12 sharp", "21", "21:12"),
        ("code HC-4471-B here", "HC-", "HC-4471-B"),
        ("press Ctrl+S now", "Ctrl+", "Ctrl+S"),
        ("slices: 2 mm\n  Discs per beaker: 5", "2 mm\n  Discs per", "2 mm"),
        ("GST\n\n37.52", "GST\n\n37", "GST"),
        ("| PB-4 | 410 screws |", "PB-4 | 410", "PB-4"),
        ("24 h         34.00 €", "24 h         34.00 €", "24 h"),
        ("built by the waterworks\n- the road", "waterworks\n-", "waterworks"),
        ("open until 21:00 / 22:00", "21:00 /", "21:00"),
        ("no. **7T 1140**, 57 cm", "**7T 1140**,", "7T 1140"),
        ("by 30 June\n2. Gas", "30 June\n2", "30 June"),
        ("the supplier has to answer in writing, at the latest 30 June\n2. Gas", "30 June\n2", "30 June"),
        ("Balance brought forward                        -$87.86\nGST          $4", "$87.86\nGST", "$87.86"),
        ("Balance of this account on that day:      -$87.86 in all\nuntil", "-$87.86 in all\nuntil", None),
        ("wrapped lines of a long letter, by way of Construction\nFleury", "Construction\nFleury", None),
        ("the year 2019. Then", "2019", "2019"),
        ("the year 2019. Then", "2019.", "2019."),
        ("Smith's house", "Smith", "Smith"),
        ("well-known facts", "well", "well"),
        ("in 5 of 7, 8 or 9", "5 of 7", "5 of 7"),
        ("pp. 3,4 of", "3", "3,4"),
        ("a - b", "-", "-"),
        ("pre- and post-war", "pre-", "pre-"),
        ("13 миллионов человек.", "13 миллионов челов", "13 миллионов человек"),
        ("an unbelievable day", "believ", "unbelievable"),
        ("東京は日本の首都です", "日本", "日本"),
        ("| | |", "|", "|"),
        ("It is called Dana\r\nKerr", "Dana\r\nKerr", "Dana"),
        ("a\r\n", "a\r", "a"),
    ],
)  # fmt: skip
def test_a_phrase_is_whole_and_nothing_but_a_phrase(text: str, copied: str, wanted: str | None) -> None:
    start = text.index(copied)
    first, last = phrase(text, start, start + len(copied))
    assert text[first:last] == (wanted or copied)


@quick
@given(text=st.text(alphabet="ab1 .,-|*\n", min_size=1, max_size=40), data=st.data())
def test_a_phrase_lies_in_the_text_and_is_a_phrase(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    first, last = phrase(text, start, end)
    assert 0 <= first < last <= len(text)
    assert first >= start or text[first:start].isalnum()
    assert phrase(text, first, last) == (first, last)


def test_a_line_ends_at_the_nearest_of_all_breaks_that_end_one() -> None:
    text = (
        "\nTea\n\n> A quotation that is so long that it was\n"
        "> wrapped by the mail\n> Over\nAn answer, wrapped as it is\nrather long\n"
    )
    breaks = [at for at, mark in enumerate(text) if mark == "\n" and phrases._ends_a_line(text, at)]
    assert 0 < len(breaks) < text.count("\n")
    for start, end in combinations_with_replacement(range(len(text) + 1), 2):
        before, after = [at + 1 for at in breaks if at < start], [at for at in breaks if at >= end]
        assert line_around(text, start, end) == (max(before, default=0), min(after, default=len(text)))
