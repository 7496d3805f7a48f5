"""Records that come from files of people: unknown keys are refused, and errors say where they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fidkit.errors import ConfigError

_KINDS = {
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


class Strict(BaseModel):
    """Immutable record that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def replace(self, **changes: Any) -> Any:
        """A validated copy with some fields changed.

        Raises:
            ConfigError: an unknown field, or a combination that cannot be built.
        """
        return parse(type(self), {**self.model_dump(), **changes}, type(self).__name__)


def parse(model: type[Any], record: Any, where: str) -> Any:
    """Validate `record` as `model`, with an error for people.

    Raises:
        ConfigError: names the place, the field and what is wrong with it.
    """
    if issubclass(model, BaseModel) and not isinstance(record, dict | model):
        raise ConfigError(
            f"{where}: expected keys and values, got {_KINDS.get(type(record), 'something else')}"
        )
    try:
        return model.model_validate(record)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            field = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                known = ", ".join(_fields_at(model, item["loc"][:-1]))
                problems.append(f"unknown key {field!r}" + (f" (known: {known})" if known else ""))
            else:
                message = item["msg"].removeprefix("Value error, ")
                problems.append(f"{field}: {message}" if field else message)
        raise ConfigError(f"{where}: " + "; ".join(problems)) from error


def _fields_at(model: type[Any], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        model = field.annotation
    return list(model.model_fields)


def said(error: Exception) -> str:
    """What was wrong with a file of JSON, for people."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)
