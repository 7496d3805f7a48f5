"""Any checkpoint that can be converted; its kind is found out from its files and names."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from fidkit import checkpoint
from fidkit.checkpoint.files import open_directory, read_arrays
from fidkit.config import ReaderConfig
from fidkit.convert import fid, files, pooling, quantised, strangers, wrapped
from fidkit.convert.assemble import assemble, with_vocabulary
from fidkit.convert.atlas import import_atlas
from fidkit.convert.fresh import with_decoder
from fidkit.convert.kinds import Foreign, read
from fidkit.convert.notes import Notes
from fidkit.convert.reshape import Knobs, Weights, reshape
from fidkit.convert.t5x import import_t5x
from fidkit.convert.vocabulary import read_vocabulary, require_vocabulary
from fidkit.reader import Reader


def load(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader from any checkpoint, reshaped where asked (`fidkit.convert.reshape.Knobs`).

    A fidkit reader; T5, FiD, fastRAG or an encoder of BERT's layout as Hugging Face lays them out, in a
    directory or on the hub; a directory with Atlas' `model.pth.tar`; a T5X checkpoint. A file of one of them
    stands for its directory.

    Raises:
        CheckpointError: not there, of no known kind, or damaged; lists tensors that are missing, unknown or
            of another shape, and Python objects that are refused.
        ConfigError: a shape that cannot be built.
    """
    directory = files.locate(path_or_name)
    if (directory / checkpoint.CONFIG).is_file():
        if "format_version" in files.read_json(directory / checkpoint.CONFIG):
            return _of_ours(directory, **knobs)
        return import_hf(directory, **knobs)
    if (directory / files.ATLAS).is_file():
        return import_atlas(directory, **knobs)
    return import_t5x(directory, **knobs)


def import_hf(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader with the weights of a checkpoint as Hugging Face lays it out, in its shape or in another.

    An encoder alone gets a decoder that is drawn.

    Args:
        path_or_name: a directory, or a name on the Hugging Face hub.
        knobs: see `fidkit.convert.reshape.Knobs`.

    Raises:
        CheckpointError: not there, of no known kind, or tensors missing, unknown or of another shape.
        ConfigError: a shape that cannot be built.
    """
    directory = pooling.model_directory(files.locate(path_or_name))
    config, weights, notes = read_hf(directory)
    if not any(name.startswith("decoder.") for name in weights):
        layers, seed = knobs.pop("decoder_layers", None), knobs.pop("seed", None)
        config, weights, more = with_decoder(config, weights, layers, seed)
        notes += more
    return assemble(directory, config, weights, notes, **knobs)


def _of_ours(directory: Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """A reader of ours, or an encoder with a decoder that is drawn, in its shape or in another."""
    found = open_directory(directory)
    names = {*read_arrays(found.weights), *(found.shared.tensors if found.shared else ())}
    if any(name.startswith("decoder.") for name in names):
        return reshape(Reader.from_pretrained(directory), **knobs)
    saved = checkpoint.read(directory)
    # Where its texts began: vectors and memory of passages can then be made in one pass.
    config = saved.config.replace(passage_position=0)
    layers, seed = knobs.pop("decoder_layers", None), knobs.pop("seed", None)
    config, weights, notes = with_decoder(config, saved.tensors, layers, seed)
    backend = None if saved.tokenizer is None else saved.tokenizer.backend
    return with_vocabulary(backend, directory, config, weights, notes, **knobs)


def import_t5(path_or_name: str | Path, **knobs: Unpack[Knobs]) -> tuple[Reader, Notes]:
    """`import_hf`, for T5, FiD and fastRAG."""
    return import_hf(path_or_name, **knobs)


def read_hf(directory: Path) -> tuple[ReaderConfig, Weights, Notes]:
    """Our configuration and weights of a directory as Hugging Face lays it out; of an encoder, its own alone.

    Raises:
        CheckpointError: of no known kind, or tensors missing, unknown or of another shape.
    """
    record = files.read_json(directory / checkpoint.CONFIG)
    tensors, notes = wrapped.plain_names(files.read_weights(directory), str(directory))
    strangers.require_model(tensors, str(directory))
    tensors, more = quantised.plain_weights(tensors, str(directory))
    notes += more
    if fid.is_wrapped(tensors):
        tensors, more = fid.unwrap(tensors)
        notes += more
    if fid.FASTRAG in (record.get("architectures") or ()):
        notes += Notes(remarks=("fastRAG ends no passage with an end of sequence; this reader ends each",))
    require_vocabulary(directory, record)
    config, weights, more = read(Foreign(record, tensors, str(directory), read_vocabulary(directory)))
    return config, weights, notes + more
