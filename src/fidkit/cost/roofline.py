"""Time of a workload on a machine: the roofline of every part, and what kernels get of it.

A part takes the longer of its arithmetic at peak rate and its traffic at peak bandwidth (the roofline model
of the FiDO paper, applied part by part). The sum is the ceiling: nothing computes these parts faster. The
prediction divides either by the share that kernels reach and adds overheads; both come from `Hardware`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fidkit.config import ReaderConfig
from fidkit.cost.hardware import Hardware
from fidkit.cost.parts import DECODER_STAGES, ENCODER_STAGES, STAGES, Part, list_parts, memory_parts
from fidkit.cost.store import require_memory, store_bytes
from fidkit.cost.workload import RowCount, Workload

COMPUTE, TRAFFIC, OVERHEAD = "compute", "traffic", "overhead"


@dataclass(frozen=True)
class PartTime:
    """A part with its times, in seconds.

    Attributes:
        part: what is done.
        ceiling: at peak rate or peak bandwidth, whichever takes longer.
        predicted: as kernels reach them, overheads included.
        bound: what the prediction is bound by: `compute`, `traffic` or `overhead`.
    """

    part: Part
    ceiling: float
    predicted: float
    bound: str


@dataclass(frozen=True)
class StageTime:
    """A stage of a batch.

    Attributes:
        stage: one of `fidkit.cost.parts.STAGES`.
        flops: floating-point operations.
        bytes: moved through memory, element-wise work that can be fused apart.
        ceiling_ms, predicted_ms: milliseconds.
        bound: what most of the predicted time is bound by.
        parts: in the order they run.
    """

    stage: str
    flops: int
    bytes: int
    ceiling_ms: float
    predicted_ms: float
    bound: str
    parts: tuple[PartTime, ...]

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "flops": self.flops,
            "bytes": self.bytes,
            "intensity": self.intensity,
            "ceiling_ms": self.ceiling_ms,
            "predicted_ms": self.predicted_ms,
            "bound": self.bound,
        }


@dataclass(frozen=True)
class Prediction:
    """Times of a batch, by stage. Stages that a reader doesn't have are left out."""

    config: ReaderConfig
    workload: Workload
    hardware: Hardware
    stages: tuple[StageTime, ...]

    @property
    def ceiling(self) -> dict[str, float]:
        """`encoder_ms`, `decoder_ms` and `total_ms` of a batch at the peaks of the hardware."""
        return self._sums({stage.stage: stage.ceiling_ms for stage in self.stages})

    @property
    def predicted(self) -> dict[str, float]:
        """`encoder_ms`, `decoder_ms` and `total_ms` of a batch as kernels run.

        The encoder is everything up to the fused context, fetching memory included; the decoder projects
        cross keys and values and takes all steps, logits included. A training step's backward pass is in
        the total only.
        """
        return self._sums({stage.stage: stage.predicted_ms for stage in self.stages})

    @property
    def flops(self) -> int:
        return sum(stage.flops for stage in self.stages)

    @property
    def bytes(self) -> int:
        return sum(stage.bytes for stage in self.stages)

    @property
    def ms_per_question(self) -> float:
        """Predicted, at this batch size."""
        return self.predicted["total_ms"] / self.workload.questions

    @property
    def step_ms(self) -> float:
        """Predicted time of one decoding step, averaged over all; logits included."""
        steps = sum(stage.predicted_ms for stage in self.stages if stage.stage in ("decode", "head"))
        return steps / self.workload.output_tokens

    @staticmethod
    def _sums(ms: dict[str, float]) -> dict[str, float]:
        return {
            "encoder_ms": sum(ms.get(stage, 0.0) for stage in ENCODER_STAGES),
            "decoder_ms": sum(ms.get(stage, 0.0) for stage in DECODER_STAGES),
            "total_ms": sum(ms.values()),
        }


