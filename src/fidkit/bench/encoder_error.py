"""How far an encoder's states are from those of the same weights in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from fidkit.bench.questions import Questions
from fidkit.config import ReaderConfig
from fidkit.cost import parameters
from fidkit.engine.schedule.room import available_bytes

PASSAGES = 8
"""Of the first question, at most: float32 takes its time."""


def sample(questions: Questions) -> Questions:
    """The rows whose states are compared."""
    return Questions(questions.questions[:1], [questions.passages[0][:PASSAGES]], questions.source)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Root of the mean square of what is wrong, by that of what is right."""
    right = expected.float()
    return float((found.float() - right).norm() / right.norm())


def fits_float32(config: ReaderConfig, device: torch.device) -> bool:
    """Whether there is room for a copy of all weights in float32."""
    return 4 * parameters(config) <= available_bytes(device)
