"""The training loop: plain, exact, resumable.

Started again, a run goes on from where it was saved last, with the same data, dropout and optimiser state
as if it had never stopped. A run that diverges goes back by itself, and on with a smaller rate.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fidkit.checkpoint.moments import Moments
from fidkit.devices import choose_device
from fidkit.errors import CheckpointError, FidkitError
from fidkit.nn.encoder import EncoderLayers, Run
from fidkit.tokens import Tokenizer
from fidkit.train.data.examples import Example
from fidkit.train.data.stream import Stream, load_tasks
from fidkit.train.distributed.group import Group
from fidkit.train.distributed.parallel import Losses, Replicated, lay_out, whole_reader, whole_weights
from fidkit.train.loop.average import Average
from fidkit.train.loop.board import Board
from fidkit.train.loop.checkpoints import Checkpoints
from fidkit.train.loop.development import Development, mean_f1
from fidkit.train.loop.health import Health
from fidkit.train.loop.meter import Meter, count
from fidkit.train.loop.moments import carry, moments_of
from fidkit.train.loop.run import RunDirectory
from fidkit.train.loop.schedule import fade, rate_at, stage_at, stages_so_far
from fidkit.train.loop.stacks import compile_layers, recompute
from fidkit.train.loop.start import make_reader, slow_precision
from fidkit.train.loop.state import AUXILIARY, put_together, take_apart
from fidkit.train.losses.auxiliary import Auxiliary
from fidkit.train.losses.objectives import SUMMED, Objectives, weighted
from fidkit.train.optimisers.make import make_optimiser, set_rate
from fidkit.train.optimisers.parts import leave_as_they_are
from fidkit.train.passages import PassageTable, open_passages
from fidkit.train.recipe import Recipe
from fidkit.train.specs import StageSpec

logger = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]


class DivergedError(Exception):
    """A step whose update would do harm; says why."""


class Trainer:
    """One run of a recipe.

    Args:
        recipe: what to do.
        report: called with each row that goes to the log.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`. Under torchrun, `cuda` is each
            process' own.
        run: how encoder layers are run for a step, where there is another way than the plain one: layers that
            training leaves as they are make the same of a row each time.

    Raises:
        UsageError: no such device.
        ConfigError: the run directory belongs to another recipe, or a stage trains what the reader lacks.
        DataError: passages or questions are malformed or missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        report: Report = lambda row: None,
        device: str = "auto",
        run: Run = EncoderLayers.__call__,
    ) -> None:
        self.recipe, self.report = recipe, report
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.device = choose_device(device)
        self.group = Group.join()
        if self.device.index is not None:
            torch.cuda.set_device(self.device)
        if (note := slow_precision(recipe.precision, self.device)) is not None:
            self._say(note)
        torch.manual_seed(recipe.seed)
        self.reader = make_reader(recipe).to(self.device)
        self.auxiliary = Auxiliary(self.reader, recipe.guide).to(self.device)
        leave_as_they_are(self.reader, self.auxiliary, recipe.optimiser.rates)
        self.objectives = Objectives(recipe, self.reader, self.auxiliary, run)
        torch.manual_seed(recipe.seed + self.group.rank)  # dropout; the same weights, other masks
        table = self._open_passages()
        self.passages, self.passages_before = table.fingerprint, None
        tasks = load_tasks(recipe, table, self.tokenizer, self._say, self.group)
        self.stream = Stream(recipe, tasks, self.tokenizer)
        self.development = Development(recipe, table, self._say)
        self.losses = Losses(self.objectives)
        self.layout = lay_out(recipe, self.group, self.losses)
        recompute(self.reader, recipe.checkpointing)
        if recipe.compile:
            compile_layers(self.reader)
        self.average = None if recipe.average is None else Average(self.reader, recipe.average)
        self.optimiser = make_optimiser(recipe.optimiser, self.reader, self.auxiliary)
        self.health, self.restarts = Health(recipe.health), 0
        self.step, self.seconds, self.cpu_seconds, self.best = 0, 0.0, 0.0, -1.0
        # Last: a recipe that can't be loaded claims no directory.
        keep = recipe.health.restarts > 0
        self.checkpoints = Checkpoints(Path(recipe.output), self.group, keep=keep)
        self.directory = RunDirectory(recipe, self.group, self._saved_steps)
        self.board = Board(self.directory.path) if recipe.tensorboard and self.group.leads else None

    @property
    def tokenizer(self) -> Tokenizer:
        """The reader's tokenizer; a reader without one can't be trained on text."""
        if self.reader.tokenizer is None:
            raise CheckpointError(
                "the reader to start from has no tokenizer.json; add the one it was trained with"
            )
        return self.reader.tokenizer

    def _open_passages(self) -> PassageTable:
        entries = [self.recipe.path(entry) for entry in self.recipe.passages]
        return PassageTable(open_passages(entries, self.group, self._say))

    def _saved_steps(self) -> int:
        record = self.checkpoints.record()
        return 0 if record is None else int(record["step"])

    # Running

    def run(self) -> None:
        """Train to the end of the recipe, from wherever the run stands.

        Raises:
            FidkitError: the run diverges again and again, another process trains it, or its directory can't
                be written.
        """
        with closing(self.checkpoints), self.directory.held():
            self._begin()
            meter = Meter(self.reader.config, self.recipe.precision, self.group)
            while self.step < self.recipe.steps:
                try:
                    self._advance(meter)
                except DivergedError as problem:
                    self._go_back(str(problem))
                    meter.reset()
            self.checkpoints.finish()
        if self.board:
            self.board.close()

    def _begin(self) -> None:
        resumed = self.resume()
        if self.board:
            self.board.begin(self.step)
        changed = self.directory.changed | self._other_passages()
        if changed:
            keys = {key: list(values) for key, values in changed.items()}
            unlike = {"unlike": self.directory.unlike} if self.directory.unlike else {}
            self.log("change", keys=keys, **unlike)
        if not resumed:
            self._carry_moments()
            if self.recipe.health.restarts:
                self.save()  # something to go back to

    def _other_passages(self) -> dict[str, tuple[str, str]]:
        """Fingerprints of the passages, before and now, where a run goes on with others; that is said."""
        before = self.passages if self.passages_before is None else self.passages_before
        if before == self.passages:
            return {}
        self._say(
            f"the passages aren't those that the {self.step:,} steps so far were done with; for a run of "
            "these alone, choose another output"
        )
        return {"passages (fingerprint)": (before, self.passages)}

    def _advance(self, meter: Meter) -> None:
        started, cpu_started = time.perf_counter(), time.process_time()
        losses, counts = self.train_step()
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu_started
        meter.add(losses, counts)
        last = self.step == self.recipe.steps
        if self.step % self.recipe.log_every == 0 or last:
            self.log("train", **meter.row(self.recipe.steps - self.step), **self._rates())
        if self.step % self.recipe.evaluation.every == 0 or last:
            self.evaluate()
        if self.step % self.recipe.save_every == 0 or last:
            self.save()
        self.checkpoints.look()

    def train_step(self) -> tuple[dict[str, float], dict[str, int]]:
        """One optimiser step; mean losses, and what went into it (`fidkit.train.loop.meter.count`).

        Losses of target tokens are divided by those of the whole step, so that accumulation equals a
        larger batch however tokens are spread over its parts. Other losses are means over a part, weighted
        by its questions.

        Raises:
            DivergedError: loss or gradient are not healthy; nothing was updated.
        """
        number, stage = self._stage()
        self.reader.train()
        self.auxiliary.train()
        parts = [self._taught(self.stream.next(number), stage) for _ in range(stage.accumulate)]
        examples = [example for part in parts for example in part]
        targets, questions = sum(len(e.target) for e in examples), len(examples)
        sums: dict[str, float] = {}
        for part, weight in map(self.layout.share, parts):
            if not part:
                continue
            losses = self.losses(part, stage)
            counted = weight * len(part) / questions
            shares = {
                name: value * (weight / targets if name in SUMMED else counted)
                for name, value in losses.items()
            }
            weighted(shares, stage, fade(self.step, self.recipe.steps)).backward()
            for name, value in shares.items():
                name = "loss" if name == "answer" else name
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        sums = _added(self.group.gather(sums))
        self._update(sums)
        return sums, count(examples)

    def _taught(self, part: Sequence[Example], stage: StageSpec) -> Sequence[Example]:
        """The part with a teacher's answers, where the stage wants them: each process asks for its share."""
        if stage.targets == "answers":
            return part
        shares = self.group.gather(self.objectives.taught(self.group.share(part), stage))
        return [shares[n % self.group.size][n // self.group.size] for n in range(len(part))]

    def _update(self, sums: dict[str, float]) -> None:
        spec = self.recipe.optimiser
        set_rate(self.optimiser, self.rate(self.step))
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.layout.sum_gradients(trained)
        losses = dict(sums)
        sums["norm"] = self.layout.clip(trained, spec.clip)
        # Where no answer is learnt, whatever is learnt says whether it goes well.
        watched = sums["loss"] if "loss" in sums else sum(losses.values())
        problem = self.health.see(watched, sums["norm"])
        if problem is None:
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if problem is not None:
            raise DivergedError(problem)
        self.step += 1
        if self.average:
            self.average.update(self.step)
        self._begin_stage()

    def _begin_stage(self) -> None:
        if 0 < self.step < self.recipe.steps and stage_at(self.step, self.recipe)[2] == 0:
            self.health.new_stage()

    def rate(self, step: int) -> float:
        """Learning rate of a step, smaller after restarts."""
        smaller = self.recipe.health.rate_factor**self.restarts
        return smaller * rate_at(step, self.recipe)

    def _rates(self) -> dict[str, dict[str, float]]:
        """The rates of parts that have their own, as the log has them."""
        base = self.rate(max(0, self.step - 1))
        factors = self.recipe.optimiser.rates
        return {"rates": {part: factor * base for part, factor in factors.items()}} if factors else {}

    def _stage(self) -> tuple[int, StageSpec]:
        return stage_at(self.step, self.recipe)[:2]

    # Watching

    def evaluate(self) -> None:
        """Answer the development questions; the best mean F1 so far goes to `best/`.

        Before anything is learnt to be written, the pointer answers; then nothing is best.
        """
        if not self.development.sets:
            return
        with self._averaged():
            self._evaluate()

    def _evaluate(self) -> None:
        # Shards come together in all processes, also in those that answer nothing.
        gathered = None if isinstance(self.layout, Replicated) else self._gathered()
        if not self.group.leads:
            return
        reader = whole_reader(self.reader, gathered[0], self.device) if gathered else self.reader
        stages = stages_so_far(self.step, self.recipe)
        if not any(stage.decodes for stage in stages):
            if any("pointer" in stage.auxiliaries for stage in stages):
                self.log("pointing", **self.development.pointed(reader, self.auxiliary))
            return
        scores = self.development.scores(reader)
        mean = mean_f1(scores)
        self.log("evaluation", mean_f1=round(mean, 2), **scores)
        if mean > self.best:
            self.best = mean
            weights, moments = gathered or self._gathered()
            self.directory.keep_best(weights, moments, self.reader.config, self.reader.tokenizer)

    def _averaged(self) -> AbstractContextManager[None]:
        """Meanwhile the reader is what the run has made so far, whatever it trains."""
        return self.average.in_place() if self.average else nullcontext()

    def _gathered(self) -> tuple[dict[str, Tensor], Moments]:
        """Whole weights and second moments."""
        return whole_weights(self.reader, wanted=self.group.leads), moments_of(self.optimiser, self.reader)

    def log(self, kind: str, **values: Any) -> None:
        """Report a row and append it to `log.jsonl`; process 0 only."""
        if not self.group.leads:
            return
        row = {"kind": kind, "step": self.step, "steps": self.recipe.steps}
        row |= {"seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1)}
        row |= {"rate": self.rate(max(0, self.step - 1)), **values}
        self.directory.log(row)
        if self.board:
            self.board.add(row)
        self.report(row)

    def _say(self, note: str) -> None:
        if self.group.leads:
            logger.info(note)

    # Life cycle

    def save(self) -> None:
        """Begin to write `last/`; what was saved is this step, whatever follows."""
        on_gpu = torch.cuda.get_rng_state() if self.device.type == "cuda" else None
        random = self.group.gather({"cpu": torch.get_rng_state(), "cuda": on_gpu})
        tensors, others = take_apart(self.optimiser, self._parameters())
        heads = {f"{AUXILIARY}{name}": t for name, t in self.auxiliary.state_dict().items()}
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "best": self.best,
            "restarts": self.restarts,
            "rows": self.directory.rows,
            "stream": self.stream.state(),
            "health": self.health.state(),
            "optimiser": others,
            "random": random,
            "passages": self.passages,
        }
        moments = moments_of(self.optimiser, self.reader)
        sound = not self.health.suspicious
        own = self.average.weights() if self.average else {}
        with self._averaged():
            self.checkpoints.save(self.reader, moments, tensors | heads | own, record, sound=sound)

    def resume(self) -> bool:
        """Go to where the run was saved last; False if it never was, and stay at the start."""
        record = self.checkpoints.record()
        if record is None:
            self.directory.rewind_log(0)
            return False
        self._load(record)
        self.passages_before = record.get("passages")  # the first versions kept none
        self.restarts, self.best = record["restarts"], record["best"]
        self.seconds, self.cpu_seconds = record["seconds"], record["cpu_seconds"]
        self.directory.rewind_log(record["rows"])
        self._begin_stage()  # a run that had ended at the end of a stage may have another one now
        return True

    def _load(self, record: dict[str, Any]) -> None:
        parameters = self._parameters()
        tensors = self.checkpoints.load(self.reader, parameters)
        heads = {n.removeprefix(AUXILIARY): t for n, t in tensors.items() if n.startswith(AUXILIARY)}
        self.auxiliary.load_state_dict(heads)
        if self.average:
            self.average.restore(tensors)
        put_together(self.optimiser, parameters, tensors, record["optimiser"])
        self.stream.restore(record["stream"])
        self.health.restore(record["health"])
        self.step = record["step"]
        if self.group.rank < len(record["random"]):
            random = record["random"][self.group.rank]
            torch.set_rng_state(random["cpu"])
            if self.device.type == "cuda" and random["cuda"] is not None:
                torch.cuda.set_rng_state(random["cuda"])

    def _go_back(self, problem: str) -> None:
        """To the last healthy checkpoint, and on with a smaller rate.

        Raises:
            FidkitError: that was done as often as the recipe allows.
        """
        spec, diverged = self.recipe.health, self.step
        if self.restarts >= spec.restarts:
            raise FidkitError(
                f"{self.directory.path}: step {diverged + 1} diverged ({problem}) after {self.restarts} of "
                f"{spec.restarts} restarts; give a smaller optimiser.rate in a new output, or more "
                "health.restarts and run the same command again"
            )
        self.checkpoints.roll_back(diverged)
        record = self.checkpoints.record()
        assert record is not None
        self.log("restart", reason=problem, back_to=record["step"], rate_factor=spec.rate_factor)
        self.restarts += 1
        self._load(record)
        if self.board:
            self.board.begin(self.step)
        self.save()  # a kill forgets neither the restart nor the rate

    def _carry_moments(self) -> None:
        start = self.recipe.reader.start
        if self.recipe.optimiser.moments == "carry" and start is not None:
            self.log("moments", fresh=carry(self.optimiser, self.reader, start))

    def _parameters(self) -> dict[str, Tensor]:
        heads = {f"auxiliary.{name}": p for name, p in self.auxiliary.named_parameters()}
        return {**dict(self.reader.named_parameters()), **heads}


def _added(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row)
    return dict(total)
