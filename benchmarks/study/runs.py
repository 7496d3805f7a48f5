"""One reader of the study: made, trained, judged on its way and in the end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from judging import Asked
from proportions import split

from fidkit import checkpoint
from fidkit.convert import reshape
from fidkit.convert.fresh import with_decoder
from fidkit.engine.runner import moved
from fidkit.reader import Reader
from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import load_recipe
from study.coded import coded
from study.measure import FEW, SOME, StatesRunner, judged, sized
from study.states import States
from study.variants import OTHERS, SETS, START, First, Variant

RECIPE = Path(__file__).with_name("recipe.toml")
BUDGETS = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
"""Shares of the steps after which a reader is judged by few questions, the same each time."""
CPU = torch.device("cpu")
PARTS_OF_DECODER = ("decoder.", "head.")
ANOTHER_ORDER = 100
"""Added to the seed of a training that goes before."""


def made(variant: Variant, seed: int, start: str = START) -> Reader:
    """The reader before it is trained, made of the start: a bundled name or a directory."""
    if variant.live is not None:
        return _split(variant, start)
    return _drawn({"extractive": False, **variant.config}, seed, start)


def _drawn(changes: Mapping[str, Any], seed: int, name: str) -> Reader:
    """The start with another configuration, its first encoder layers, and a decoder that is drawn."""
    start = Reader.from_pretrained(name)
    stacks = {
        name: getattr(start.config, name).model_dump() | changes.get(name, {})
        for name in ("encoder", "decoder")
    }
    config = start.config.replace(**{"live_layers": stacks["encoder"]["layers"], **changes, **stacks})
    beyond = tuple(
        f"live_encoder.layers.{n}." for n in range(config.encoder.layers, start.config.encoder.layers)
    )
    encoder = {
        name: p.detach()
        for name, p in start.named_parameters()
        if not name.startswith((*PARTS_OF_DECODER, *beyond))
    }
    config, weights, _ = with_decoder(config, encoder, None, seed)
    assert start.tokenizer is not None
    reader = Reader(config, start.tokenizer.with_config(config))
    checkpoint.assign_in_place(reader, weights, "the study's reader")
    return reader.eval()


def _split(variant: Variant, start: str) -> Reader:
    """The start with its encoder split, and what else differs, none of which shapes a weight."""
    assert variant.live is not None
    parts = split(start, Fraction(variant.live))
    if variant.memory is not None:
        parts, _ = reshape(parts, memory_encoder=_drawn({"encoder": {"layers": variant.memory}}, 0, start))
    config = parts.config.replace(extractive=False, **variant.config)
    assert parts.tokenizer is not None
    reader = Reader(config, parts.tokenizer.with_config(config))
    reader.load_state_dict(parts.state_dict())
    return reader.eval()


def trained(
    variant: Variant,
    seed: int,
    steps: int,
    changes: Sequence[str],
    states: States,
    sets: Mapping[str, Asked],
    folder: Path,
    begin: str = START,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train a reader and judge it; the part of a row that says what came of it.

    Args:
        variant: what to train.
        seed: of the decoder's weights and of the questions' order.
        steps: of the study, of which the variant has its share.
        changes: of the recipe, for all variants; they count more than those of a variant.
        states: of frozen layers; what they took so far counts as this reader's.
        sets: to judge by.
        folder: for the run; gone afterwards, since the row is all that is kept.
        begin: the reader that all are made of.
        device: to train on. Readers are judged on one core of the CPU, where their times are taken.
    """
    shutil.rmtree(folder, ignore_errors=True)
    start, reader = folder / "start", made(variant, seed, begin)
    reader.save_pretrained(start)
    frozen = reader.config.frozen
    if variant.first and variant.first.memory:  # no other run has this memory encoder
        states = States(folder / "states", states.compute)
    if variant.codes:  # nor this memory
        read = [passage for asked in sets.values() for _, of_one in asked for passage in of_one]
        states = States(folder / "states", coded(states.compute, reader, read, variant.codes))
    changes, before = [f"stages.0.steps={max(1, int(steps * variant.share))}", *changes], 0.0
    if variant.first:
        before = _first(variant.first, seed, frozen, changes, start, states, folder / "first", device)
        start = folder / "first" / "last"  # with its second moments
    typed = _typed(start, folder / "run", seed, frozen)
    recipe = load_recipe(RECIPE, [*typed, *variant.recipe, *changes])
    judged_at = {max(1, int(recipe.steps * share)): str(share) for share in BUDGETS}
    on_the_way: dict[str, Any] = {}
    deciding = {name: sets[name] for name in variant.decides}

    def report(row: dict[str, Any]) -> None:
        if (share := judged_at.get(row["step"])) and share not in on_the_way:
            runner = StatesRunner(moved(trainer.reader.eval(), CPU), states)
            on_the_way[share] = {"step": row["step"], **judged(runner, deciding, limit=FEW)}

    recipe = recipe.replace(log_every=min(judged_at))
    trainer = Trainer(recipe, report, device, states)
    trainer.run()
    others = {name: sets[name][:SOME] for name in (*SETS, *OTHERS) if name not in deciding}
    outcome = {
        "questions": recipe.stages[-1].questions, "decides": list(deciding), "on_the_way": on_the_way,
        "cpu_seconds": round(before + trainer.cpu_seconds, 1),
        **sized(moved(trainer.reader.eval(), CPU), states, deciding, others, variant.beams),
        "states_seconds": round(states.seconds, 1),
    }  # fmt: skip
    shutil.rmtree(folder)
    return outcome


def _first(
    first: First,
    seed: int,
    frozen: Sequence[str],
    changes: Sequence[str],
    start: Path,
    states: States,
    output: Path,
    device: str,
) -> float:
    """Train what goes before; seconds of a processor."""
    left = [name for name in frozen if not (first.memory and name == "memory")]
    typed = _typed(start, output, seed + ANOTHER_ORDER, left)
    trainer = Trainer(load_recipe(RECIPE, [*typed, *first.recipe, *changes]), device=device, run=states)
    trainer.run()
    return trainer.cpu_seconds


def _typed(start: Path, output: Path, seed: int, frozen: Sequence[str]) -> list[str]:
    """Changes that make the recipe that of one reader."""
    return [
        f"reader.start={start}", f"reader.changes.frozen={list(frozen)}", f"output={output}", f"seed={seed}",
        "evaluation={}",
    ]  # fmt: skip
