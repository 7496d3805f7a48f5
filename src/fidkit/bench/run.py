"""From names to times: make all subjects, check that they fit, measure them and the machine."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fidkit.bench import ceilings
from fidkit.bench.ceilings import Effort
from fidkit.bench.fit import check_fit
from fidkit.bench.measure import Clock, Round, rotated, run_round, warm_up
from fidkit.bench.peers import make_peer
from fidkit.bench.questions import Questions
from fidkit.bench.subjects import DTYPES, Ours, SharedWeights, Subject
from fidkit.bench.trace import write_trace
from fidkit.cost import Hardware
from fidkit.engine.precision import Precision
from fidkit.engine.schedule.room import available_bytes
from fidkit.errors import FidkitError
from fidkit.preset import named
from fidkit.types import Progress

PLAIN = "@plain"
# Before every subject, in half a second: what a shared machine can do changes from one moment to the next.
PROBE = Effort(seconds=0.05, dtypes=("bfloat16",), megabytes=256)


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        presets: of our own readers.
        peers: see `fidkit.bench.peers.PEERS`.
        precisions: each preset runs at each; peers at the first.
        plain: measure each preset without native kernels, too.
        rounds: repeats.
        output_tokens: T, of every answer.
        device: `cpu` or `cuda`.
        profile: where a trace of one round of our own subjects goes.
        effort: to measure ceilings with, before and after the rounds.
        probe: to measure them with before each round; None for the usual one, of what the precisions take.
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
    probe: Effort | None = None

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
        subjects: in the order they were given.
        questions: what all read.
        output_tokens: T, of every answer.
        device: they ran on.
        rounds: complete ones.
        warm_up_ms: of each subject, by name.
        hardware: the machine's ceilings, the best of all measurements.
        machines: the same as measured before each subject of each round, by its name.
        interrupted: somebody pressed Ctrl-C.
        encoder_errors: see `Subject.encoder_error`, by name.
    """

    subjects: Sequence[Subject]
    questions: Questions
    output_tokens: int
    device: torch.device
    rounds: Sequence[Round]
    warm_up_ms: dict[str, float]
    hardware: Hardware
    machines: Sequence[Mapping[str, Hardware]]
    interrupted: bool = False
    encoder_errors: Mapping[str, float | None] = field(default_factory=dict)


def make_subjects(request: Request) -> list[Subject]:
    """All that is to be measured; nothing is allocated yet.

    Raises:
        UsageError: no such preset.
    """
    ours: list[Subject] = []
    for preset in request.presets:
        config = named(preset)
        shared: dict[torch.dtype, SharedWeights] = {}
        for precision in request.precisions:
            dtype = DTYPES[precision]
            weights = shared.setdefault(dtype, SharedWeights(config, dtype, request.device))
            name = preset if precision == request.precisions[0] else f"{preset}@{precision}"
            ours.append(Ours(name, preset, weights, precision))
            if request.plain:
                ours.append(Ours(name + PLAIN, preset, weights, precision, plain=True))
    like = named(request.presets[0])
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
    subjects = make_subjects(request)
    check_fit(subjects, questions.workload(request.output_tokens), available_bytes(request.device))
    try:
        return _measure(subjects, request, questions, progress)
    except torch.OutOfMemoryError as error:
        raise FidkitError(
            "the device ran out of memory, more was needed than estimated; take a smaller --batch, fewer "
            "--passages or fewer subjects"
        ) from error


