"""Commands that write answers have every option of `Decoding`, with its defaults."""

import dataclasses
import inspect

import pytest

from fidkit.cli.ask import ask
from fidkit.cli.decoding import options
from fidkit.cli.evaluate import evaluate
from fidkit.engine.generation.decoding import Decoding


def test_the_options_are_those_of_the_value() -> None:
    assert options() == Decoding()
    assert set(inspect.signature(options).parameters) == {f.name for f in dataclasses.fields(Decoding)}


def test_every_option_reaches_the_value() -> None:
    given = {
        "max_tokens": 9, "min_tokens": 2, "length_penalty": 0.5, "temperature": 0.7, "top_k": 8, "top_p": 0.9,
        "seed": 3, "n_best": 4, "no_repeat_ngram": 2, "loops": False, "extractive": True,
    }  # fmt: skip
    assert options(**given, stop=["a", "b"]) == Decoding(**given, stop=("a", "b"))
    assert options(beams=5) == Decoding(beams=5)


@pytest.mark.parametrize("command", [ask, evaluate])
def test_commands_have_them_last(command) -> None:
    names = list(inspect.signature(command).parameters)
    shared = list(inspect.signature(options).parameters)
    assert names[-len(shared) :] == shared
    assert "decoding" not in names
