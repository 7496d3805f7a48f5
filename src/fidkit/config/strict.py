"""Records that come from files of people: unknown keys are refused, and errors say where they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fidkit.config.refusals import refusals
from fidkit.errors import ConfigError


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
    try:
        return model.model_validate(record)
    except ValidationError as error:
        found = refusals(error.errors(), record, model)
        raise ConfigError(f"{where}: " + "; ".join(one.why for one in found)) from error


def said(error: Exception) -> str:
    """What was wrong with a file of JSON, for people."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)
