"""Values out of other people's records, or an error that names the place."""

from __future__ import annotations

import json
from typing import Any

from fidkit.errors import DataError


def parse_json(text: str, where: str) -> Any:
    """A JSON value.

    Raises:
        DataError: it is none, or is nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(
            f"{where}: expected a JSON record, but it is nested too deeply; mend or remove it"
        ) from error
    except ValueError as error:
        raise DataError(f"{where}: expected a JSON record, but {error}; mend or remove it") from error


def whole(text: str, key: str, where: str) -> str:
    """A text of whole characters: JSON can spell half of a surrogate pair, which no UTF-8 has.

    Raises:
        DataError: it has such a half.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected whole characters as `{key}`, got {error.object[error.start]!r}, half of a "
            "surrogate pair; mend or remove it"
        ) from error
    return text


def required(record: dict[str, Any], key: str, where: str) -> str:
    """A text that isn't blank."""
    value = string(record, key, where, required=True)
    if not value.strip():
        raise DataError(f"{where}: `{key}` is empty; give it a text or leave the record out")
    return value


def string(record: dict[str, Any], key: str, where: str, *, required: bool = False) -> str:
    """A text; empty where it is missing and not required."""
    value = record.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        got = "nothing" if value is None else type(value).__name__
        raise DataError(f"{where}: expected `{key}` to be a string, got {got}")
    return whole(value, key, where)


def listed(record: dict[str, Any], key: str, where: str) -> list[Any]:
    """A list; empty where it is missing."""
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where}: expected `{key}` to be a list, got {type(value).__name__}")
    return value


def objects(record: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A list of JSON objects; empty where it is missing."""
    values = listed(record, key, where)
    for value in values:
        if not isinstance(value, dict):
            raise DataError(f"{where}: expected `{key}` to hold JSON objects, got {type(value).__name__}")
    return values


def text_of(value: Any, key: str, where: str) -> str:
    """Ids and answers are often bare numbers in other people's files."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"{where}: expected `{key}` to hold strings or numbers, got {type(value).__name__}")
    return whole(str(value), key, where)
