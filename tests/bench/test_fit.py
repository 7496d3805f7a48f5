"""What doesn't fit is refused before it is allocated, with the largest that does."""

import pytest

from bench.toy import Toy
from fidkit.bench.fit import check_fit, needed_bytes
from fidkit.cost import Workload
from fidkit.errors import UsageError

GB = 10**9
SUBJECTS = [Toy("a", weights=2 * GB, working=GB // 10), Toy("b", weights=GB, working=GB // 20)]


def test_all_weights_and_the_largest_run() -> None:
    assert needed_bytes(SUBJECTS, Workload(questions=2, passages=10)) == 5 * GB


def test_what_fits_passes() -> None:
    check_fit(SUBJECTS, Workload(questions=2, passages=10), 5 * GB)


@pytest.mark.parametrize(
    ("questions", "passages", "available", "said"),
    [
        (
            8,
            10,
            5,
            "8 x 10 passages don't fit: 11.00 GB needed for a, b, 6.00 GB more than the 5.00 GB avail",
        ),
        (8, 10, 5, "available; the largest batch that does is 2"),
        (4, 10, 3.5, "not even one question does; the most passages that fit are 5, with --batch 1"),
        (1, 10, 3, "not even one passage does; take fewer or smaller presets, or fewer peers"),
    ],
)
def test_what_does_not_fit_is_told_what_would(
    questions: int, passages: int, available: float, said: str
) -> None:
    with pytest.raises(UsageError) as error:
        check_fit(SUBJECTS, Workload(questions=questions, passages=passages), int(available * GB))
    assert said in str(error.value)


def test_passages_of_different_lengths() -> None:
    lengths = tuple(range(1, 11))
    with pytest.raises(UsageError, match="most passages that fit are 5"):
        check_fit(SUBJECTS, Workload(passages=10, passage_tokens=lengths), int(3.5 * GB))
