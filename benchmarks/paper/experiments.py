"""Each table and figure as units of work, the cheap ones first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fidkit.cost import HARDWARE, Workload
from paper.allocation import Growth, Limit
from paper.facts import BEAM_COST
from paper.formulas import Formula, largest_batches, operations
from paper.inference import Entry, Inference, has_transformers
from paper.record import Book, Deadline, say
from paper.session import Session
from paper.sizes import EVERY_PREFIX
from paper.training import Training

STEPS = ("fid", "lsa", "mq", "asym")
"""From FiD to FiDO, one part after the other."""
# The paper's training batches by chip: 2048 over 64 when pre-training, 64 over 32 when fine-tuning.
CUDA_BATCHES = {"pre-training": 32, "fine-tuning": 2}
GROWTH = (1, 2, 3, 4)
PRECISIONS = ("float32", "bfloat16", "int8")


class Unit(Protocol):
    """Something that is measured, and not measured again."""

    @property
    def name(self) -> str: ...

    def missing(self, session: Session, book: Book) -> int:
        """How much of it has no rows yet, 0 if all of it has."""
        ...

    def expected_s(self, session: Session) -> float:
        """Seconds before it has its first rows, guessed generously."""
        ...

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """Measure what is missing, as far as time goes."""
        ...


def figure_1(session: Session) -> list[Unit]:
    one = session.size.workload
    return [
        Formula("operations", ("fid", "asym"), one, operations),
        _inference("inference", session, ("fid", "asym")),
        Training("training", ("fid", "asym"), _batch(session, "fine-tuning", one), dropout=0.1),
    ]


def figure_2(session: Session) -> list[Unit]:
    return [_inference("inference", session, (*STEPS, *_peer("hf")))]


def figure_4(session: Session) -> list[Unit]:
    systems = tuple(f"{EVERY_PREFIX}{every}" for every in session.size.sweep_every)
    return [_inference("every", session, systems)]


def figure_6(session: Session) -> list[Unit]:
    size = session.size
    passages = [_inference(f"passages-{n}", session, STEPS, passages=n) for n in sorted(size.sweep_passages)]
    outputs = [_inference(f"output-{n}", session, STEPS, output_tokens=n) for n in sorted(size.sweep_outputs)]
    return [*passages, *outputs]


def table_1(session: Session) -> list[Unit]:
    one = session.size.workload
    units: list[Unit] = [Formula("model", STEPS, one, largest_batches)]
    if session.device.type == "cuda":
        units += [Limit("tpuv4-memory", s, one, HARDWARE["tpuv4"].memory_gb) for s in STEPS]
        units += [Limit("all-memory", s, one) for s in STEPS]
    return units + [Growth("growth", s, one, GROWTH) for s in STEPS]


def table_2(session: Session) -> list[Unit]:
    # The peer first: what doesn't fit into memory with FiD must not keep the two out of the same rounds.
    size, systems = session.size, (*_peer("hf"), *STEPS)
    return [
        Training("pre-training", systems, _batch(session, "pre-training", size.pretraining), dropout=0.0),
        Training("fine-tuning", systems, _batch(session, "fine-tuning", size.workload), dropout=0.1),
    ]


def table_3(session: Session) -> list[Unit]:
    return [_inference("inference", session, ("asym", "asym-no-lsa", "asym-no-mq", "mq"))]


def table_4(session: Session) -> list[Unit]:
    return [_inference("inference", session, ("fid", "light", "lsa"))]


def table_6(session: Session) -> list[Unit]:
    entries = (*map(_entry, ("fid", "lsa", "mq")), Entry("mq-beam-16", "mq", beams=16), _entry("asym"))
    entries += tuple(map(_entry, _peer("hf")))
    return [Inference("inference", entries, session.size.workload)]


def table_7(session: Session) -> list[Unit]:
    entries = (_entry("mq"), Entry("mq-beam", "mq", beams=BEAM_COST), _entry("asym"))
    return [Inference("inference", entries, _batched(session))]


def plan(session: Session) -> list[Unit]:
    one, batch = session.size.workload, session.batch
    few = max(1, one.passages // 4)
    short = max(1, one.lengths[0] // 2)
    floats = tuple(Entry(f"{s}-float32", s, precision="float32") for s in ("fid", "mq"))
    return [
        _inference("few-passages", session, ("fid", "lsa", "mq"), passages=few),
        _inference("batch", session, ("fid", "mq"), passages=few, questions=4 * batch),
        Inference("float32", floats, _batched(session, passages=few)),
        _inference(
            "short-passages",
            session,
            ("fid", "mq", "lumen-mq"),
            passage_tokens=short,
            output_tokens=2 * one.output_tokens,
        ),
        _inference("full", session, ("fid", "light", "lsa", "mq", "asym", "lumen")),
    ]


def precision(session: Session) -> list[Unit]:
    return [
        Inference(
            system,
            tuple(Entry(f"{system}-{name}", system, precision=name) for name in PRECISIONS),  # type: ignore[arg-type]
            _batched(session),
        )
        for system in STEPS
    ]


EXPERIMENTS: dict[str, Callable[[Session], list[Unit]]] = {
    "figure-1": figure_1,
    "figure-2": figure_2,
    "figure-4": figure_4,
    "figure-6": figure_6,
    "table-1": table_1,
    "table-2": table_2,
    "table-3": table_3,
    "table-4": table_4,
    "table-6": table_6,
    "table-7": table_7,
    "plan": plan,
    "precision": precision,
}


def _inference(name: str, session: Session, systems: tuple[str, ...], **changes: int) -> Inference:
    return Inference(name, tuple(map(_entry, systems)), _batched(session, **changes))


def _entry(system: str) -> Entry:
    return Entry(system, system)


def _batched(session: Session, **changes: int) -> Workload:
    return session.size.workload.replace(**{"questions": session.batch, **changes})


def _batch(session: Session, phase: str, workload: Workload) -> Workload:
    """A training batch: the paper's by chip on a GPU, one question on a CPU."""
    return workload.replace(questions=CUDA_BATCHES[phase] if session.device.type == "cuda" else 1)


def _peer(name: str) -> tuple[str, ...]:
    if has_transformers():
        return (name,)
    say("transformers isn't installed, so that FiD on it is left out: pip install 'fidkit[encoders]'")
    return ()