def predict(
    config: ReaderConfig, workload: Workload, hardware: Hardware, *, training: bool = False
) -> Prediction:
    """Time of a batch on `hardware`.

    Args:
        config: the reader.
        workload: the batch.
        hardware: see `fidkit.cost.hardware`.
        training: a forward and backward pass over given targets instead of generating them.

    Raises:
        UsageError: the hardware has no rate for one of the workload's dtypes.
    """
    timed = [_time(part, hardware) for part in list_parts(config, workload, training=training)]
    steps = 1 if training else workload.output_tokens
    stages = []
    for stage in STAGES:
        of_stage = tuple(t for t in timed if t.part.stage == stage)
        if of_stage:
            extra = steps * hardware.step_us * 1e-6 if stage == "decode" else 0.0
            stages.append(_stage(stage, of_stage, extra))
    return Prediction(config, workload, hardware, tuple(stages))


@dataclass(frozen=True)
class Build:
    """Building the memory of a corpus.

    Attributes:
        passages: of the corpus.
        bytes: of the store.
        flops: of the memory encoder.
        ceiling_s, predicted_s: encoding and writing, in seconds.
    """

    passages: int
    bytes: int
    flops: int
    ceiling_s: float
    predicted_s: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def build(
    config: ReaderConfig, workload: Workload, hardware: Hardware, *, passages: int, codec: str = "bf16"
) -> Build:
    """Size of a corpus' memory and the time to build it, once.

    Args:
        config: a reader with memory layers.
        workload: lengths (their mean is taken) and dtype.
        hardware: where it is built.
        passages: of the corpus.
        codec: `float32`, `bf16`, `int8` or `pq`.

    Raises:
        UsageError: a reader without memory layers, unknown codec or dtype.
    """
    require_memory(config)
    lengths = workload.lengths
    tokens = passages * sum(lengths) // len(lengths)
    pairs = passages * sum(n * n for n in lengths) // len(lengths)
    work = memory_parts(config, RowCount(tokens, pairs), workload)
    timed = [_time(part, hardware) for part in work]
    size = store_bytes(config, tokens, codec)
    writing = size / (hardware.store_gbs * 1e9)
    return Build(
        passages=passages,
        bytes=size,
        flops=sum(t.part.flops for t in timed),
        ceiling_s=sum(t.ceiling for t in timed) + writing,
        predicted_s=sum(t.predicted for t in timed) + writing,
    )


def _time(part: Part, hardware: Hardware) -> PartTime:
    launching = part.launches * hardware.launch_us * 1e-6
    if part.kind == "fetch":
        seconds = part.bytes / (hardware.store_gbs * 1e9)
        return PartTime(part, seconds, seconds, TRAFFIC)
    if part.kind == "elementwise":
        seconds = hardware.elementwise * part.bytes / hardware.bandwidth
        return PartTime(part, 0.0, seconds, TRAFFIC)
    compute, traffic = part.flops / hardware.rate(part.dtype), part.bytes / hardware.bandwidth
    widening = hardware.widening * part.widened / hardware.rate(part.dtype)
    share = hardware.of_kind(part.kind)
    slower = {
        COMPUTE: (compute + widening) / share.compute,
        TRAFFIC: traffic / share.traffic,
        OVERHEAD: launching,
    }
    predicted = max(slower[COMPUTE], slower[TRAFFIC]) + launching
    return PartTime(part, max(compute, traffic), predicted, max(slower, key=lambda way: slower[way]))


def _stage(stage: str, timed: tuple[PartTime, ...], extra_s: float) -> StageTime:
    return StageTime(
        stage=stage,
        flops=sum(t.part.flops for t in timed),
        bytes=sum(t.part.bytes for t in timed if t.part.kind != "elementwise"),
        ceiling_ms=1000 * sum(t.ceiling for t in timed),
        predicted_ms=1000 * (sum(t.predicted for t in timed) + extra_s),
        bound=_bound(timed, extra_s),
        parts=timed,
    )


def _bound(timed: Iterable[PartTime], extra_s: float) -> str:
    seconds = {COMPUTE: 0.0, TRAFFIC: 0.0, OVERHEAD: extra_s}
    for t in timed:
        seconds[t.bound] += t.predicted
    return max(seconds, key=lambda way: seconds[way])
