"""A training run as data: what a recipe file may say, and what it means.

Every key is checked; the resolved recipe is written beside the checkpoints.
"""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from fidkit.config import Strict, parse
from fidkit.cost.workload import OLD_DTYPES
from fidkit.errors import ConfigError
from fidkit.native.threads import MOST as MOST_THREADS
from fidkit.train.specs import (
    EvaluationSpec,
    GuideSpec,
    HealthSpec,
    OptimiserSpec,
    ReaderSpec,
    StageSpec,
    TaskSpec,
    TeacherSpec,
)

LONGEST_SHOWN = 80
"""Characters of a change that a message repeats."""
logger = logging.getLogger(__name__)


class Recipe(Strict):
    """A training run.

    Attributes:
        output: run directory; its `README.txt` says what is in it.
        data: folder in front of all relative data paths.
        passages: a built corpus, or the sources of one, as for `fidkit corpus build`.
        held_out: question files; pages that hold their answers are kept out of cloze and recurring
            questions.
        guide: what the auxiliary loss of that name is about.
        average: of the weights, the share that each step keeps of the running mean so far, such as 0.999: the
            mean is what is evaluated and saved; absent takes the weights as they are.
        save_every: steps between checkpoints.
        teacher: to be distilled.
        precision: of activations; weights and optimiser stay float32.
        threads: of the CPU; absent leaves torch's choice.
        health: when the run goes back by itself.
        parallel: how a reader lies in several processes, see `fidkit.train.distributed.parallel`: whole in
            each (`ddp`) or sharded over all (`fsdp`).
        checkpointing: stacks whose layers are computed again in the backward pass, which takes less memory
            and more time.
        compile: norms and feed-forward layers are compiled.
        tensorboard: the log is also written for TensorBoard.
    """

    output: str
    seed: int = 0
    data: str = "."
    reader: ReaderSpec
    passages: list[str] = []
    held_out: list[str] = []
    tasks: dict[str, TaskSpec]
    teacher: TeacherSpec | None = None
    stages: list[StageSpec] = Field(min_length=1)
    guide: GuideSpec = GuideSpec()
    optimiser: OptimiserSpec = OptimiserSpec()
    average: float | None = Field(default=None, gt=0, lt=1)
    health: HealthSpec = HealthSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    dropout: float = Field(default=0.1, ge=0, lt=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    target_tokens: int = Field(default=24, ge=2)
    save_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=50, ge=1)
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    parallel: Literal["ddp", "fsdp"] = "ddp"
    checkpointing: list[Literal["encoder", "decoder"]] = []
    compile: bool = False
    tensorboard: bool = False

    @model_validator(mode="after")
    def _tasks_exist(self) -> Recipe:
        for number, stage in enumerate(self.stages, 1):
            for name in stage.mix:
                if name not in self.tasks:
                    raise ValueError(
                        f"stage {number} mixes {name!r}, but the tasks are {', '.join(self.tasks) or 'none'}"
                    )
            if stage.needs_teacher and self.teacher is None:
                raise ValueError(f"stage {number} learns from a teacher; name one as `teacher.reader`")
        return self

    @model_validator(mode="after")
    def _moments_come_from_somewhere(self) -> Recipe:
        if self.optimiser.moments == "carry" and self.reader.start is None:
            raise ValueError(
                'optimiser.moments is "carry", but random weights have no second moments; give reader.start, '
                'or set it to "fresh"'
            )
        return self

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def path(self, name: str) -> Path:
        """A data path of the recipe as a path of this machine."""
        return Path(self.data, name)

    def missing(self) -> list[Path]:
        """Files and folders of data that it names and that aren't there, in order."""
        named = [*self.passages, *self.held_out]
        for task in self.tasks.values():
            named += [*task.files, *task.retrieved]
        for sets in (self.evaluation.files, self.evaluation.retrieved, self.evaluation.unanswerable):
            named += sets.values()
        return [path for path in map(self.path, dict.fromkeys(named)) if not path.exists()]


OLD_KEYS = {"sources": "tasks"}
"""What keys of a recipe were called before, to what they are called."""


def load_recipe(path: Path, changes: Iterable[str] = (), say: Callable[[str], None] = logger.info) -> Recipe:
    """Read a recipe and apply `key.key=value` changes (values in TOML, or plain text).

    Args:
        path: in TOML.
        changes: one after the other.
        say: told about keys and precisions that have another name by now.

    Raises:
        ConfigError: the file or a change is malformed, or a key is unknown; names it.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: expected a recipe in TOML, but {error.strerror}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a recipe in TOML, but {_why(error)}; mend it there") from error
    _rename_old_keys(record, str(path), say)
    _rename_old_precision(record, str(path), say)
    for change in changes:
        _apply(record, change)
        _rename_old_precision(record, f"--set {change}", say)
    recipe: Recipe = parse(Recipe, record, str(path))
    return recipe


def load_resolved(path: Path) -> Recipe | None:
    """The recipe of a run, from `recipe.json`; None if it can't be read.

    Keys that it lacks, from before fidkit knew them, have their defaults.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            _rename_old_keys(record, str(path), lambda note: None)
            _rename_old_precision(record, str(path), lambda note: None)
        recipe: Recipe = parse(Recipe, record, str(path))
    except (OSError, ValueError, RecursionError, ConfigError):
        return None
    return recipe


def _rename_old_keys(record: dict[str, Any], where: str, say: Callable[[str], None]) -> None:
    for old, new in OLD_KEYS.items():
        if old not in record:
            continue
        if new in record:
            raise ConfigError(f"{where}: has both {new!r} and {old!r}, its name before; move all to {new!r}")
        say(f"{where}: {old!r} is called {new!r} now; rename it, [{old}.x] to [{new}.x]")
        record[new] = record.pop(old)


def _rename_old_precision(record: dict[str, Any], where: str, say: Callable[[str], None]) -> None:
    old = record.get("precision")
    if isinstance(old, str) and old in OLD_DTYPES:
        new = record["precision"] = OLD_DTYPES[old]
        say(f'{where}: the precision {old!r} is called {new!r} now; write precision = "{new}"')


def _why(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _apply(record: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator:
        raise ConfigError(f"--set {change}: expected key=value, such as optimiser.rate=0.001")
    if not change.isprintable() and any("\ud800" <= c <= "\udfff" for c in change):
        raise ConfigError(f"--set {change!r}: expected text in UTF-8; write it in the terminal's encoding")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text.lstrip().startswith(("[", "{")):  # no plain text looks like that
            shown = change if len(change) <= LONGEST_SHOWN else f"{change[:LONGEST_SHOWN]}..."
            raise ConfigError(
                f"--set {shown}: expected a value in TOML, but {_why(error)}; mend it"
            ) from error
        value = text
    first, *others = key.strip().split(".")
    *parents, last = [OLD_KEYS.get(first, first), *others]
    place: Any = record
    for parent in parents:
        if isinstance(place, list) and parent.isdigit() and int(parent) < len(place):
            place = place[int(parent)]
        elif isinstance(place, dict):
            place = place.setdefault(parent, {})
        else:
            raise ConfigError(f"--set {change}: {parent!r} leads nowhere in the recipe")
    if not isinstance(place, dict):
        raise ConfigError(f"--set {change}: {last!r} leads nowhere in the recipe")
    place[last] = value
