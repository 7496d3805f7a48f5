"""Reading and answering: systems and peers side by side, in rounds that may be spread over several calls."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fidkit.bench.fit import available_bytes, needed_bytes
from fidkit.bench.measure import FEW, Round, rotated, run_rounds, warm_up
from fidkit.bench.outcome import make_rows
from fidkit.bench.peers import PEERS, make_peer
from fidkit.bench.questions import Questions, synthetic
from fidkit.bench.run import Measured, Request, better
from fidkit.bench.subjects import DTYPES, Facts, Needs, Ours, Subject
from fidkit.cost import HARDWARE, Hardware, Workload, predict
from fidkit.engine import ceilings
from fidkit.engine.decoding import Decoding
from fidkit.engine.generate import generate
from fidkit.engine.runner import Precision
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
        # `fidkit.bench` predicts greedy decoding; better no prediction than that one.
        return dataclasses.replace(super().facts, reader=None)

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
                session.size.system("fid" if e.system in PEERS else e.system), self.workload, like
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
        subjects = [entry.subject(session) for entry in self.entries]
        tokens = self.workload.output_tokens
        warm: dict[str, float] = {}
        for subject in subjects:
            if deadline.over:
                return []
            subject.prepare(questions)
            warm[subject.name] = warm_up(subject, tokens, session.clock)
        machines: list[Hardware] = []
        done = _rounds(subjects, session, tokens, rounds, deadline, machines, sum(warm.values()) / 1000)
        if not done:
            return []
        best = functools.reduce(better, [session.peaks, *machines])
        measured = Measured(subjects, done, warm, best, machines)
        request = Request(
            presets=[e.name for e in self.entries],
            rounds=session.rounds,
            output_tokens=tokens,
            device=session.device,
        )
        rows = make_rows(request, questions, measured)
        return [self._told(row, entry, session) for row, entry in zip(rows, self.entries, strict=True)]

    def _told(self, row: Row, entry: Entry, session: Session) -> Row:
        row |= session.identity(self.name, entry.name, self.workload.questions)
        row |= {"precision": entry.precision, "beams": entry.beams}
        if self.workload.output_tokens <= FEW:  # too short to tell a step from the projection
            row["step_ms"] = None
            row["repeats"].pop("step_ms")
        return row


def _rounds(
    subjects: Sequence[Subject],
    session: Session,
    tokens: int,
    rounds: int,
    deadline: Deadline,
    machines: list[Hardware],
    expected_s: float,
) -> list[Round]:
    """Interleaved rounds until there are enough or the next one would end too late."""
    peaks = session.peaks

    def probe() -> None:
        now = ceilings.measure(session.device.type, session.probe)
        rates = {**peaks.matrix_tflops, **now.matrix_tflops}
        machines.append(dataclasses.replace(now, matrix_tflops=rates))

    done: list[Round] = []
    while len(done) < rounds and deadline.allows(expected_s):
        began = deadline.clock()
        in_order = rotated(subjects, len(done))
        try:
            done += run_rounds(in_order, 1, tokens, session.clock, Silent(), probe)
        except KeyboardInterrupt:  # the complete rounds are kept
            deadline.stop()
        expected_s = deadline.clock() - began
    return done


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
