"""What follows from formulas: nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fidkit.config import ReaderConfig
from fidkit.cost import HARDWARE, Workload, exact_flops, largest_batch, paper_flops
from fidkit.cost.parts import DECODER_STAGES
from paper.record import Book, Deadline, Row
from paper.session import Session

BUDGETS = ("tpuv4", "h200")
"""Hardware whose memory the cost model fills: the paper's, and ours."""


@dataclass(frozen=True)
class Formula:
    """What the cost model says of systems.

    Attributes:
        name: of the unit.
        systems: see `paper.sizes`.
        workload: what all read and write.
        values: the fields of a row.
    """

    name: str
    systems: tuple[str, ...]
    workload: Workload
    values: Callable[[ReaderConfig, Workload], Row]

    def missing(self, session: Session, book: Book) -> int:
        """1 until it is done."""
        return book.missing([session.identity(self.name, s, 0) for s in self.systems], 1)

    def expected_s(self, session: Session) -> float:
        """None to speak of."""
        return 0.0

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """A row for each system."""
        for system in self.systems:
            config = session.size.system(system)
            found = self.values(config, self.workload)
            book.add(session.row_of(self.name, system, 0, config=config.model_dump(mode="json"), **found))


def operations(config: ReaderConfig, workload: Workload) -> Row:
    """Of encoder and decoder: exact FLOPs, and the paper's multiplications."""
    stages = {stage: sum(parts.values()) for stage, parts in exact_flops(config, workload).items()}
    decoder = sum(stages.get(stage, 0) for stage in DECODER_STAGES)
    paper = paper_flops(config, workload)
    return {
        "encoder": sum(stages.values()) - decoder,
        "decoder": decoder,
        "paper_encoder": paper.encoder,
        "paper_decoder": paper.decoder,
    }


def largest_batches(config: ReaderConfig, workload: Workload) -> Row:
    """Of one question each, by the cost model, for the memory of `BUDGETS`."""
    fits = {
        name: {
            "memory_gb": HARDWARE[name].memory_gb,
            "batch": largest_batch(config, workload, HARDWARE[name].usable_bytes),
        }
        for name in BUDGETS
    }
    return {"largest_batch": fits}
