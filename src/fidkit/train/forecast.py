"""What a run will need, stage by stage, before anything is loaded or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.checkpoint import CONFIG, locate
from fidkit.config import ReaderConfig
from fidkit.cost import Hardware, TrainingBytes, Workload, parameters, predict, training_bytes
from fidkit.cost.workload import COMPUTED
from fidkit.preset import named
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec


@dataclass(frozen=True)
class StageForecast:
    """A stage of a recipe.

    Attributes:
        stage: what it is.
        state_bytes: of weights, gradients and the optimiser, in all processes together.
        activation_bytes: of one batch on top, with the recipe's checkpointing.
        step_s: predicted seconds of a step, all its batches included.
        flops: of a step.
        peak_share: of the hardware's peak rate that the prediction reaches.
    """

    stage: StageSpec
    state_bytes: int
    activation_bytes: int
    step_s: float
    flops: int
    peak_share: float


@dataclass(frozen=True)
class RunForecast:
    """A recipe on a machine, in one process.

    Attributes:
        parameters: of the reader.
        stages: in order.
        hardware: the machine.
    """

    parameters: int
    stages: tuple[StageForecast, ...]
    hardware: Hardware

    @property
    def seconds(self) -> float:
        """Of all steps; evaluations and saves come on top."""
        return sum(s.stage.steps * s.step_s for s in self.stages)

    @property
    def bytes(self) -> int:
        """Of the stage that needs most."""
        return max(s.state_bytes + s.activation_bytes for s in self.stages)


def forecast(recipe: Recipe, hardware: Hardware) -> RunForecast:
    """Predict a run; texts are taken to be as long as the reader reads and writes them at most.

    Raises:
        CheckpointError, ConfigError: no such reader.
        UsageError: the hardware has no rate for the recipe's precision.
    """
    config = config_of(recipe)
    stages = tuple(_stage(recipe, stage, config, hardware) for stage in recipe.stages)
    return RunForecast(parameters(config), stages, hardware)


def config_of(recipe: Recipe) -> ReaderConfig:
    """The configuration of the reader that a recipe trains, without its weights."""
    spec = recipe.reader
    started = ReaderConfig.load(locate(spec.start) / CONFIG) if spec.start is not None else None
    config = started or named(str(spec.preset))
    return config.replace(**{"dropout": recipe.dropout, **spec.changes})


def _stage(recipe: Recipe, stage: StageSpec, config: ReaderConfig, hardware: Hardware) -> StageForecast:
    workload = Workload(
        questions=stage.questions,
        passages=stage.passages,
        passage_tokens=config.passage_tokens,
        question_tokens=config.question_tokens,
        output_tokens=recipe.target_tokens,
        dtype=recipe.precision,
        memory=COMPUTED,
    )
    memory = training_bytes(config, workload)
    predicted = predict(config, workload, hardware, training=True)
    seconds = predicted.predicted["total_ms"] / 1e3
    return StageForecast(
        stage=stage,
        state_bytes=memory.state,
        activation_bytes=_activations(memory, recipe.checkpointing),
        step_s=stage.accumulate * seconds,
        flops=stage.accumulate * predicted.flops,
        peak_share=predicted.flops / seconds / hardware.rate(recipe.precision),
    )


def _activations(memory: TrainingBytes, checkpointing: Sequence[str]) -> int:
    """With the stacks computed again that the recipe says."""
    kept, again = memory.activations, memory.checkpointed
    encoder = (again if "encoder" in checkpointing else kept).encoder
    decoder = (again if "decoder" in checkpointing else kept).decoder
    return encoder + decoder + kept.logits
