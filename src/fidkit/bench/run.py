"""From names to times: make all subjects, check that they fit, measure them and the machine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fidkit import systems
from fidkit.bench.fit import available_bytes, check_fit
from fidkit.bench.measure import Clock, Progress, Round, run_rounds, warm_up
from fidkit.bench.peers import make_peer
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import DTYPES, Ours, Subject, Weights
from fidkit.bench.trace import write_trace
from fidkit.cost import Hardware
from fidkit.engine import ceilings
from fidkit.engine.ceilings import Effort
from fidkit.engine.runner import Precision
from fidkit.errors import FidkitError

PLAIN = "@plain"
# Before every round, in half a second: what a shared machine can do changes from one minute to the next.
PROBE = Effort(seconds=0.1, dtypes=("bf16",), megabytes=256)


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        presets: of our own readers.
        peers: see `fidkit.bench.peers.PEERS`.
        precisions: each preset runs at each; peers at the first.
        plain: measure each preset without native kernels, too.
        rounds: repeats.
        output_tokens: T, of every answer, more than `fidkit.bench.measure.FEW`.
        device: `cpu` or `cuda`.
        profile: where a trace of one round of our own subjects goes.
        effort: to measure ceilings with, before and after the rounds.
        probe: to measure them with before each round.
    """

    presets: Sequence[str]
    peers: Sequence[str] = ()
    precisions: Sequence[Precision] = ("bfloat16",)
    plain: bool = False
    rounds: int = 7
    output_tokens: int = 32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    profile: Path | None = None
    effort: Effort | None = None
    probe: Effort = PROBE

    @property
    def subjects(self) -> int:
        return len(self.presets) * len(self.precisions) * (1 + self.plain) + len(self.peers)

    @property
    def runs(self) -> int:
        """Of all subjects in all rounds, warming up included."""
        return self.subjects * (self.rounds + 1)


@dataclass(frozen=True)
class Measured:
    """What came of it.

    Attributes:
        subjects: in the order of the request.
        rounds: complete ones.
        warm_up_ms: of each subject, by name.
        hardware: the machine's ceilings, the best of all measurements.
        machines: the same as measured before each round.
    """

    subjects: Sequence[Subject]
    rounds: Sequence[Round]
    warm_up_ms: dict[str, float]
    hardware: Hardware
    machines: Sequence[Hardware]


def make_subjects(request: Request) -> list[Subject]:
    """All that is to be measured; nothing is allocated yet.

    Raises:
        UsageError: no such preset.
    """
    ours: list[Subject] = []
    for preset in request.presets:
        config = systems.config(preset)
        shared: dict[torch.dtype, Weights] = {}
        for precision in request.precisions:
            dtype = DTYPES[precision]
            weights = shared.setdefault(dtype, Weights(config, dtype, request.device))
            name = preset if precision == request.precisions[0] else f"{preset}@{precision}"
            ours.append(Ours(name, preset, weights, precision))
            if request.plain:
                ours.append(Ours(name + PLAIN, preset, weights, precision, plain=True))
    like = systems.config(request.presets[0])
    return ours + [make_peer(name, like, request.precisions[0], request.device) for name in request.peers]


def measure(request: Request, questions: Questions, progress: Progress) -> Measured:
    """Measure everything, in a time of seconds to an hour.

    Args:
        request: checked (`fidkit.bench.peers.check_peers`).
        questions: what all read.
        progress: advances with every run of a subject, `request.runs` times.

    Raises:
        UsageError: it doesn't fit into memory.
        FidkitError: a peer's compiler fails, or a device runs out of memory all the same.
        KeyboardInterrupt: before the first round was complete.
    """
    subjects, clock = make_subjects(request), Clock(request.device)
    check_fit(subjects, questions.workload(request.output_tokens), available_bytes(request.device))
    try:
        return _measure(subjects, request, questions, clock, progress)
    except torch.OutOfMemoryError as error:
        raise FidkitError(
            "the device ran out of memory, more was needed than estimated; take a smaller --batch, fewer "
            "--passages or fewer subjects"
        ) from error


def _measure(
    subjects: Sequence[Subject], request: Request, questions: Questions, clock: Clock, progress: Progress
) -> Measured:
    warm = {}
    for subject in subjects:
        progress.describe(f"preparing {subject.name}")
        subject.prepare(questions)
        warm[subject.name] = warm_up(subject, request.output_tokens, clock)
        progress.advance()
    progress.describe("measuring the machine")
    found = [ceilings.measure(request.device.type, request.effort)]
    machines: list[Hardware] = []

    def probe() -> None:
        now = ceilings.measure(request.device.type, request.probe)
        rates = {**found[0].matrix_tflops, **now.matrix_tflops}
        machines.append(dataclasses.replace(now, matrix_tflops=rates))

    rounds = run_rounds(subjects, request.rounds, request.output_tokens, clock, progress, probe)
    complete = len(rounds) == request.rounds
    if complete:  # else interrupted: what there is, at once
        progress.describe("measuring the machine")
        found.append(ceilings.measure(request.device.type, request.effort))
    if complete and request.profile:
        progress.describe("profiling")
        own = [subject for subject in subjects if subject.facts.preset]
        write_trace(own, request.output_tokens, request.profile, request.device)
    return Measured(subjects, rounds, warm, functools.reduce(better, [*found, *machines]), machines)


def better(one: Hardware, other: Hardware) -> Hardware:
    """A machine with the higher of both peaks: disturbed measurements are too low, never too high."""
    rates = {
        dtype: max(machine.matrix_tflops.get(dtype, 0.0) for machine in (one, other))
        for dtype in {**one.matrix_tflops, **other.matrix_tflops}
    }
    bandwidth = max(one.bandwidth_gbs, other.bandwidth_gbs)
    return dataclasses.replace(one, matrix_tflops=rates, bandwidth_gbs=bandwidth)
