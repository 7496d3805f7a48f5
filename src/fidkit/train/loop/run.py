"""The directory of a run: what it is of, its log, and where its readers are."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from fidkit import checkpoint
from fidkit.checkpoint.moments import Moments, save_moments
from fidkit.config import ReaderConfig
from fidkit.disk import held
from fidkit.errors import ConfigError, FidkitError
from fidkit.tokens import Tokenizer
from fidkit.train.distributed.group import Group
from fidkit.train.longer import goes_on, stage_steps, unlike
from fidkit.train.recipe import Recipe, load_resolved

FREE = (
    "output",
    "data",
    "threads",
    "parallel",
    "checkpointing",
    "compile",
    "tensorboard",
    "save_every",
    "log_every",
    "evaluation.every",
    "health",
)
"""Keys that may change when a run goes on: they say how, where or how often, not what is learnt."""
STEPS = re.compile(r"stages\.\d+\.steps")
"""Keys that may change where no step that was done would have been another."""
SHOWN = 5
LOCK = "training.lock"
BUSY = "another process is training this run; wait until it is done, end it, or choose another output"

README = """\
A training run of fidkit: https://pypi.org/project/fidkit

recipe.json   what the run does: the recipe with every key and --set change in it
log.jsonl     a row a report, by `kind`: `train` (means since the row before; `loss` in nats a token, `rate`
              and `rates` of parts, `norm` of the gradient, texts that were `cut` since the row before,
              `seconds` of training so far and `cpu_seconds` of its process, `left_s` still to go,
              `peak_share` of the hardware's peak), `evaluation` (EM and F1 in percent; `forced`: where the
              first token may not end an answer; `silent`: answers that it ends), `pointing` (the same of what
              the pointer finds, while nothing is written yet), `restart` (the loss diverged: why, and which
              step the run went back to), `change` (keys and passages that differ since the run went on, and
              how the steps done are `unlike` those of a run that was planned so)
last/         the reader as it was saved last: config.json, model.safetensors, tokenizer.json; its mean so far
              where the recipe has an `average`
last/training what going on needs: state.pt (step, data, random numbers), optimiser/ (its state, the
              auxiliary heads, weights beside their mean), readable by any number of processes. A reader
              works without it.
previous/     the save before; the run goes back to it if `last` turns out to be from a diverging stretch
best/         the reader with the highest mean F1 on the evaluation questions
tensorboard/  the log for `tensorboard --logdir`, where the recipe has `tensorboard = true`
training.lock held while a process trains the run, so that no other does

To go on after an interruption, run the same `fidkit train` again. To answer with a reader:

    fidkit ask QUESTION --in FOLDER --reader {output}/best

Folders whose name ends in .new or .old are of a save that was interrupted; they may be deleted.
Go on only with runs that you trust; a reader alone holds no code.
"""


class RunDirectory:
    """`README.txt`, `recipe.json` (the resolved recipe), `log.jsonl` (a row a report), and readers.

    In a group of processes the leader writes, all may read.

    Args:
        recipe: says where; claims the directory.
        group: of processes.
        done: steps that the run has saved; asked for only where the recipe's steps differ.

    Attributes:
        changed: keys that differ from when the run began: name to the values before and now.
        unlike: how the steps done differ from those of a run that was planned as the recipe is now.

    Raises:
        ConfigError: the directory belongs to another recipe; lists the keys that differ.
        FidkitError: it can't be written.
    """

    def __init__(self, recipe: Recipe, group: Group, done: Callable[[], int] = lambda: 0) -> None:
        self.path, self.group = Path(recipe.output), group
        self.best = self.path / "best"
        self._log = self.path / "log.jsonl"
        self.unlike: list[str] = []
        self.changed = self._compare(recipe, done)
        group.wait()  # all have compared before one writes
        if group.leads:
            self._claim(recipe)

    def _compare(self, recipe: Recipe, done: Callable[[], int]) -> dict[str, tuple[Any, Any]]:
        path = self.path / "recipe.json"
        if not path.exists():
            return {}
        kept = load_resolved(path)
        changed = {} if kept is None else differences(kept, recipe)
        replanned = kept is not None and stage_steps(kept) != stage_steps(recipe)
        if kept is not None and replanned and goes_on(kept, recipe, steps := done()):
            self.unlike = unlike(kept, recipe, steps)
            replanned = False
        wrong = {
            key: values
            for key, values in changed.items()
            if not _is_free(key) and (replanned or not STEPS.fullmatch(key))
        }
        if kept is None or wrong:
            what = "; ".join(f"{key} was {a}, now {b}" for key, (a, b) in list(wrong.items())[:SHOWN])
            more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise ConfigError(
                f"{self.path} holds a run of another recipe ({what or f'{path.name} is unreadable'}{more}); "
                "take the change back, choose another output, or delete it to start over"
                + (f"; of its stages, only what comes after step {steps:,} may change" if replanned else "")
            )
        return changed

    def _claim(self, recipe: Recipe) -> None:
        resolved = recipe.model_dump_json(indent=2) + "\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            checkpoint.replace_file(
                self.path / "recipe.json", lambda new: new.write_text(resolved, encoding="utf-8")
            )
            readme = README.format(output=recipe.output)
            checkpoint.replace_file(
                self.path / "README.txt", lambda new: new.write_text(readme, encoding="utf-8")
            )
        except OSError as error:
            raise FidkitError(
                f"{self.path}: can't write the run there ({error}); choose another output"
            ) from error

    def held(self) -> AbstractContextManager[object]:
        """Hold the run: two trainings of one run would overwrite each other's checkpoints.

        The system lets it go when the process dies, however it dies.

        Raises:
            FidkitError: another process is training it, or the directory can't be written.
        """
        return held(self.path / LOCK, FidkitError, BUSY) if self.group.leads else nullcontext()

    def keep_best(
        self,
        weights: Mapping[str, Tensor],
        moments: Moments,
        config: ReaderConfig,
        tokenizer: Tokenizer | None,
    ) -> None:
        """Write `best/`.

        Raises:
            FidkitError: it can't be written.
        """
        try:
            checkpoint.save_tensors(weights, config, tokenizer, self.best)
            save_moments(moments, self.best)
        except Exception as error:
            raise FidkitError(
                f"{self.best}: can't be written ({error}); make room and run the same command again"
            ) from error

    # Log

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
            FidkitError: it can't be written.
        """
        try:
            if self._log.is_symlink():
                raise OSError(errno.ELOOP, "it is a link to elsewhere")
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise FidkitError(
                f"{self._log}: can't be written ({error.strerror}); make room and run the same command again"
            ) from error

    @property
    def rows(self) -> int:
        """Rows of the log."""
        return len(self._lines())

    def rewind_log(self, rows: int) -> None:
        """Leave so many rows: the others are of steps that will be done again, or were cut off by a kill."""
        if not self.group.leads or not self._log.exists():
            return
        kept = "".join(self._lines()[:rows])
        checkpoint.replace_file(self._log, lambda new: new.write_text(kept, encoding="utf-8"))

    def _lines(self) -> list[str]:
        if not self._log.exists():
            return []
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]


def differences(before: Recipe, now: Recipe) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, by their dotted name, with both values; None where there is none."""
    a, b = (dict(_flat(recipe.model_dump(mode="json"))) for recipe in (before, now))
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        full = f"{name}.{key}" if name else str(key)
        nested = isinstance(inner, dict) or (
            isinstance(inner, list) and any(isinstance(x, dict) for x in inner)
        )
        if nested and inner:
            yield from _flat(inner, full)
        else:
            yield full, inner


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)
