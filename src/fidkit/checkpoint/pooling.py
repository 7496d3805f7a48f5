"""How the states of an encoder become one vector of a text, as a checkpoint of ours keeps it.

It is true of the encoder as it came, so that it isn't carried on once a reader is trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fidkit.config import MOST, Strict, parse
from fidkit.config.strict import said
from fidkit.errors import CheckpointError

FILE = "pooling.json"
VERSION = 1


class Pooling(Strict):
    """From states to a vector.

    Attributes:
        way: the mean of all states, or that of the first token.
        normalised: vectors have length 1.
        tokens: longest text, with what stands in front of it and behind it.
        lower_case: texts are made lower case before the tokenizer sees them.
        prompts: what is put in front of a text, by name, such as `query`.
        prompt: the name of the one that a text gets unless told otherwise; None is none.
    """

    way: Literal["mean", "cls"] = "mean"
    normalised: bool = True
    tokens: int = Field(ge=3, le=MOST)
    lower_case: bool = False
    prompts: dict[str, str] = Field(default_factory=dict)
    prompt: str | None = None

    @model_validator(mode="after")
    def _known(self) -> Pooling:
        if self.prompt is not None and self.prompt not in self.prompts:
            raise ValueError(
                f"prompt is {self.prompt!r}, expected one of {', '.join(self.prompts) or 'none'}"
            )
        return self

    @classmethod
    def load(cls, path: Path) -> Pooling:
        """Read a `pooling.json`.

        Raises:
            CheckpointError: it can't be read, or is of a newer format.
            ConfigError: it says what can't be.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: expected a JSON object, but {said(error)}") from error
        if not isinstance(record, dict):
            raise CheckpointError(f"{path}: expected a JSON object, got {type(record).__name__}")
        if record.pop("format_version", None) != VERSION:
            raise CheckpointError(f"{path}: expected format_version {VERSION}; upgrade fidkit")
        pooling: Pooling = parse(cls, record, str(path))
        return pooling
