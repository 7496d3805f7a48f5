import pytest

from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import UsageError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; expected 1 or more"),
        ({"min_tokens": -1}, "min_tokens is -1; expected 0 or more"),
        ({"beams": 0}, "beams is 0; expected 1 or more"),
        ({"n_best": 0}, "n_best is 0; expected 1 or more"),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram is -2; expected 0 or more"),
        ({"length_penalty": float("nan")}, "length_penalty is nan; expected a number"),
        ({"temperature": -0.1}, "temperature is -0.1; expected 0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1, "top_k": 0}, "top_k is 0; expected 1 or more"),
        ({"temperature": 1, "top_p": 0.0}, "top_p is 0.0; expected more than 0 and at most 1"),
        ({"temperature": 1, "top_p": 1.1}, "top_p is 1.1"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": "\n"}, r"stop is '\\n'; expected a tuple"),
        ({"stop": ("a", "")}, "none empty"),
        ({"stop": ((),)}, "none empty"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5 and max_tokens 4"),
        (
            {"beams": 2, "temperature": 0.5},
            "beams is 2 and temperature 0.5; expected beam search or sampling",
        ),
        ({"beams": 2, "n_best": 3}, "n_best is 3 but beams 2; .* set beams to 3"),
        ({"n_best": 2}, "n_best is 2 but beams 1"),
        ({"top_k": 3}, "temperature is 0, which draws none; set a temperature"),
        ({"top_p": 0.5}, "temperature is 0, which draws none"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Decoding(**values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"max_tokens": 1, "min_tokens": 1},
        {"beams": 3, "n_best": 3, "length_penalty": -1.0},
        {"temperature": 1e-9, "n_best": 5, "top_k": 1, "top_p": 1.0, "seed": 2**63 - 1},
        {"stop": (".", (4, 5)), "no_repeat_ngram": 1},
    ],
)
def test_what_makes_sense_is_taken(values: dict) -> None:
    assert Decoding(**values) == Decoding(**values)


def test_rows_are_beams_or_samples() -> None:
    assert Decoding().rows == 1
    assert Decoding(beams=4, n_best=2).rows == 4
    assert Decoding(temperature=1, n_best=3).rows == 3
