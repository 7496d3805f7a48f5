"""Times as rows of JSON, beside what the cost model says."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fidkit.bench import ceilings
from fidkit.bench.measure import STAGES, Round, summary, times_faster
from fidkit.bench.questions import Questions
from fidkit.bench.rows import PACKAGES, make_row
from fidkit.bench.run import Measured
from fidkit.bench.subjects import Subject, at_precision
from fidkit.config import ReaderConfig
from fidkit.cost import HARDWARE, Hardware, Prediction, Workload, batch_bytes, predict, step_bytes
from fidkit.cost.hardware import rates_by_dtype
from fidkit.cost.parts import ENCODER_STAGES


def make_rows(measured: Measured) -> list[dict[str, Any]]:
    """A row of JSON for each subject, in the order they were given."""
    return [_row(subject, measured) for subject in measured.subjects]


def _row(subject: Subject, measured: Measured) -> dict[str, Any]:
    facts, rounds = subject.facts, measured.rounds
    repeats = {stage: _repeats(rounds, subject.name, stage) for stage in (*STAGES, "few_ms", "memory_ms")}
    times = {stage: summary(repeats[stage]) if repeats[stage] else None for stage in (*STAGES, "memory_ms")}
    others = [other.name for other in measured.subjects if other is not subject]
    row = make_row(
        "bench",
        (*PACKAGES, "transformers"),
        subject=subject.name,
        preset=facts.preset,
        config=facts.config,
        shapes=measured.questions.shapes(measured.output_tokens),
        dtype=facts.dtype,
        beams=facts.beams,
        device=measured.device.type,
        native=facts.native,
        in_half=facts.in_half,
        threads=torch.get_num_threads(),
        rounds=len(rounds),
        warm_up_ms=measured.warm_up_ms[subject.name],
        encoder_error=measured.encoder_errors.get(subject.name),
        repeats=repeats,
        **times,
        faster_than={
            other: {stage: times_faster(rounds, subject.name, other, stage) for stage in STAGES}
            for other in others
        },
        **_beside(subject, measured, repeats),
    )
    row["hardware"] |= {
        "device": ceilings.describe(measured.device),
        "matrix_tflops": dict(measured.hardware.matrix_tflops),
        "bandwidth_gbs": measured.hardware.bandwidth_gbs,
        "rounds": [
            {"matrix_tflops": dict(machine.matrix_tflops), "bandwidth_gbs": machine.bandwidth_gbs}
            for machine in _machines(subject, measured)
        ],
    }
    return row


def _machines(subject: Subject, measured: Measured) -> list[Hardware]:
    """As they were before each of the subject's runs."""
    return [machines[subject.name] for machines in measured.machines]


def _beside(subject: Subject, measured: Measured, repeats: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """What the cost model says of a subject: None where it knows nothing of it.

    Ceilings are of useful tokens, whether or not the subject computes padding, on the machine at its best.
    Each repeat is held against the ceiling of its own time. The prediction is for the machine as it usually
    was, and knows the efficiency of our own kernels only.
    """
    facts, machines = subject.facts, _machines(subject, measured)
    if facts.reader is None:
        return {"work": None, "predicted": None, "ceiling": None, "fraction": None}
    workload = measured.questions.workload(measured.output_tokens).replace(beams=facts.beams)
    workload = at_precision(workload, facts.dtype, in_half=facts.in_half, native=facts.native)
    prediction = predict(facts.reader, workload, measured.hardware)
    usual = usually(machines or [measured.hardware])
    then = [_ceiling(predict(facts.reader, workload, machine)) for machine in machines]
    return {
        "work": {
            "encoder_flops": _flops(prediction, encoder=True),
            "decoder_flops": _flops(prediction, encoder=False),
            "step_bytes": step_bytes(facts.reader, workload),
            "memory_bytes": batch_bytes(facts.reader, workload).total,
        },
        "predicted": _predicted(facts.reader, workload, usual) if facts.preset else None,
        "ceiling": _ceiling(prediction),
        "fraction": {s: _fraction([each[s] for each in then], repeats[s]) for s in STAGES},
    }


def usually(machines: Sequence[Hardware]) -> Hardware:
    """The machine with the medians of what was measured of it again and again."""
    rates = {
        dtype: statistics.median(machine.matrix_tflops[dtype] for machine in machines)
        for dtype in machines[0].matrix_tflops
    }
    bandwidth = statistics.median(machine.bandwidth_gbs for machine in machines)
    return dataclasses.replace(machines[0], matrix_tflops=rates, bandwidth_gbs=bandwidth)


def predicted_again(row: Mapping[str, Any]) -> dict[str, float] | None:
    """What the cost model says now of the subject of a row, whenever that was measured.

    None of peers, and of rows that aren't of a reader.
    """
    if not row.get("predicted"):
        return None
    like = HARDWARE["h200" if row["device"] == "cuda" else "cpu-2core"]
    machines = [
        dataclasses.replace(
            like, matrix_tflops=rates_by_dtype(m["matrix_tflops"]), bandwidth_gbs=m["bandwidth_gbs"]
        )
        for m in row["hardware"]["rounds"]
    ]
    shapes = row["shapes"]
    workload = Questions.of_shapes(shapes).workload(shapes["output_tokens"]).replace(beams=row["beams"])
    in_half, native = row.get("in_half", True), row["native"]
    workload = at_precision(workload, row["dtype"], in_half=in_half, native=native)
    return _predicted(ReaderConfig.model_validate(row["config"]), workload, usually(machines))


def _predicted(config: ReaderConfig, workload: Workload, machine: Hardware) -> dict[str, float]:
    prediction = predict(config, workload, machine)
    return {**prediction.predicted, "step_ms": prediction.step_ms}


def _repeats(rounds: Sequence[Round], name: str, stage: str) -> list[float]:
    """A subject's times; none of steps where answers are too short to tell them."""
    return [ms for ms in (each[name].of(stage) for each in rounds) if ms is not None]


def _ceiling(prediction: Prediction) -> dict[str, float]:
    return {**prediction.ceiling, "step_ms": _step_ceiling_ms(prediction)}


def _fraction(ceilings_ms: Sequence[float], measured_ms: Sequence[float]) -> float | None:
    """Median over rounds; None if there is no time, or none positive: steps too short to tell from noise."""
    shares = [best / took for best, took in zip(ceilings_ms, measured_ms, strict=False) if took > 0]
    return statistics.median(shares) if shares else None


def _step_ceiling_ms(prediction: Prediction) -> float:
    """Of one step, averaged over all, logits included."""
    steps = [stage.ceiling_ms for stage in prediction.stages if stage.stage in ("decode", "head")]
    return sum(steps) / prediction.workload.output_tokens


def _flops(prediction: Prediction, *, encoder: bool) -> int:
    return sum(s.flops for s in prediction.stages if (s.stage in ENCODER_STAGES) is encoder)
