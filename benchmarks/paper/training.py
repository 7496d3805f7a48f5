"""Training steps: forward, backward and update, with the time of encoder and decoder told apart.

The fused states are cut out of the graph and put back: the decoder's time is that of its loss and of the
gradient of the states, the encoder's is that of the states and of its own gradient. Weights and optimiser are
float32; products are bfloat16 (autocast), as `fidkit train` has them, unless a step is asked for float32.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fidkit.bench.batches import pad_rows
from fidkit.bench.measure import rotated, summary
from fidkit.bench.questions import Questions, Tokens, synthetic
from fidkit.bench.subjects import building
from fidkit.bench.t5_fid import plain_fid, random_t5
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, collate
from fidkit.cost import Workload, total_flops, training_activations, training_state_bytes
from fidkit.engine.schedule.room import available_bytes
from fidkit.reader import Reader
from paper.record import Book, Deadline, say
from paper.session import Session

STAGES = ("encoder_ms", "decoder_ms", "update_ms", "total_ms")
PEER = "hf"
CLIP = 1.0
RATE = 1e-4
# By so much activations may exceed the estimate: the peer's are others.
RESERVE = 1.25
# FLOP/s that any machine reaches, to guess the time of the first step.
SLOWEST = {"cpu": 1e11, "cuda": 5e13}


class Step(ABC):
    """One way to train on the same batch; letters as in `fidkit.nn`."""

    model: nn.Module
    device: torch.device
    bfloat16 = True

    def __init__(self, name: str, config: ReaderConfig, device: torch.device, dropout: float) -> None:
        self.name, self.device, self.dropout = name, device, dropout
        self.config = config.replace(dropout=dropout)

    def prepare(self, questions: Questions, labels_BT: Tensor) -> None:
        """Make weights, optimiser and inputs."""
        self.make()
        self.load(questions, labels_BT)
        self.model.train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)

    def __call__(self, clock: Callable[[Callable[[], object]], float]) -> dict[str, float]:
        """One step, in milliseconds by stage."""
        forward, decoder, backward, update = (
            clock(part) for part in (self._encode, self._decode, self._backward, self._update)
        )
        encoder = forward + backward
        return dict(zip(STAGES, (encoder, decoder, update, encoder + decoder + update), strict=True))

    def load(self, questions: Questions, labels_BT: Tensor) -> None:
        """Train on these from now on; what pads a target is IGNORED."""
        self.labels_BT = labels_BT.to(self.device)
        self.put(questions)

    @abstractmethod
    def make(self) -> None:
        """Make the model."""

    @abstractmethod
    def put(self, questions: Questions) -> None:
        """Make its inputs."""

    @abstractmethod
    def encode(self) -> Tensor:
        """Fused states [B, M, D]."""

    @abstractmethod
    def loss(self, states_BMD: Tensor) -> Tensor:
        """Mean cross-entropy of the targets."""

    def _encode(self) -> None:
        with self._autocast():
            self.states_BMD = self.encode()
        self.leaf_BMD = self.states_BMD.detach().requires_grad_()

    def _decode(self) -> None:
        with self._autocast():
            loss = self.loss(self.leaf_BMD)
        loss.backward()

    def _backward(self) -> None:
        self.states_BMD.backward(self.leaf_BMD.grad)

    def _update(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


class OurStep(Step):
    """A reader of ours."""

    model: Reader

    def make(self) -> None:
        with building(torch.float32, self.device):
            self.model = Reader(self.config)

    def put(self, questions: Questions) -> None:
        self.batch = collate(questions.questions, questions.passages).to(self.device)

    def encode(self) -> Tensor:
        self.context = self.model.read(self.batch)
        return self.context.states_BMD

    def loss(self, states_BMD: Tensor) -> Tensor:
        context = dataclasses.replace(self.context, states_BMD=states_BMD)
        return self.model.answer_loss(self.labels_BT, context) / (self.labels_BT != IGNORED).sum()


class PeerStep(Step):
    """FiD on transformers' T5, with its default attention; rows are padded to `width`, or to the longest."""

    model: Any

    def __init__(
        self,
        name: str,
        config: ReaderConfig,
        device: torch.device,
        dropout: float,
        width: int | None = None,
    ) -> None:
        super().__init__(name, config, device, dropout)
        self.width = width

    def make(self) -> None:
        self.model = random_t5(plain_fid(self.config), torch.float32, self.device, "sdpa")
        _set_dropout(self.model, self.dropout)

    def put(self, questions: Questions) -> None:
        self.ids, self.mask = pad_to(self.width, questions.rows, self.config.pad_token, self.device)

    def encode(self) -> Tensor:
        states = self.model.encoder(input_ids=self.ids, attention_mask=self.mask).last_hidden_state
        return states.reshape(len(self.labels_BT), -1, states.shape[-1])

    def loss(self, states_BMD: Tensor) -> Tensor:
        mask_BM = self.mask.reshape(len(self.labels_BT), -1)
        done = self.model(encoder_outputs=(states_BMD,), attention_mask=mask_BM, labels=self.labels_BT)
        return done.loss


