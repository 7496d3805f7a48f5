"""Golden cases of the SQuAD normaliser and of DPR's answer matching."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidkit.evaluate import exact_match, f1, has_answer, normalize_answer, recall_at
from fidkit.evaluate.metrics import is_loop

GOLDEN = [
    json.loads(line) for line in (Path(__file__).parent / "golden_answers.jsonl").open(encoding="utf-8")
]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["text"] or "empty" for case in GOLDEN])
def test_normaliser_golden(case: dict[str, str]) -> None:
    assert normalize_answer(case["text"]) == case["normal"]


@given(st.text())
def test_normaliser_leaves_words_separated_by_single_spaces(text: str) -> None:
    normal = normalize_answer(text)
    assert normal == " ".join(normal.split())
    assert not {"a", "an", "the"} & set(normal.split())


def test_exact_match_is_over_all_answers() -> None:
    assert exact_match("the October, 1973", ["1973", "october 1973"])
    assert not exact_match("October", ["October 1973"])
    assert not exact_match("anything", [])


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("October 1973", ["October 1973"], 1.0),
        ("in October", ["October 1973"], 0.5),  # precision 1/2, recall 1/2
        ("October", ["October 1973"], 2 / 3),  # precision 1, recall 1/2
        ("new new york", ["new york new york"], 6 / 7),  # words counted with repetition: 3 of 3 and 3 of 4
        ("Paris", ["London", "Paris, France"], 2 / 3),  # the best answer counts
        ("Paris", ["London"], 0.0),
        ("", ["London"], 0.0),
        ("the", ["a"], 1.0),  # both empty after normalising, hence an exact match
        ("Paris", [], 0.0),
    ],
)
def test_f1_by_hand(prediction: str, answers: list[str], expected: float) -> None:
    assert f1(prediction, answers) == pytest.approx(expected)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_exact_match_implies_full_f1(prediction: str, answers: list[str]) -> None:
    score = f1(prediction, answers)
    assert 0 <= score <= 1
    assert score == 1 or not exact_match(prediction, answers)


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("Marie Curie", "It was marie CURIE.", True),  # uncased
        ("art", "a party", False),  # token boundary
        ("Zürich", "in Zu\u0308rich today", True),  # composed and decomposed are the same after NFD
        ("Zurich", "in Zürich", False),  # an accent is part of its token
        ("U.S.", "the U.S. army", True),  # punctuation makes tokens of its own
        ("US", "the U.S. army", False),
        ("New York", "New\u00a0York\n", True),  # any space separates
        ("York New", "New York", False),  # order counts
        ("3.14", "pi is 3.14159", False),
        ("the Beatles", "Beatles", False),  # articles are not dropped here
        ("Ⅷ", "chapter Ⅷ", True),  # \p{N} includes letter numbers
        ("हिन्दी", "भाषा हिन्दी है", True),  # vowel signs belong to the token
        ("", "anything", False),
        ("\u200b", "anything", False),
        ("", "", False),
        ("日本", "日本語", False),
    ],
)
def test_has_answer(answer: str, text: str, expected: bool) -> None:
    assert has_answer([answer], text) is expected
    assert has_answer(["no such thing", answer], text) is expected


def test_recall_at_uses_the_first_rank() -> None:
    texts = ["nothing", "the answer is Oslo", "Oslo again"]
    assert recall_at([1, 2, 20], ["Oslo"], texts) == {1: False, 2: True, 20: True}
    assert recall_at([1, 2], ["Bergen"], texts) == {1: False, 2: False}


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("the the the", True),
        ("the Oslo, the Oslo, the Oslo", True),
        ("Oslo Oslo Oslo", True),
        ("in Oslo, in Oslo, in Oslo", True),
        ("Oslo Oslo", False),
        ("18-18-18-18-", True),
        ("1818", False),
        ("Walla Walla", False),
        ("", False),
    ],
)
def test_what_goes_round_in_a_circle(text: str, loops: bool) -> None:
    assert is_loop(text) == loops
