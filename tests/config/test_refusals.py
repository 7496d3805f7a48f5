"""Why records are refused, in words of people."""

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fidkit.config import ReaderConfig, parse, refusals
from fidkit.errors import ConfigError


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(min_length=1)] = "a"


class Sized(BaseModel):
    size: int


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = ""
    kind: Literal["a", "b"] = "a"
    count: Annotated[int, Field(ge=1, lt=10)] = 1
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    wanted: bool = False
    parts: Annotated[int | list[Part], Field()] = 1
    rates: float | dict[str, float] = 0.0
    several: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    part: Part = Part()
    day: date = date(2026, 1, 1)
    pattern: Annotated[str, Field(pattern="^a")] = "a"
    sized: int | list[Sized] = 1
    pair: list[int] | tuple[int, int] = (1, 2)

    @model_validator(mode="after")
    def _check(self) -> "Whole":
        if self.name == "no":
            raise ValueError("no is no name; give another one")
        return self


def said(record: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(record)
    return [tuple(one) for one in refusals(error.value.errors(), record, Whole)]


@pytest.mark.parametrize(
    ("record", "where", "why"),
    [
        ({"name": 5}, "name", "name: expected a text, got 5"),
        ({"name": None}, "name", "name: expected a text, got nothing"),
        ({"name": "no"}, "", "no is no name; give another one"),
        (
            {"part": {"text": "\ud800"}}, "part.text",
            'part.text: expected a text without halves of characters, got "\ud800"',
        ),
        ({"kind": "c"}, "kind", "kind: expected 'a' or 'b', got \"c\""),
        ({"count": 0}, "count", "count: expected 1 or more, got 0"),
        ({"count": 10}, "count", "count: expected less than 10, got 10"),
        ({"count": 1.5}, "count", "count: expected a whole number, got 1.5"),
        ({"share": 0.0}, "share", "share: expected more than 0.0, got 0.0"),
        ({"share": 2.0}, "share", "share: expected 1.0 at most, got 2.0"),
        ({"share": float("inf")}, "share", "share: expected a finite number, got Infinity"),
        ({"wanted": "yes"}, "wanted", 'wanted: expected true or false, got "yes"'),
        ({"parts": "many"}, "parts", 'parts: expected a whole number or a list, got "many"'),
        (
            {"parts": [{}, {"text": ""}]}, "parts.1.text",
            "parts.1.text: expected a text of 1 or more characters, got an empty text",
        ),
        ({"parts": [{"size": 1}]}, "parts.0.size", "unknown key 'parts.0.size' (known: text)"),
        ({"rates": "x"}, "rates", 'rates: expected a number or keys and values, got "x"'),
        ({"rates": {"a": "x"}}, "rates.a", 'rates.a: expected a number, got "x"'),
        ({"several": []}, "several", "several: expected a length of 1 or more, got an empty list"),
        ({"several": ["a"] * 3}, "several", "several: expected a length of 2 at most, got a list of 3"),
        ({"part": [1]}, "part", "part: expected keys and values, got a list of 1"),
        ({"part": b"x"}, "part", "part: expected keys and values, got something else"),
        ({"count": {}}, "count", "count: expected a whole number, got keys and values"),
        ([], "", "expected keys and values, got an empty list"),
        ({"pattern": "b"}, "pattern", "pattern: expected a text that matches ^a, got \"b\""),
        ({"sized": [{}]}, "sized.0.size", "sized.0.size: it is missing; add it"),
        ({"pair": "x"}, "pair", 'pair: expected a list, got "x"'),
        # What there are no words for is said as pydantic does.
        ({"day": 1}, "day", "day: expected a valid date, got 1"),
    ],
)  # fmt: skip
def test_what_was_expected_and_what_was_given(record: Any, where: str, why: str) -> None:
    assert said(record) == [(where, why)]


def test_all_that_is_wrong_is_said_once() -> None:
    found = said({"name": 1, "kind": 2, "parts": {"text": 3}, "colour": 4, "part": {"size": 1}})
    assert [where for where, _ in found] == ["name", "kind", "parts", "part.size", "colour"]
    assert found[2][1] == "parts: expected a whole number or a list, got keys and values"
    assert found[-1][1].startswith("unknown key 'colour' (known: name, kind, count, ")


def test_what_is_long_or_moves_a_cursor_is_said_on_a_short_line() -> None:
    [(_, why)] = said({"wanted": "\x1b[2J\n\u202e" + "x" * 100})
    assert why.startswith('wanted: expected true or false, got "\\u001b[2J\\n\\u202exxx')
    assert why.endswith("x…")
    assert len(why) < 90


def test_a_configuration_says_all_that_is_wrong_with_it() -> None:
    with pytest.raises(ConfigError) as error:
        parse(ReaderConfig, {"vocabulary_size": "many"}, "config.json")
    said = str(error.value)
    assert said.startswith("config.json: ")
    assert 'vocabulary_size: expected a whole number, got "many"' in said
    assert "encoder: it is missing; add it" in said
