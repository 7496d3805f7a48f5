"""Everything that is known of a workload before it runs, in one record: what `fidkit plan` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fidkit.config import ReaderConfig, StackConfig
from fidkit.cost.flops import PaperFlops, paper_flops
from fidkit.cost.hardware import Hardware
from fidkit.cost.hints import Hint, suggest
from fidkit.cost.ram import BatchBytes, batch_bytes, largest_batch
from fidkit.cost.roofline import Build, Prediction, build, predict
from fidkit.cost.traffic import Intensities, paper_intensities
from fidkit.cost.training import TrainingBytes, training_bytes
from fidkit.cost.weights import parameters
from fidkit.cost.workload import Workload


@dataclass(frozen=True)
class CostPlan:
    """A workload of a reader on a machine.

    Attributes:
        prediction: operations, bytes and time by stage.
        parameters: of the reader.
        memory: bytes of the batch, or of the training step.
        needed_bytes: at once; of a training step without its activations.
        largest_batch: most questions that fit; None for a training step.
        store: the memory of a corpus; None where none is stored.
        paper: multiplications by the FiDO paper's formulas.
        intensities: by the FiDO paper's equations.
        hints: what else would cost; empty for a training step.
    """

    prediction: Prediction
    parameters: int
    memory: BatchBytes | TrainingBytes
    needed_bytes: int
    largest_batch: int | None
    store: Build | None
    paper: PaperFlops
    intensities: Intensities
    hints: tuple[Hint, ...]

    @property
    def training(self) -> bool:
        return isinstance(self.memory, TrainingBytes)

    @property
    def usable_bytes(self) -> int:
        """RAM of the machine that batches may fill."""
        return self.prediction.hardware.usable_bytes

    @property
    def missing_bytes(self) -> int:
        """By how much it doesn't fit; 0 when it does."""
        return max(0, self.needed_bytes - self.usable_bytes)

    def to_json(self) -> dict[str, Any]:
        predicted = self.prediction
        return {
            "training": self.training,
            "parameters": self.parameters,
            "workload": asdict(predicted.workload),
            "hardware": predicted.hardware.to_json(),
            "stages": [stage.to_json() for stage in predicted.stages],
            "flops": predicted.flops,
            "bytes": predicted.bytes,
            "ceiling": predicted.ceiling,
            "predicted": predicted.predicted,
            "ms_per_question": predicted.ms_per_question,
            "step_ms": None if self.training else predicted.step_ms,
            "paper": {
                "encoder_multiplications": self.paper.encoder,
                "decoder_multiplications": self.paper.decoder,
                "operational_intensity": asdict(self.intensities),
            },
            "memory": {
                **asdict(self.memory),
                "total": self.needed_bytes,
                "usable": self.usable_bytes,
                "fits": not self.missing_bytes,
                "largest_batch": self.largest_batch,
            },
            "store": self.store.to_json() if self.store else None,
            "hints": [hint.to_json() for hint in self.hints],
        }


def make_plan(
    config: ReaderConfig,
    workload: Workload,
    hardware: Hardware,
    *,
    corpus_passages: int | None = None,
    sizes: Mapping[str, StackConfig] | None = None,
    training: bool = False,
) -> CostPlan:
    """Predict all there is to know.

    Args:
        config: the reader.
        workload: the batch.
        hardware: where it runs.
        corpus_passages: whose memory is stored, as `workload.memory` says; None plans no store.
        sizes: named stacks, the smallest first, for hints about the decoder.
        training: a training step over given targets instead of answers.

    Raises:
        UsageError: a dtype without a rate, or a store for a reader that stores nothing.
    """
    packs = hardware.packs
    memory = training_bytes(config, workload) if training else batch_bytes(config, workload, packs=packs)
    store = None
    if corpus_passages is not None:
        store = build(config, workload, hardware, passages=corpus_passages, codec=workload.memory)
    return CostPlan(
        prediction=predict(config, workload, hardware, training=training),
        parameters=parameters(config),
        memory=memory,
        needed_bytes=memory.total if isinstance(memory, BatchBytes) else memory.state,
        largest_batch=None
        if training
        else largest_batch(config, workload, hardware.usable_bytes, packs=packs),
        store=store,
        paper=paper_flops(config, workload),
        intensities=paper_intensities(config, workload),
        hints=() if training else tuple(suggest(config, workload, hardware, sizes)),
    )
