"""The rules by which rows decide."""

import pytest
from render.study.verdicts import (
    NOT,
    ORDER,
    REPRODUCED,
    about_as_good,
    answers_as_well,
    answers_worse,
    clearly_worse,
    growing,
)

FIRM = {0: 50.0, 1: 50.5, 2: 50.2}


def shifted(by: float) -> dict[int, float]:
    return {seed: em + by for seed, em in FIRM.items()}


@pytest.mark.parametrize(
    ("by", "word"), [(2.0, REPRODUCED), (-0.9, REPRODUCED), (-2.0, ORDER), (-3.0, ORDER), (-3.2, NOT)]
)
def test_about_as_good_is_within_a_point(by: float, word: str) -> None:
    assert about_as_good(shifted(by), FIRM).word == word


def test_about_as_good_is_within_the_spread() -> None:
    loose = {0: 46.0, 1: 50.0, 2: 48.0}  # 2.2 worse on average, with a range of 4
    assert about_as_good(loose, FIRM).word == REPRODUCED


@pytest.mark.parametrize(("by", "word"), [(-5.0, REPRODUCED), (-0.4, ORDER), (0.5, NOT)])
def test_clearly_worse_is_beyond_the_spread(by: float, word: str) -> None:
    assert clearly_worse(shifted(by), FIRM).word == word


def test_clearly_worse_is_worse_with_every_seed() -> None:
    assert clearly_worse({0: 45.0, 1: 45.1, 2: 50.3}, FIRM).word == ORDER
    # 9.3 worse on average, with ranges of 5 and 9; but not with the first seed.
    assert clearly_worse({0: 50.0, 1: 45.0, 2: 45.0}, {0: 50.0, 1: 59.0, 2: 59.0}).word == ORDER


def test_seeds_are_compared_one_by_one_where_both_have_them() -> None:
    found = clearly_worse({0: 40.0, 1: 40.5, 2: 40.2, 3: 99.0}, FIRM)
    assert (found.word, found.ours) == (REPRODUCED, "40.2 beside 50.2: -10.0 (spread 0.5)")


def test_with_few_seeds_nothing_is_decided() -> None:
    found = clearly_worse({0: 40.0, 1: 40.5}, FIRM)
    assert found.word == "open, so far reproduced"
    assert found.ours.endswith("2 of 3 seeds")
    assert about_as_good({}, FIRM).word == growing([("0", {}), ("1", FIRM)]).word == "open"


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        ((10.0, 20.0, 30.0), REPRODUCED),
        ((10.0, 30.0, 29.8), ORDER),
        ((10.0, 30.0, 20.0), NOT),
        ((3.0, 2.9, 2.8), NOT),
    ],
)
def test_what_grows_goes_down_nowhere(levels: tuple[float, ...], word: str) -> None:
    steps = [(str(level), {seed: level + em for seed, em in FIRM.items()}) for level in levels]
    assert growing(steps).word == word


@pytest.mark.parametrize(("changed", "word"), [(1, REPRODUCED), (4, ORDER), (10, NOT)])
def test_what_was_not_trained_is_compared_question_by_question(changed: int, word: str) -> None:
    # Of 400 questions of each set, 2, 8 or 20 are lost: half a percent, 2 and 5.
    before, after = "1" * 200 + "0" * 200, "0" * changed * 2 + "1" * (200 - changed * 2) + "0" * 200
    found = answers_as_well({"squad": after, "newwiki": after}, {"squad": before, "newwiki": before})
    assert found.word == word


def test_a_difference_counts_beyond_twice_its_standard_error() -> None:
    before = {"squad": "1" * 50 + "0" * 50}
    mixed = {"squad": "0" * 10 + "1" * 40 + "1" * 5 + "0" * 45}  # 5 worse, of 15 that differ
    found = answers_worse(mixed, before)
    assert (found.word, found.ours) == (ORDER, "45.0 beside 50.0: -5.0 (spread 7.7)")
    lost = {"squad": "0" * 10 + "1" * 40 + "0" * 50}
    assert answers_worse(lost, before).word == REPRODUCED
    assert answers_worse(before, before).word == NOT
    assert answers_worse({}, before).word == "open"


def test_questions_are_compared_that_both_were_asked() -> None:
    found = answers_worse({"squad": "0011"}, {"squad": "11"})
    assert found.ours.startswith("0.0 beside 100.0")
