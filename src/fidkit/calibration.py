"""How likely an answer is right: signals of an answer, and what a reader's calibration makes of them.

A calibration is a logistic regression on signals, fitted on answers that were judged
(`fidkit.evaluate.calibration`) and kept beside the weights as `calibration.json`. Without one, confidence is
raw: the probability that the reader gives to its own answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fidkit.config.strict import Strict, parse, said
from fidkit.errors import CheckpointError, ConfigError

FILE = "calibration.json"
VERSION = 1

SIGNALS = {
    "end": "log-odds of ending at once, that is of writing no answer",
    "likelihood": "mean log-probability of the answer's tokens",
    "least": "log-probability of its least likely token",
    "margin": "how much likelier its first token is than the next best, in nats",
    "length": "logarithm of its number of tokens",
    "share": "largest share of a passage in the answer",
    "agreement": "logarithm of how many passages have the answer",
    "verbatim": "1 if a passage or a title has the answer, else 0",
    "repeated": "share of the answer's words that the question has already",
    "overlap": "share of the question's words that stand in the passage the answer was copied from",
    "nearness": "share of the question's words that stand in the sentence around the answer",
    "passages": "logarithm of how many passages were read",
    "meaning": "how near the question and the sentence around the answer are in meaning, a cosine",
}
"""What is known of an answer once it is written. One that can't be told (`nearness` of an answer that stands
in no sentence) is absent, and counts as its mean over the answers that were fitted on."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Signal(Strict):
    """What one signal adds to the log-odds of being right: weight * (signal - mean) / deviation."""

    weight: Finite
    mean: Finite
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Calibration(Strict):
    """From signals to a probability.

    Attributes:
        signals: by name, of `SIGNALS`.
        intercept: log-odds of being right with signals at their means.
        threshold: below this confidence an answer is withheld.
        fitted_on: what, in words.
        version: of the file.
    """

    signals: dict[str, Signal]
    intercept: Finite
    threshold: Annotated[float, Field(ge=0, le=1)]
    fitted_on: str = ""
    version: int = VERSION

    @model_validator(mode="after")
    def _known(self) -> Calibration:
        if self.version != VERSION:
            raise ValueError(f"version is {self.version}; this fidkit reads {VERSION}")
        if unknown := sorted(self.signals.keys() - SIGNALS.keys()):
            raise ValueError(f"signal {unknown[0]!r} is unknown (known: {', '.join(SIGNALS)})")
        return self

    def confidence(self, signals: Mapping[str, float]) -> float:
        """Probability that an answer with these signals is right (exact match)."""
        odds = self.intercept + sum(
            s.weight * (signals[name] - s.mean) / s.deviation
            for name, s in self.signals.items()
            if name in signals
        )
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, odds))))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            CheckpointError: says what is wrong with the file.
        """
        try:
            found: Calibration = parse(cls, json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: {said(error)}; put back the reader's own, or delete it"
            ) from error
        except ConfigError as error:
            raise CheckpointError(f"{error}; put back the reader's own, or delete it") from error
        return found


def raw_confidence(signals: Mapping[str, float]) -> float:
    """The probability that a reader gives to its own answer, end of sequence included."""
    return math.exp(min(0.0, signals["likelihood"] * math.exp(signals["length"])))
