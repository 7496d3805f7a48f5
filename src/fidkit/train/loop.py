"""The training loop: plain, exact, resumable.

A run directory holds `recipe.json` (the resolved recipe), `log.jsonl` (one row a report), `last/` and
`best/` (readers; `last/training/` has what resuming needs). Started again, a run goes on from `last/`,
with the same data, dropout and optimiser state as if it had never stopped.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fidkit import checkpoint, systems
from fidkit.batch import Batch, collate
from fidkit.errors import CheckpointError, ConfigError, FidkitError
from fidkit.nn.positions import RelativeBias
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.auxiliary import Auxiliary, find_places
from fidkit.train.data import Example, Stream, load_passages, load_sources
from fidkit.train.development import Development
from fidkit.train.group import Group
from fidkit.train.matching import match_and_copy
from fidkit.train.recipe import Recipe, StageSpec
from fidkit.train.schedule import rate

Report = Callable[[dict[str, Any]], None]
STATE = "training/state.pt"
TAIL = 0.1
"""Auxiliary losses fade over this last fraction of a run, ..."""
TAIL_WEIGHT = 0.3
"""... to this share of their weight: by then the reader should serve the answer alone."""


class Trainer:
    """One run of a recipe.

    Args:
        recipe: what to do.
        report: called with each row that goes to the log.

    Raises:
        ConfigError: the run directory belongs to another recipe.
        DataError: passages or questions are malformed or missing.
    """

    def __init__(self, recipe: Recipe, report: Report = lambda row: None) -> None:
        self.recipe, self.report = recipe, report
        self.directory = Path(recipe.output)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.group = Group.join()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        self.reader = _make_reader(recipe).to(self.device)
        self.auxiliary = Auxiliary(self.reader).to(self.device)
        torch.manual_seed(recipe.seed + self.group.rank)  # dropout; the same weights, other masks
        passages = load_passages(recipe)
        self.stream = Stream(recipe, load_sources(recipe, passages), self.tokenizer)
        self.development = Development(recipe, passages)
        self.optimiser = torch.optim.AdamW(
            self._groups(), lr=recipe.optimiser.rate, betas=recipe.optimiser.betas, fused=True
        )
        self.step, self.seconds, self.cpu_seconds, self.best = 0, 0.0, 0.0, -1.0
        self._claim_directory()

    @property
    def tokenizer(self) -> Tokenizer:
        """The reader's tokenizer; a reader without one can't be trained on text."""
        if self.reader.tokenizer is None:
            raise CheckpointError(
                "the reader to start from has no tokenizer.json; add the one it was trained with"
            )
        return self.reader.tokenizer

    def _groups(self) -> list[dict[str, Any]]:
        """The reader's matrices decay; norms, position biases and the auxiliary heads do not."""
        spared = {id(m.weight) for m in self.reader.modules() if isinstance(m, RelativeBias)}
        trained = [p for p in self.reader.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1 and id(p) not in spared]
        others = [p for p in trained if p.ndim <= 1 or id(p) in spared]
        return [
            {"params": matrices, "weight_decay": self.recipe.optimiser.weight_decay},
            {"params": [*others, *self.auxiliary.parameters()], "weight_decay": 0.0},
        ]

    # Running

    def run(self) -> None:
        """Train to the end of the recipe, from wherever the run stands."""
        self.resume()
        self._rewind_log()
        sums: dict[str, float] = {}
        since, steps, tokens, questions = time.perf_counter(), 0, 0, 0
        while self.step < self.recipe.steps:
            started, cpu_started = time.perf_counter(), time.process_time()
            losses, counts = self.train_step()
            self.seconds += time.perf_counter() - started
            self.cpu_seconds += time.process_time() - cpu_started
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            steps, tokens, questions = steps + 1, tokens + counts[0], questions + counts[1]
            if self.step % self.recipe.log_every == 0 or self.step == self.recipe.steps:
                passed = time.perf_counter() - since
                means = {name: round(value / steps, 4) for name, value in sums.items()}
                self.log(
                    "train",
                    **means,
                    tokens_per_s=round(tokens / passed),
                    questions_per_s=round(questions / passed, 1),
                )
                sums, since, steps, tokens, questions = {}, time.perf_counter(), 0, 0, 0
            self._look_after(self.step)

    def _look_after(self, step: int) -> None:
        last = step == self.recipe.steps
        if (step % self.recipe.evaluation.every == 0 or last) and self.group.leads:
            self.evaluate()
        if step % self.recipe.save_every == 0 or last:
            self.save()

    def train_step(self) -> tuple[dict[str, float], tuple[int, int]]:
        """One optimiser step; mean losses, and (encoder tokens, questions) that went into it.

        The answer's loss is divided by the target tokens of the whole step, so that accumulation equals a
        larger batch however tokens are spread over its parts. Auxiliary losses are means over a part,
        weighted by its questions.
        """
        number, stage = self._stage()
        self.reader.train()
        self.auxiliary.train()
        parts = [self.stream.next(number) for _ in range(stage.accumulate)]
        examples = [example for part in parts for example in part]
        targets, questions = sum(len(e.target) for e in examples), len(examples)
        sums: dict[str, float] = {}
        for part in filter(None, map(self.group.share, parts)):
            losses = self._losses(part, stage)
            answer = losses.pop("answer") / targets
            shares = {name: value * len(part) / questions for name, value in losses.items()}
            total = answer + stage.auxiliary * self._fade() * sum(shares.values())
            total.backward()
            for name, value in {"loss": answer, **shares}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        sums = _added(self.group.gather(sums))
        self._update(sums)
        return sums, (sum(e.tokens for e in examples), questions)

    def _losses(self, part: Sequence[Example], stage: StageSpec) -> dict[str, Tensor]:
        """Summed cross-entropy of the answers, and the auxiliary losses if the stage wants them."""
        batch = _collate(part).to(self.device)
        assert batch.labels is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            context = self.reader.read(batch)
            probe = self.auxiliary.probe if stage.auxiliary else None
            answer = self.reader.answer_loss(batch.labels, context, probe)
            if not stage.auxiliary:
                return {"answer": answer}
            places = find_places([e.passages for e in part], [e.target for e in part]).to(self.device)
            return {"answer": answer, **self.auxiliary.losses(batch, context, places)}

    def _update(self, sums: dict[str, float]) -> None:
        spec = self.recipe.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.step, self.recipe.steps, spec)
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.group.sum_gradients(trained)
        sums["norm"] = float(torch.nn.utils.clip_grad_norm_(trained, spec.clip))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1

    def _stage(self) -> tuple[int, StageSpec]:
        left = self.step
        for number, stage in enumerate(self.recipe.stages):
            if left < stage.steps:
                return number, stage
            left -= stage.steps
        raise AssertionError("the run is over")

    def _fade(self) -> float:
        return TAIL_WEIGHT if self.step >= (1 - TAIL) * self.recipe.steps else 1.0

    # Watching

    def evaluate(self) -> None:
        """Answer the development questions; the best mean F1 so far goes to `best/`."""
        scores = self.development.scores(self.reader)
        if not scores:
            return
        mean = sum(s["f1"] for s in scores.values()) / len(scores)
        self.log("evaluation", mean_f1=round(mean, 2), **scores)
        if mean > self.best:
            self.best = mean
            checkpoint.save(self.reader, self.directory / "best")

    def log(self, kind: str, **values: Any) -> None:
        """Report a row and append it to `log.jsonl`; process 0 only."""
        if not self.group.leads:
            return
        row = {"kind": kind, "step": self.step, "steps": self.recipe.steps}
        row |= {"seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1)}
        row |= {"rate": rate(max(0, self.step - 1), self.recipe.steps, self.recipe.optimiser), **values}
        with (self.directory / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.report(row)

    # Life cycle

    def save(self) -> None:
        """Replace `last/` as a whole, so that a kill leaves either the old or the new one."""
        random = self.group.gather(torch.get_rng_state())
        if not self.group.leads:
            return
        new, last, old = (self.directory / name for name in ("last.new", "last", "last.old"))
        shutil.rmtree(new, ignore_errors=True)
        checkpoint.save(self.reader, new)
        (new / STATE).parent.mkdir()
        torch.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
                "best": self.best,
                "stream": self.stream.state(),
                "optimiser": self.optimiser.state_dict(),
                "auxiliary": self.auxiliary.state_dict(),
                "random": random,
            },
            new / STATE,
        )
        shutil.rmtree(old, ignore_errors=True)
        if last.exists():
            last.rename(old)
        new.rename(last)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> None:
        """Go to where the run was saved last; stay at the start if it never was."""
        last, old = self.directory / "last", self.directory / "last.old"
        if self.group.leads and old.exists() and not last.exists():
            old.rename(last)  # killed between the two renames of save()
        self.group.wait()
        if not (last / STATE).exists():
            return
        try:
            state = torch.load(last / STATE, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{last / STATE}: can't be read ({error}); delete {last} to start over"
            ) from error
        checkpoint.assign_in_place(self.reader, checkpoint.read_tensors(last / checkpoint.WEIGHTS), str(last))
        self.auxiliary.load_state_dict(state["auxiliary"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stream.restore(state["stream"])
        self.step, self.best = state["step"], state["best"]
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        if self.group.rank < len(state["random"]):
            torch.set_rng_state(state["random"][self.group.rank])

    def _rewind_log(self) -> None:
        """Take rows of steps that will be done again out of the log, and a row that a kill cut off."""
        path = self.directory / "log.jsonl"
        if not self.group.leads or not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = "".join(x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= self.step)
        checkpoint.replace_file(path, lambda new: new.write_text(kept, encoding="utf-8"))

    def _claim_directory(self) -> None:
        path = self.directory / "recipe.json"
        text = self.recipe.model_dump_json(indent=2) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{self.directory} holds a run of another recipe ({path.name} differs); "
                "choose another output, or delete it to start over"
            )
        if not self.group.leads:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FidkitError(
                f"{self.directory}: can't write the run there ({error}); choose another output"
            ) from error


def _make_reader(recipe: Recipe) -> Reader:
    spec = recipe.reader
    changes = {"dropout": recipe.dropout, **spec.changes}
    if spec.start is not None:
        return _changed(Reader.from_pretrained(spec.start), changes)
    config = systems.config(str(spec.preset)).replace(**changes)
    reader = Reader(config, Tokenizer.bundled(config))
    generator = torch.Generator().manual_seed(recipe.seed)
    (match_and_copy if spec.initialisation == "matching" else Reader.reset_parameters)(reader, generator)
    return reader


def _changed(reader: Reader, changes: dict[str, Any]) -> Reader:
    """The same weights under a configuration that differs in something that is no weight."""
    config = reader.config.replace(**changes)
    changed = Reader(config, reader.tokenizer and Tokenizer(reader.tokenizer.backend, config))
    tensors = {name: p.detach() for name, p in reader.named_parameters()}
    checkpoint.assign_in_place(changed, tensors, "reader.changes")
    return changed


def _added(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row)
    return dict(total)


def _collate(part: Sequence[Example]) -> Batch:
    return collate([e.question for e in part], [e.passages for e in part], [e.target for e in part])
