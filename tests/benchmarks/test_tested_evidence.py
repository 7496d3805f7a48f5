"""What is counted of tested evidence."""

import pytest
import tested_evidence

from fidkit import Answerer, Passage
from fidkit.questions.files import Question

PASSAGES = [
    Passage("1", "Tea", "Tea comes from China."),
    Passage("2", "Coffee", "Coffee comes from Ethiopia."),
]


@pytest.mark.slow
def test_only_right_answers_are_tested() -> None:
    right = Question("q1", "Where does tea come from?", ("China",))
    wrong = Question("q2", "Where does tea come from?", ("Ceylon",))
    asked = iter([(wrong, PASSAGES), (right, PASSAGES), (right, PASSAGES)])
    with Answerer("pocket") as qa:
        found = tested_evidence.measure(qa, asked, 2, 1)
    assert (found["asked"], found["n"]) == (2, 1)
    assert (found["changed_without_first"], found["changed_without_last"]) == (100, 0)
    assert found["tested_ms"] > 0 < found["answer_ms"]
