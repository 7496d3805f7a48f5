"""What all units of one call share: device, size, weights, and what the machine was seen to do."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import Any

import torch

from fidkit.bench import ceilings
from fidkit.bench.ceilings import Effort
from fidkit.bench.measure import Clock
from fidkit.bench.rows import make_row
from fidkit.bench.run import PROBE
from fidkit.bench.subjects import SharedWeights
from fidkit.config import ReaderConfig
from fidkit.cost import Hardware
from paper.record import Row
from paper.sizes import SIZES, Size

QUICK = Effort(seconds=0.001, shapes=((32, 32, 32),), megabytes=1)
"""At size tiny, where times mean nothing."""


@dataclass
class Session:
    """One call of the command.

    Attributes:
        experiment: what is measured.
        size_name: of the systems.
        device: they run on.
        batch: questions at a time, where the experiment doesn't say.
        rounds: of each measurement.
        machine: the device in words.
    """

    experiment: str
    size_name: str
    device: torch.device
    batch: int
    rounds: int
    machine: str = ""
    _weights: dict[tuple[str, torch.dtype], SharedWeights] = field(default_factory=dict)
    _peaks: Hardware | None = None

    def __post_init__(self) -> None:
        self.machine = self.machine or ceilings.describe(self.device)

    @property
    def size(self) -> Size:
        return SIZES[self.size_name]

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    @property
    def probe(self) -> Effort:
        """To measure the machine's peaks with before each round."""
        return QUICK if self.size_name == "tiny" else PROBE

    @property
    def peaks(self) -> Hardware:
        """The machine's peaks, measured once a call."""
        if self._peaks is None:
            self._peaks = ceilings.measure(self.device.type, QUICK if self.size_name == "tiny" else None)
        return self._peaks

    def weights(self, config: ReaderConfig, dtype: torch.dtype) -> SharedWeights:
        """Random weights, made once for all units that run this reader."""
        return self._weights.setdefault(
            (config.model_dump_json(), dtype), SharedWeights(config, dtype, self.device)
        )

    def free(self, *, keep_weights: bool) -> None:
        """Give back what a unit no longer uses."""
        if not keep_weights:
            self._weights.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def identity(self, unit: str, system: str, batch: int) -> Row:
        """What a row is a measurement of (`paper.record.IDENTITY`)."""
        return {
            "experiment": self.experiment,
            "unit": unit,
            "system": system,
            "size": self.size_name,
            "device": self.device.type,
            "machine": self.machine,
            "batch": batch,
        }

    def row_of(self, unit: str, system: str, batch: int, **values: Any) -> Row:
        """A row that isn't of rounds: counts, allocations, training."""
        row = make_row(
            "paper", **self.identity(unit, system, batch), threads=torch.get_num_threads(), **values
        )
        row["hardware"]["device"] = self.machine
        return row
