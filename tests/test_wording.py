"""Numbers and guesses in sentences."""

import pytest

from fidkit.wording import counted, shortened, unwrapped, withheld


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 files are"), (1, "1 file is"), (2, "2 files are"), (1234567, "1,234,567 files are")],
)
def test_a_single_one_is_said_otherwise(number: int, said: str) -> None:
    assert counted(number, "file is", "files are") == said
    assert counted(number, "file") == said.rsplit(" ", 1)[0]


@pytest.mark.parametrize(
    ("guess", "confidence", "said"),
    [
        ("in May", 0.123, "The documents don't seem to say. Best guess (12% sure): in May"),
        ("in May", 0.01, "The documents don't seem to say. Best guess (1% sure): in May"),
        ("the", 0.0099, "The documents don't seem to say."),
        ("", 0.5, "The documents don't seem to say."),
    ],
)
def test_a_guess_is_said_if_it_is_worth_anything(guess: str, confidence: float, said: str) -> None:
    assert withheld(guess, confidence) == said


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (21, "paid on the third day"),
        (20, "paid on the third …"),
        (11, "paid on the …"),
        (10, "paid on …"),
        (3, "pai …"),
    ],
)
def test_a_text_is_shortened_between_words(most: int, said: str) -> None:
    assert shortened(unwrapped("paid  on the\n third day"), most) == said
