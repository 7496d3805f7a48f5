"""Shares of operations, by formula: nothing runs."""

from __future__ import annotations

from dataclasses import dataclass

from fidkit.cost import Workload, exact_flops, paper_flops
from fidkit.cost.parts import DECODER_STAGES
from paper.record import Book, Deadline
from paper.session import Session


@dataclass(frozen=True)
class Counts:
    """Operations of encoder and decoder.

    Attributes:
        name: of the unit.
        systems: see `paper.sizes`.
        workload: a batch.
    """

    name: str
    systems: tuple[str, ...]
    workload: Workload

    def missing(self, session: Session, book: Book) -> int:
        """1 until it is done."""
        return book.missing([session.identity(self.name, s, 0) for s in self.systems], 1)

    def expected_s(self, session: Session) -> float:
        """None to speak of."""
        return 0.0

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """A row for each system: exact FLOPs, and the paper's multiplications."""
        for system in self.systems:
            config = session.size.system(system)
            stages = {
                stage: sum(parts.values()) for stage, parts in exact_flops(config, self.workload).items()
            }
            decoder = sum(stages.get(stage, 0) for stage in DECODER_STAGES)
            paper = paper_flops(config, self.workload)
            book.add(
                session.row_of(
                    self.name,
                    system,
                    0,
                    config=config.model_dump(mode="json"),
                    encoder=sum(stages.values()) - decoder,
                    decoder=decoder,
                    paper_encoder=paper.encoder,
                    paper_decoder=paper.decoder,
                )
            )