def pad_to(
    width: int | None, rows: Sequence[Tokens], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and mask of rows, padded to `width` tokens, or to the longest if that is more or None."""
    ids, mask = pad_rows(rows, pad, device)
    more = max(0, (width or 0) - ids.shape[1])
    return F.pad(ids, (0, more), value=pad), F.pad(mask, (0, more))


def _set_dropout(model: nn.Module, rate: float) -> None:
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = rate


@dataclass(frozen=True)
class Training:
    """Systems that are trained in the same rounds.

    Attributes:
        name: of the unit.
        systems: see `paper.sizes`; `hf` is FiD on transformers.
        workload: what all read, and the length of targets.
        dropout: 0.1 when the paper fine-tunes, 0 when it pre-trains.
    """

    name: str
    systems: tuple[str, ...]
    workload: Workload
    dropout: float

    def missing(self, session: Session, book: Book) -> int:
        """Rounds."""
        batch = self.workload.questions
        return book.missing([session.identity(self.name, s, batch) for s in self.systems], session.rounds)

    def expected_s(self, session: Session) -> float:
        """A first guess at one round and warming up."""
        flops = sum(
            total_flops(_config(session, system), self.workload, training=True) for system in self.systems
        )
        return 2 * flops / SLOWEST[session.device.type]

    def run(self, session: Session, book: Book, deadline: Deadline) -> None:
        """Measure what is missing, as far as time goes."""
        questions = synthetic(self.workload, session.size.vocabulary)
        labels = torch.randint(
            2,
            session.size.vocabulary,
            (self.workload.questions, self.workload.output_tokens),
            generator=torch.Generator().manual_seed(0),
        )
        for systems in self._groups(session):
            group = dataclasses.replace(self, systems=systems)
            missing = group.missing(session, book)
            if missing and not deadline.over:
                say(f"{session.experiment} {self.name}: {', '.join(systems)}")
                try:
                    self._measure(systems, session, questions, labels, missing, deadline, book)
                except torch.OutOfMemoryError:
                    say(f"{self.name} ran out of memory, more was needed than estimated: left out")
            session.free(keep_weights=False)

    def _groups(self, session: Session) -> list[tuple[str, ...]]:
        available = available_bytes(session.device)
        groups: list[tuple[str, ...]] = []
        for system in self.systems:
            if self._bytes(session, (system,)) > available:
                say(f"a training step of {system} doesn't fit into memory at {self.name}: left out")
            elif groups and self._bytes(session, (*groups[-1], system)) <= available:
                groups[-1] = (*groups[-1], system)
            else:
                groups.append((system,))
        return groups

    def _bytes(self, session: Session, systems: tuple[str, ...]) -> int:
        """State of all, and the activations of one at a time."""
        configs = [_config(session, system).replace(dropout=self.dropout) for system in systems]
        most = max(training_activations(config, self.workload).total for config in configs)
        return sum(map(training_state_bytes, configs)) + int(RESERVE * most)

    def _measure(
        self,
        systems: tuple[str, ...],
        session: Session,
        questions: Questions,
        labels: Tensor,
        rounds: int,
        deadline: Deadline,
        book: Book,
    ) -> None:
        steps = [
            (PeerStep if system == PEER else OurStep)(
                system, _config(session, system), session.device, self.dropout
            )
            for system in systems
        ]
        warm: dict[str, float] = {}
        for step in steps:
            if deadline.over:
                return
            step.prepare(questions, labels)
            warm[step.name] = step(session.clock)["total_ms"]
        done: list[dict[str, dict[str, float]]] = []
        expected_s = sum(warm.values()) / 1000
        while len(done) < rounds and deadline.allows(expected_s):
            done.append({step.name: step(session.clock) for step in rotated(steps, len(done))})
            expected_s = sum(times["total_ms"] for times in done[-1].values()) / 1000
        for step in steps if done else ():
            repeats = {stage: [times[step.name][stage] for times in done] for stage in STAGES}
            book.add(
                session.row_of(
                    self.name,
                    step.name,
                    self.workload.questions,
                    config=step.config.model_dump(mode="json"),
                    shapes=questions.shapes(self.workload.output_tokens),
                    dtype="bfloat16 autocast",
                    dropout=self.dropout,
                    warm_up_ms=warm[step.name],
                    repeats=repeats,
                    **{stage: summary(values) for stage, values in repeats.items()},
                )
            )


def _config(session: Session, system: str) -> ReaderConfig:
    return session.size.system("fid" if system == PEER else system)
