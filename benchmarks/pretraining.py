"""Pre-train a small reader on prose, then fine-tune it and one from random weights alike, and judge both.

    python benchmarks/pretraining.py --data DATA --corpus DIR [--initialisations t5 matching]
        [--objectives span-corruption mixture] [--seeds 1]

Pre-training is recipes/pretrain.toml, shortened, on the books of DATA/pretrain alone: no text that questions
are asked about. With the objective `mixture` it is recipes/pretrain-mixture.toml: books, and questions made
of passages, without those of the development questions. Fine-tuning is recipes/finetune.toml, once for each
seed; all seeds share one pre-training. Readers go to runs/pretraining, rows to
benchmarks/results/pretraining.jsonl; what has a row is not done again, and a run that was cut off goes on.
`python benchmarks/render.py` renders the rows into docs/training.md.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import judging
import rows
import torch
import training

from fidkit.train.data.documents import open_documents
from fidkit.train.data.examples import collate_examples
from fidkit.train.data.span_corruption import SpanCorruptionTask
from fidkit.train.recipe import Recipe

PRESET = "pocket-fid"
Objective = Literal["span-corruption", "mixture"]
SHORTENED = (
    'tasks.text.files=["pretrain"]', "tasks.text.input_tokens=256", "stages.0.steps=2600",
    "stages.0.questions=8", "optimiser.rate=1e-3",
)  # fmt: skip
"""Changes of the recipe of span corruption: small steps, and as many as 25 minutes of a CPU core allow."""
RECIPES: dict[Objective, tuple[str, Sequence[str]]] = {
    "span-corruption": ("pretrain.toml", SHORTENED),
    "mixture": ("pretrain-mixture.toml", ()),
}
"""Of pre-training, with their changes."""
SEED = 1
"""Of pre-training."""
TEXTS, BATCH = 400, 8
"""That show how well a reader restores them."""


@dataclass(frozen=True)
class Run:
    """A run of the experiment: a row has these values, and no other row has them all.

    Attributes:
        initialisation: of the random weights, as recipes name it.
        stage: `pretrain` or `finetune`.
        objective: of the pre-training that the run is, or starts from; None starts from random weights.
        seed: of the run.
    """

    initialisation: str
    stage: str
    objective: Objective | None
    seed: int

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.initialisation}-{self.objective or 'random'}-{self.seed}"


def plan(options: argparse.Namespace) -> Iterator[Run]:
    for initialisation in options.initialisations:
        yield from (Run(initialisation, "pretrain", objective, SEED) for objective in options.objectives)
        for seed, objective in itertools.product(options.seeds, [*options.objectives, None]):
            yield Run(initialisation, "finetune", objective, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train, fine-tune with and without, and judge.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with pretrain, corpus, qa, retrieved"
    )
    parser.add_argument("--corpus", type=Path, required=True, help="a built corpus of DATA/corpus")
    parser.add_argument("--initialisations", nargs="*", choices=["t5", "matching"], default=["t5"])
    parser.add_argument("--objectives", nargs="*", choices=RECIPES, default=["span-corruption"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1], help="of fine-tuning")
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--set", nargs="*", default=[], help="changes of both recipes, key=value")
    parser.add_argument("--pretrain-set", nargs="*", default=[], help="changes of pre-training alone")
    parser.add_argument("--finetune-set", nargs="*", default=[], help="changes of fine-tuning alone")
    parser.add_argument("--limit", type=int, help="questions of each dataset; all unless given")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "pretraining.jsonl", help="rows go here")
    options = parser.parse_args()
    asked = judging.gold(options.data, options.corpus, options.limit)
    found = list(rows.read(options.to))
    for run in plan(options):
        if not any(asdict(run).items() <= row.items() for row in found):
            trained = pretrain(options, run) if run.stage == "pretrain" else finetune(options, run)
            rows.append(options.to, rows.row("pretraining", **asdict(run), **_outcome(run, trained, asked)))


def pretrain(options: argparse.Namespace, run: Run) -> training.Trained:
    """From random weights, without real questions."""
    assert run.objective is not None
    recipe, shortened = RECIPES[run.objective]
    changes = [*_common(options, run), _random(options, run), *shortened]
    return training.train(training.RECIPES / recipe, [*changes, *options.set, *options.pretrain_set])


def finetune(options: argparse.Namespace, run: Run) -> training.Trained:
    """By questions, from the pre-trained reader or from random weights."""
    before = options.runs / Run(run.initialisation, "pretrain", run.objective, SEED).name / "last"
    start = f'reader={{ start = "{before}" }}' if run.objective else _random(options, run)
    changes = [*_common(options, run), start, "evaluation={}"]  # judged in the end, by all questions
    return training.train(training.RECIPES / "finetune.toml", [*changes, *options.set, *options.finetune_set])


def _common(options: argparse.Namespace, run: Run) -> list[str]:
    return [f"output={options.runs / run.name}", f"data={options.data}", f"seed={run.seed}"]


def _random(options: argparse.Namespace, run: Run) -> str:
    return f'reader={{ preset = "{options.preset}", initialisation = "{run.initialisation}" }}'


@torch.inference_mode()
def text_loss(trained: training.Trained) -> float:
    """Nats a token, in restoring text that comes in another order; little of it was read in training."""
    reader, recipe = trained.reader, trained.recipe.model_copy(update={"seed": SEED + 1})
    assert reader.tokenizer is not None
    spec = recipe.tasks["text"]
    task = SpanCorruptionTask(open_documents(recipe, spec), reader.tokenizer, spec)
    texts = [task.draw(n, random.Random(n), recipe.stages[-1]) for n in range(TEXTS)]
    summed = 0.0
    for at in range(0, TEXTS, BATCH):
        batch = collate_examples(texts[at : at + BATCH])
        assert batch.labels is not None
        summed += float(reader.answer_loss(batch.labels, reader.read(batch)))
    return summed / sum(len(text.target) for text in texts)


def _outcome(run: Run, trained: training.Trained, asked: dict[str, judging.Asked]) -> dict[str, Any]:
    curve = [_point(row) for row in trained.log if row["kind"] == "train"]
    if run.stage == "pretrain":
        read = {"text_tokens": round(_text_tokens(trained.recipe)), "text_loss": text_loss(trained)}
        return {**trained.cost, **read, "curve": curve}
    return {**trained.cost, "curve": curve, "context": "gold", **judging.judge_all(trained.reader, asked)}


def _text_tokens(recipe: Recipe) -> float:
    """Of text to restore that a run reads; what its mixes ask for on average."""
    shares = (stage.mix["text"] / sum(stage.mix.values()) for stage in recipe.stages)
    examples = sum(s.steps * s.questions * share for s, share in zip(recipe.stages, shares, strict=True))
    return examples * recipe.tasks["text"].input_tokens


def _point(row: dict[str, Any]) -> dict[str, float]:
    """Of the curve: means since the point before."""
    return {name: row[name] for name in ("step", "cpu_seconds", "loss")}


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
