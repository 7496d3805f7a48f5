"""The reader that a run starts from, and whether this machine is one for its precision."""

from __future__ import annotations

from typing import Any

import torch

from fidkit import checkpoint
from fidkit.config import ReaderConfig
from fidkit.engine.cpu.products import has_bfloat16_products
from fidkit.preset import named
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.train.matching import match_and_copy
from fidkit.train.recipe import Recipe


def make_reader(recipe: Recipe) -> Reader:
    """Random weights of a preset, or a trained reader, with the recipe's changes.

    Raises:
        CheckpointError: no such reader, or a change that shapes its weights.
        ConfigError: an unknown preset or change.
    """
    spec = recipe.reader
    changes = {"dropout": recipe.dropout, **spec.changes}
    if spec.start is not None:
        return _changed(Reader.from_pretrained(spec.start), changes)
    config = _changed_preset(named(str(spec.preset)), changes)
    reader = Reader(config, Tokenizer.bundled(config))
    generator = torch.Generator().manual_seed(recipe.seed)
    if spec.initialisation == "matching":
        match_and_copy(reader, generator, spec.matching_layer)
    else:
        reader.reset_parameters(generator)
    return reader


def _changed_preset(config: ReaderConfig, changes: dict[str, Any]) -> ReaderConfig:
    """The preset with changes; a knob that was at all of a stack's layers or heads stays at all of them."""
    follow = {
        "live_layers": "encoder" in changes and config.live == config.encoder.layers,
        "self_kv_heads": "decoder" in changes and config.self_kv_heads == config.decoder.heads,
        "cross_kv_heads": "decoder" in changes and config.cross_kv_heads == config.decoder.heads,
    }
    all_of_them = {name: None for name, follows in follow.items() if follows}
    changed: ReaderConfig = config.replace(**{**all_of_them, **changes})
    return changed


def slow_precision(precision: str, device: torch.device) -> str | None:
    """What to say where bfloat16 costs time instead of saving it; None where it doesn't.

    Without AVX-512, torch's library for CPUs has no products in bfloat16, and plain loops stand in, some 7
    to 90 times slower than float32.
    """
    if precision != "bfloat16" or device.type != "cpu" or has_bfloat16_products():
        return None
    return "this CPU is slow in bfloat16: train with `--set precision=float32`, in a new output"


def _changed(reader: Reader, changes: dict[str, Any]) -> Reader:
    """The same weights under a configuration that differs in something that is no weight."""
    config = reader.config.replace(**changes)
    changed = Reader(config, reader.tokenizer and reader.tokenizer.with_config(config))
    tensors = {name: p.detach() for name, p in reader.named_parameters()}
    checkpoint.assign_in_place(changed, tensors, "reader.changes")
    return changed
