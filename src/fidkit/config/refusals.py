"""Why a record that came from people is refused, in their words: pydantic speaks of its own types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from fidkit.wording import in_one_line

_LONGEST_SHOWN = 40
_TEXT, _WHOLE, _NUMBER, _LIST, _KEYS = "a text", "a whole number", "a number", "a list", "keys and values"
_EXPECTED = {
    "string_type": _TEXT, "string_unicode": "a text without halves of characters",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_short": "a text of {min_length} or more characters",
    "string_too_long": "a text of {max_length} characters at most",
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_parsing_size": _WHOLE, "int_from_float": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "finite_number": "a finite number",
    "bool_type": "true or false", "bool_parsing": "true or false", "none_required": "nothing",
    "list_type": _LIST, "tuple_type": _LIST, "set_type": _LIST,
    "too_short": "a length of {min_length} or more", "too_long": "a length of {max_length} at most",
    "dict_type": _KEYS, "mapping_type": _KEYS, "model_type": _KEYS, "model_attributes_type": _KEYS,
    "literal_error": "{expected}", "enum": "{expected}",
    "greater_than": "more than {gt}", "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}", "less_than_equal": "{le} at most",
}  # fmt: skip
"""What should have been given, by pydantic's name of an error, with the values that it comes with."""


class Refusal(NamedTuple):
    """One thing that is wrong with a record.

    Attributes:
        where: the field, as `stages.0.steps`; empty for the record as a whole.
        why: with the field's name: what was expected, and what was given.
    """

    where: str
    why: str


def refusals(
    errors: Sequence[Mapping[str, Any]], record: Any, model: type[Any] | None = None, *, key: str = "key"
) -> list[Refusal]:
    """All that is wrong with a record, each field once.

    Args:
        errors: of pydantic.
        record: what was validated.
        model: as what; says which keys there are where one is unknown.
        key: what the record's keys are called.
    """
    at: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        at.setdefault(_place(error, record), []).append(error)
    # Where a value may be of several kinds, each of them has errors; it was meant to be of the one that it
    # was followed into the furthest.
    meant = [place for place in at if not any(other[: len(place)] == place != other for other in at)]
    return [_refusal(".".join(map(str, place)), at[place], model, key) for place in meant]


def _place(error: Mapping[str, Any], record: Any) -> tuple[str | int, ...]:
    """Keys and numbers that lead to what is wrong, without the kinds that pydantic tried on the way."""
    kept: list[str | int] = []
    value = record
    for number, part in enumerate(error["loc"]):
        last = number == len(error["loc"]) - 1
        if isinstance(part, int):
            value = value[part] if isinstance(value, list) and part < len(value) else None
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        elif number and not (last and error["type"] == "missing"):
            continue  # the record itself has one kind, so what comes first is a key
        kept.append(part)
    return tuple(kept)


def _refusal(where: str, errors: Sequence[Mapping[str, Any]], model: type[Any] | None, key: str) -> Refusal:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        known = ", ".join(_known(model, first["loc"][:-1]))
        return Refusal(where, f"unknown {key} {where!r}" + (f" (known: {known})" if known else ""))
    named = f"{where}: " if where else ""
    if first["type"] == "missing":
        return Refusal(where, f"{named}it is missing; add it")
    if first["type"] == "value_error":  # of a check of ours, which says all that there is to say
        return Refusal(where, named + first["msg"].removeprefix("Value error, "))
    expected = " or ".join(dict.fromkeys(map(_expected, errors)))
    return Refusal(where, f"{named}expected {expected}, got {_shown(first['input'])}")


def _expected(error: Mapping[str, Any]) -> str:
    words: str = _EXPECTED.get(error["type"], "")
    return words.format(**error.get("ctx", {})) or error["msg"].removeprefix("Input should be ")


def _shown(value: Any) -> str:
    """What was given, in a few words on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping | BaseModel):
        return _KEYS
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}" if value else "an empty list"
    if value == "":
        return "an empty text"
    if not isinstance(value, str | int | float):
        return "something else"
    shown = in_one_line(json.dumps(value, ensure_ascii=False))
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _known(model: type[Any] | None, place: Sequence[str | int]) -> list[str]:
    """The keys of the record at a place within a model; none where it isn't one model's."""
    found = [] if model is None else _models(model)
    for part in place:
        fields = [one.model_fields[part] for one in found if part in one.model_fields]
        if fields:  # otherwise it is a number, or a kind that pydantic tried
            found = [inner for field in fields for inner in _models(field.annotation)]
    return list(found[0].model_fields) if len(found) == 1 else []


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, such as those of `int | list[Passage]`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]
