"""One reader of the study: made, trained, judged on its way and in the end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from judging import Asked
from proportions import split

from fidkit import checkpoint
from fidkit.convert.fresh import with_decoder
from fidkit.reader import Reader
from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import load_recipe
from study.measure import FEW, StatesRunner, judged, sized
from study.states import States
from study.variants import START, Variant

RECIPE = Path(__file__).with_name("recipe.toml")
BUDGETS = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
"""Shares of the steps after which a reader is judged by few questions, the same each time."""
PARTS_OF_DECODER = ("decoder.", "head.")


def made(variant: Variant, seed: int) -> Reader:
    """The reader before it is trained."""
    if variant.live is not None:
        return _split(variant)
    start = Reader.from_pretrained(START)
    changes = dict(variant.config)
    stack = start.config.decoder.model_dump() | changes.pop("decoder", {})
    config = start.config.replace(decoder=stack, extractive=False, **changes)
    encoder = {
        name: p.detach() for name, p in start.named_parameters() if not name.startswith(PARTS_OF_DECODER)
    }
    config, weights, _ = with_decoder(config, encoder, None, seed)
    assert start.tokenizer is not None
    reader = Reader(config, start.tokenizer.with_config(config))
    checkpoint.assign_in_place(reader, weights, variant.name)
    return reader.eval()


def _split(variant: Variant) -> Reader:
    """The start with its encoder split, and what else differs, none of which shapes a weight."""
    assert variant.live is not None
    parts = split(START, Fraction(variant.live))
    config = parts.config.replace(extractive=False, **variant.config)
    assert parts.tokenizer is not None
    reader = Reader(config, parts.tokenizer.with_config(config))
    reader.load_state_dict(parts.state_dict())
    return reader.eval()


def trained(
    variant: Variant,
    seed: int,
    changes: Sequence[str],
    states: States,
    sets: Mapping[str, Asked],
    folder: Path,
) -> dict[str, Any]:
    """Train a reader and judge it; the part of a row that says what came of it.

    Args:
        variant: what to train.
        seed: of the decoder's weights and of the questions' order.
        changes: of the recipe, for all variants.
        states: of frozen layers; what they took so far counts as this reader's.
        sets: to judge by.
        folder: for the run; gone afterwards, since the row is all that is kept.
    """
    start, output = folder / "start", folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    made(variant, seed).save_pretrained(start)
    typed = [f"reader.start={start}", f"output={output}", f"seed={seed}", "evaluation={}"]
    recipe = load_recipe(RECIPE, [*typed, *changes, *variant.recipe])
    judged_at = {max(1, int(recipe.steps * share)): str(share) for share in BUDGETS}
    on_the_way: dict[str, Any] = {}

    def report(row: dict[str, Any]) -> None:
        if (share := judged_at.get(row["step"])) and share not in on_the_way:
            runner = StatesRunner(trainer.reader.eval(), states)
            on_the_way[share] = {"step": row["step"], **judged(runner, sets, limit=FEW)}

    recipe = recipe.replace(log_every=min(judged_at))
    trainer = Trainer(recipe, report, "cpu", states)
    trainer.run()
    stage = recipe.stages[-1]
    outcome = {
        "questions": stage.questions, "cpu_seconds": round(trainer.cpu_seconds, 1),
        "states_seconds": round(states.seconds, 1), "on_the_way": on_the_way,
        **sized(trainer.reader.eval(), states, sets, variant.beams),
    }  # fmt: skip
    shutil.rmtree(folder)
    return outcome
