"""Reading and answering: systems and peers side by side, in rounds that may be spread over several calls."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.bench.fit import needed_bytes
from fidkit.bench.outcome import make_rows
from fidkit.bench.peers import PEERS, make_peer
from fidkit.bench.questions import Questions, synthetic
from fidkit.bench.run import measure_subjects
from fidkit.bench.subjects import DTYPES, Facts, Needs, Ours, Subject
from fidkit.cost import HARDWARE, Workload, predict
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import generate
from fidkit.engine.precision import Precision
from fidkit.engine.schedule.room import available_bytes
from paper.record import Book, Deadline, Row, say
from paper.session import Session

# A reader that was never measured may take so much longer than predicted; warming up counts as a round.
UNKNOWN = 3
# Seconds before the first round: making weights, measuring the machine's peaks.
START_S = 20


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    Attributes:
        name: in rows; the system's, unless there are several of it.
        system: see `paper.sizes`; of a peer, its name.
        precision: of weights and activations.
        beams: hypotheses; 1 is greedy.
    """

    name: str
    system: str
    precision: Precision = "bfloat16"
    beams: int = 1

    def subject(self, session: Session) -> Subject:
        if self.system in PEERS:
            return make_peer(self.system, session.size.system("fid"), self.precision, session.device)
        weights = session.weights(session.size.system(self.system), DTYPES[self.precision])
        if self.beams > 1:
            return Beams(self.name, self.name, weights, self.precision, self.beams)
        return Ours(self.name, self.name, weights, self.precision)


class Beams(Ours):
    """Answers by beam search; beams share the cross-attention cache."""

    def __init__(self, name: str, preset: str, weights: object, precision: Precision, beams: int) -> None:
        super().__init__(name, preset, weights, precision)  # type: ignore[arg-type]
        self.beams = beams

    @property
    def facts(self) -> Facts:
        return dataclasses.replace(super().facts, beams=self.beams)

    def needs(self, workload: Workload) -> Needs:
        return super().needs(workload.replace(beams=self.beams))

    def decode(self, tokens: int) -> Tensor:
        assert self.context is not None, "encode first"
        decoding = Decoding(max_tokens=tokens, min_tokens=tokens, beams=self.beams)
        return generate(self.runner, self.context, decoding).ids_BT


@dataclass(frozen=True)
class Inference:
    """Entries that are measured in the same rounds.

    Attributes:
        name: of the unit.
        entries: lines.
        workload: what all read and write.
    """

    name: str
    entries: tuple[Entry, ...]
    workload: Workload

    def identities(self, session: Session) -> list[Row]:
        return [session.identity(self.name, e.name, self.workload.questions) for e in self.entries]

    def missing(self, session: Session, book: Book) -> int:
        """Rounds."""
        return book.missing(self.identities(session), session.rounds)

    def expected_s(self, session: Session) -> float:
        """A first guess at one round and warming up."""
        like = HARDWARE["h200" if session.device.type == "cuda" else "cpu-2core"]
        ms = sum(
            predict(
                session.size.system("fid" if e.system in PEERS else e.system),
                self.workload.replace(beams=e.beams),
                like,
            ).predicted["total_ms"]
            for e in self.entries
        )
        return START_S * (session.size_name != "tiny") + 2 * UNKNOWN * ms / 1000

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """Measure what is missing, as far as time goes; every group of entries adds rows when it is done."""
        questions = synthetic(self.workload, session.size.vocabulary)
        groups = self._groups(session)
        for entries in groups:
            group = dataclasses.replace(self, entries=entries)
            missing = group.missing(session, book)
            if missing and not deadline.over:
                say(f"{session.experiment} {self.name}: {', '.join(e.name for e in entries)}")
                try:
                    for row in group.measure(session, questions, missing, deadline):
                        book.add(row)
                except torch.OutOfMemoryError:
                    say(f"{self.name} ran out of memory, more was needed than estimated: left out")
            session.free(keep_weights=len(groups) == 1)

    def _groups(self, session: Session) -> list[tuple[Entry, ...]]:
        """All entries together if they fit into memory, else in as few groups as they fill one by one."""
        available = available_bytes(session.device)
        groups: list[list[Entry]] = []
        for entry in self.entries:
            if needed_bytes([entry.subject(session)], self.workload) > available:
                say(f"{entry.name} doesn't fit into memory at {self.name}: left out")
                continue
            together = [*groups[-1], entry] if groups else [entry]
            fits = needed_bytes([e.subject(session) for e in together], self.workload) <= available
            groups = [*groups[:-1], together] if groups and fits else [*groups, [entry]]
        return [tuple(group) for group in groups]

    def measure(self, session: Session, questions: Questions, rounds: int, deadline: Deadline) -> list[Row]:
        """Rows of up to `rounds` rounds; none if time is up before the first."""
        try:
            measured = measure_subjects(
                [entry.subject(session) for entry in self.entries],
                questions,
                output_tokens=self.workload.output_tokens,
                rounds=rounds,
                device=session.device,
                peaks=session.peaks,
                probe=session.probe,
                progress=Silent(),
                allows=deadline.allows,
            )
        except KeyboardInterrupt:  # there is no complete round to keep
            deadline.stop()
            return []
        if measured.interrupted:
            deadline.stop()
        if not measured.rounds:
            return []
        rows = make_rows(measured)
        return [self._told(row, entry, session) for row, entry in zip(rows, self.entries, strict=True)]

    def _told(self, row: Row, entry: Entry, session: Session) -> Row:
        row |= session.identity(self.name, entry.name, self.workload.questions)
        return row | {"precision": entry.precision}


class Silent:
    """Progress that is told elsewhere."""

    def advance(self, n: int = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


@functools.cache
def has_transformers() -> bool:
    """Whether peers can be measured."""
    return importlib.util.find_spec("transformers") is not None
