"""Saving a run while it goes on, and going back to what was saved."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from fidkit import checkpoint
from fidkit.checkpoint.moments import Moments, save_moments
from fidkit.config import ReaderConfig
from fidkit.disk import is_full
from fidkit.errors import CheckpointError, FidkitError
from fidkit.paths import remove
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.distributed.group import Group
from fidkit.train.distributed.parallel import assign_weights, whole_weights
from fidkit.train.loop import state as states

STATE = "training/state.pt"
OPTIMISER = "training/optimiser"
SETTLED = 10
"""Steps that must have gone well after a save before it counts as healthy."""


@dataclass(frozen=True)
class Snapshot:
    """A run at one step, as copies that training doesn't touch.

    Attributes:
        weights: of the reader, whole; empty in processes that don't lead.
        moments: second moments of the reader's parameters, whole.
        tensors: of optimiser and auxiliary heads, this process's part.
        record: all else, without tensors that are large.
        sound: whether the save before may take the place of `previous/`.
    """

    config: ReaderConfig
    tokenizer: Tokenizer | None
    weights: Mapping[str, Tensor]
    moments: Moments
    tensors: Mapping[str, Tensor]
    record: Mapping[str, Any]
    sound: bool


class Checkpoints:
    """`last/`, a plain reader with `training/` beside it, and `previous/`, the save before.

    A save is copied at once and written beside training. `last/` is replaced as a whole when all processes
    have written, so that a kill or a full disk leaves the old one.

    Args:
        path: of the run.
        group: of processes; the leader writes weights and record, everyone its part of the rest.
        keep: whether there is a `previous/`.
    """

    def __init__(self, path: Path, group: Group, *, keep: bool = True) -> None:
        self.last, self.previous = path / "last", path / "previous"
        self._new, self._old = path / "last.new", path / "last.old"
        self.path, self.group, self.keep = path, group, keep
        self._apart = group.apart()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    # Saving

    def save(
        self,
        reader: Reader,
        moments: Moments,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, Any],
        *,
        sound: bool = True,
    ) -> None:
        """Begin to write; all processes call this.

        Args:
            reader: its parameters are gathered.
            moments: of its parameters; kept as they are.
            tensors: of optimiser and auxiliary heads, this process's part.
            record: all else.
            sound: False where the run looks ill; then `previous/` stays what it is.

        Raises:
            FidkitError: the save before this one failed.
        """
        self.finish()
        snapshot = Snapshot(
            reader.config,
            reader.tokenizer,
            whole_weights(reader, wanted=self.group.leads),
            moments,
            _copied(tensors),
            record,
            sound,
        )
        if self.group.leads:
            remove(self._new)
        self.group.wait()
        self._pending = self._writer.submit(self._write, snapshot)

    def look(self) -> None:
        """Say so if the save under way has failed; doesn't wait.

        Raises:
            FidkitError: it has.
        """
        if self._pending is not None and self._pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the save under way.

        Raises:
            FidkitError: it failed; `last/` is the one before.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the save under way, whatever becomes of it: a run that ends in an error says that one."""
        self._writer.shutdown()

    def _write(self, snapshot: Snapshot) -> None:
        problem = self._attempt(self._write_whole, snapshot) if self.group.leads else None
        # Processes wait for each other in here, so all come, also after an error.
        problem = self._attempt(self._write_part, snapshot) or problem
        problems = self._of_all(problem)
        if not any(problems) and self.group.leads:
            problem = self._attempt(self._publish, snapshot.sound)
        failed = [p for p in self._of_all(problem) if p]
        if failed:
            raise FidkitError(self._explain(failed[0], snapshot.record["step"]))

    def _attempt(self, act: Any, *args: Any) -> str | None:
        """What went wrong, in words; None if nothing did."""
        try:
            act(*args)
        except CheckpointException as error:  # PyTorch's, of many processes
            return self._problem(next(iter(error.failures.values()))[0])
        except Exception as error:
            return self._problem(error)
        return None

    def _problem(self, error: BaseException) -> str:
        return "no space left on the disk" if is_full(error, self.path) else _reason(error)

    def _of_all(self, problem: str | None) -> list[str | None]:
        if self._apart is None:
            return [problem]
        problems: list[str | None] = [None] * self.group.size
        distributed.all_gather_object(problems, problem, group=self._apart)
        return problems

    def _write_whole(self, snapshot: Snapshot) -> None:
        checkpoint.save_tensors(snapshot.weights, snapshot.config, snapshot.tokenizer, self._new)
        save_moments(snapshot.moments, self._new)
        (self._new / STATE).parent.mkdir(exist_ok=True)
        record = io.BytesIO()  # torch.save hides what the system says of a disk
        torch.save(dict(snapshot.record), record)
        (self._new / STATE).write_bytes(record.getbuffer())

    def _write_part(self, snapshot: Snapshot) -> None:
        states.write(snapshot.tensors, self._new / OPTIMISER, self._apart)

    def _publish(self, sound: bool) -> None:
        remove(self._old)
        kept = self.previous.exists()
        if self.last.exists() and kept and not sound:
            self.last.rename(self._old)
        elif self.last.exists():
            if kept:
                self.previous.rename(self._old)
            self.last.rename(self.previous)
        self._new.rename(self.last)
        remove(self._old)
        if not self.keep:
            remove(self.previous)

    def _explain(self, problem: str, step: int) -> str:
        remove(self._new)  # what there is of it takes room
        good = f"{self.last} is as it was before" if self.last.exists() else "there is none yet"
        return (
            f"{self.path}: the checkpoint of step {step} can't be written ({problem}); {good}; "
            "make room and run the same command again"
        )

    # Going back

    def record(self) -> dict[str, Any] | None:
        """What was saved last besides tensors; None if nothing was. All processes call this.

        Raises:
            CheckpointError: it can't be read.
        """
        if self.group.leads and self.previous.exists() and not self.last.exists():
            self.previous.rename(self.last)  # killed between two renames
        self.group.wait()
        path = self.last / STATE
        return self._read_record(path) if path.exists() else None

    def _read_record(self, path: Path) -> dict[str, Any]:
        try:
            record: dict[str, Any] = torch.load(path, weights_only=True)
        except pickle.UnpicklingError as error:
            raise self._unreadable(path, _refused(error) or error) from error
        except Exception as error:
            raise self._unreadable(path, error) from error
        return record

    def load(self, reader: Reader, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give `reader` the weights of `last/`; the tensors beside them.

        Raises:
            CheckpointError: they can't be read.
        """
        tensors = checkpoint.read_tensors(self.last / checkpoint.WEIGHTS)
        assign_weights(reader, tensors, str(self.last))
        try:
            return states.read(self.last / OPTIMISER, parameters, self._apart)
        except (Exception, CheckpointException) as error:
            raise self._unreadable(self.last / OPTIMISER, error) from error

    def roll_back(self, step: int) -> None:
        """Make `last/` the latest save that is healthy if things went wrong at `step`."""
        self.finish()
        record = self.record()
        young = record is not None and step - record["step"] < SETTLED
        self.group.wait()  # all have looked
        if young and self.group.leads and (self.previous / STATE).exists():
            remove(self._old)
            self.last.rename(self._old)
            self.previous.rename(self.last)
            remove(self._old)
        self.group.wait()

    def _unreadable(self, path: Path, error: BaseException | str) -> CheckpointError:
        reason = error if isinstance(error, str) else _reason(error)
        return CheckpointError(f"{path}: can't be read ({reason}); delete {self.last} to start over")


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stager = DefaultStager(StagingOptions(False, False, False, False))
    copied: dict[str, Tensor] = stager.stage(dict(tensors))  # type: ignore[assignment]
    stager.close()
    return copied


def _refused(error: pickle.UnpicklingError) -> str | None:
    """What a pickle names that is no number, text or tensor: it could be any code, and none of it ran."""
    named = re.findall(r"GLOBAL ([\w.]+)", str(error))
    return f"{named[0]} has no place in a checkpoint" if named else None


def _reason(error: BaseException) -> str:
    """The last line of an error, which says what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
