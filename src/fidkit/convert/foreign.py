"""Any checkpoint that can be converted; its kind is found out from its files and names."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from fidkit import checkpoint
from fidkit.convert import fid, files, quantised, strangers, wrapped
from fidkit.convert.assemble import assemble
from fidkit.convert.atlas import import_atlas
from fidkit.convert.kinds import read
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, reshape
from fidkit.convert.t5x import import_t5x
from fidkit.convert.vocabulary import require_vocabulary
from fidkit.reader import Reader

COUNTED = "embeddings.position_ids"
"""A buffer of numbers 0, 1, 2, ... that older versions of transformers saved with BERT."""


def load(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader from any checkpoint, reshaped where asked (`fidkit.convert.reshape.Knobs`).

    A fidkit reader; T5, FiD or fastRAG as Hugging Face lays them out, in a directory or on the hub; a
    directory with Atlas' `model.pth.tar`; a T5X checkpoint. A file of one of them stands for its directory.

    Raises:
        CheckpointError: not there, of no known kind, or damaged; lists tensors that are missing, unknown or
            of another shape, and Python objects that are refused.
        ConfigError: a shape that cannot be built.
    """
    if str(path_or_name) == checkpoint.BUNDLED:
        return reshape(Reader.from_pretrained(path_or_name), **knobs)
    directory = files.locate(path_or_name)
    if (directory / checkpoint.CONFIG).is_file():
        if "format_version" in files.read_json(directory / checkpoint.CONFIG):
            return reshape(Reader.from_pretrained(directory), **knobs)
        return import_t5(directory, **knobs)
    if (directory / files.ATLAS).is_file():
        return import_atlas(directory, **knobs)
    return import_t5x(directory, **knobs)


def import_t5(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader with the weights of T5, FiD or fastRAG, in T5's shape or, by rule, in another.

    Args:
        path_or_name: a directory, or a name on the Hugging Face hub.
        knobs: see `fidkit.convert.reshape.Knobs`.

    Raises:
        CheckpointError: not there, not T5, or tensors missing, unknown or of another shape.
        ConfigError: a shape that cannot be built.
    """
    directory = files.locate(path_or_name)
    record = files.read_json(directory / checkpoint.CONFIG)
    foreign, notes = wrapped.plain_names(files.read_weights(directory), str(directory))
    strangers.require_model(foreign, str(directory))
    foreign = {name: tensor for name, tensor in foreign.items() if not name.endswith(COUNTED)}
    foreign, more = quantised.plain_weights(foreign, str(directory))
    notes += more
    if fid.is_wrapped(foreign):
        foreign, more = fid.unwrap(foreign)
        notes += more
    if fid.FASTRAG in (record.get("architectures") or ()):
        notes += Notes(remarks=("fastRAG ends no passage with an end of sequence; this reader ends each",))
    require_vocabulary(directory, record)
    config, weights, more = read(record, foreign, str(directory))
    return assemble(directory, config, weights, notes + more, **knobs)