def measure_subjects(
    subjects: Sequence[Subject],
    questions: Questions,
    *,
    output_tokens: int,
    rounds: int,
    device: torch.device,
    peaks: Hardware,
    probe: Effort,
    progress: Progress,
    allows: Callable[[float], bool] = lambda seconds: True,
) -> Measured:
    """Make subjects ready and run them in interleaved rounds.

    Each round runs all, beginning with another one than the round before; only complete rounds are kept.

    Args:
        subjects: with different names; they fit into memory together.
        questions: what all read.
        output_tokens: T, of every answer.
        rounds: how many, at most.
        device: they run on.
        peaks: the machine's, as measured before.
        probe: to measure them with again before each round.
        progress: advances with every run of a subject.
        allows: whether what takes so many seconds may begin; asked before each subject (0) and round.

    Raises:
        KeyboardInterrupt: before the first round was complete.
    """
    clock = Clock(device)
    warm, errors = _prepared(subjects, questions, output_tokens, clock, progress, allows)
    rounds *= len(warm) == len(subjects)  # a round is of all subjects or of none
    done: list[tuple[Mapping[str, Hardware], Round]] = []
    expected_s, interrupted = sum(warm.values()) / 1000, False
    try:
        while len(done) < rounds and allows(expected_s):
            progress.describe(f"round {len(done) + 1} of {rounds}")
            began = time.perf_counter()
            machines: dict[str, Hardware] = {}
            watch = functools.partial(_note_machine, machines, device, probe, peaks)
            times = run_round(rotated(subjects, len(done)), output_tokens, clock, progress, watch)
            done.append((machines, times))
            expected_s = time.perf_counter() - began
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    return Measured(
        subjects=subjects,
        questions=questions,
        output_tokens=output_tokens,
        device=device,
        rounds=[times for _, times in done],
        warm_up_ms=warm,
        hardware=_best(peaks, [machines for machines, _ in done]),
        machines=[machines for machines, _ in done],
        interrupted=interrupted,
        encoder_errors=errors,
    )


def _best(peaks: Hardware, machines: Sequence[Mapping[str, Hardware]]) -> Hardware:
    """The most that the machine was ever seen to do."""
    return functools.reduce(
        better, (of_subject for of_round in machines for of_subject in of_round.values()), peaks
    )


def _note_machine(
    machines: dict[str, Hardware], device: torch.device, probe: Effort, peaks: Hardware, subject: Subject
) -> None:
    machines[subject.name] = _probed(device, probe, peaks)


def _prepared(
    subjects: Sequence[Subject],
    questions: Questions,
    output_tokens: int,
    clock: Clock,
    progress: Progress,
    allows: Callable[[float], bool],
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Milliseconds of each first run, and errors of encoders, by name; of subjects before time was up."""
    warm: dict[str, float] = {}
    errors: dict[str, float | None] = {}
    for subject in subjects:
        if not allows(0):
            break
        progress.describe(f"preparing {subject.name}")
        subject.prepare(questions)
        warm[subject.name] = warm_up(subject, output_tokens, clock)
        with torch.inference_mode():
            errors[subject.name] = subject.encoder_error()
        progress.advance()
    return warm, errors


def _measure(
    subjects: Sequence[Subject], request: Request, questions: Questions, progress: Progress
) -> Measured:
    def peaks() -> Hardware:
        progress.describe("measuring the machine")
        return ceilings.measure(request.device.type, request.effort)

    measured = measure_subjects(
        subjects,
        questions,
        output_tokens=request.output_tokens,
        rounds=request.rounds,
        device=request.device,
        peaks=peaks(),
        probe=request.probe or probe_of(request.precisions),
        progress=progress,
    )
    if measured.interrupted:  # what there is, at once
        return measured
    measured = dataclasses.replace(measured, hardware=better(measured.hardware, peaks()))
    if request.profile:
        progress.describe("profiling")
        own = [subject for subject in subjects if subject.facts.preset]
        write_trace(own, request.output_tokens, request.profile, request.device)
    return measured


def probe_of(precisions: Sequence[Precision]) -> Effort:
    """What measures the machine for products in these precisions, before each round."""
    dtypes = {"float32" if precision == "float32" else "bfloat16" for precision in precisions}
    return dataclasses.replace(PROBE, dtypes=(*sorted(dtypes), *(["int8"] if "int8" in precisions else [])))


def _probed(device: torch.device, probe: Effort, peaks: Hardware) -> Hardware:
    """The machine as it is now; rates that the probe leaves out are those of before."""
    now = ceilings.measure(device.type, probe)
    return dataclasses.replace(now, matrix_tflops={**peaks.matrix_tflops, **now.matrix_tflops})


def better(one: Hardware, other: Hardware) -> Hardware:
    """A machine with the higher of both peaks: disturbed measurements are too low, never too high."""
    rates = {
        dtype: max(machine.matrix_tflops.get(dtype, 0.0) for machine in (one, other))
        for dtype in {**one.matrix_tflops, **other.matrix_tflops}
    }
    bandwidth = max(one.bandwidth_gbs, other.bandwidth_gbs)
    return dataclasses.replace(one, matrix_tflops=rates, bandwidth_gbs=bandwidth)
