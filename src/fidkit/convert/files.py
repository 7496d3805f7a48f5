"""Files of foreign checkpoints: where they are, and the tensors in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from fidkit import checkpoint
from fidkit.config import said
from fidkit.convert import pickles, strangers, zarr
from fidkit.errors import CheckpointError
from fidkit.paths import is_plain_name

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
INDEX = ".index.json"
ATLAS = "model.pth.tar"
NO_MODEL = ("optimizer", "scheduler", "rng_state", "training_args", "mp_rank", "zero_", "bf16_zero")
TOKENIZERS = ["tokenizer.json", "spiece.model", "vocab.txt", "tokenizer_config.json"]
SENTENCES = [
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
]
"""What sentence-transformers keeps beside an encoder."""


def locate(path_or_name: str | Path) -> Path:
    """The directory of a checkpoint: as given, bundled, or fetched from the Hugging Face hub.

    Raises:
        CheckpointError: neither; or a directory with no checkpoint of a known kind.
    """
    if checkpoint.is_bundled(path_or_name):
        return checkpoint.locate(path_or_name)
    directory = Path(path_or_name)
    if directory.is_file():
        directory = directory.parent
    if _is_checkpoint(directory):
        return directory
    if directory.exists():
        below = [path.relative_to(directory).as_posix() for path in _checkpoints_below(directory)]
        known = strangers.describe(directory)
        hint = f"; there is one in {', '.join(below[:5])}" if below else ""
        raise CheckpointError(
            f"{directory}: no {checkpoint.CONFIG} in it; expected a checkpoint as Hugging Face lays it out "
            f"({checkpoint.CONFIG}, {SAFETENSORS} or {PICKLE}, tokenizer.json), Atlas' {ATLAS}, or the "
            f"arrays of T5X{hint or (f'; {known}' if known else '')}"
        )
    name = str(path_or_name)
    beside = [checkpoint.CONFIG, *TOKENIZERS, *SENTENCES]
    found = _fetch(name, [*beside, SAFETENSORS, SAFETENSORS + INDEX, "model-*.safetensors"])
    if not (found / SAFETENSORS).exists() and not (found / (SAFETENSORS + INDEX)).exists():
        # Asked for on its own, so that nobody downloads the weights twice.
        found = _fetch(name, [PICKLE, PICKLE + INDEX, "pytorch_model-*.bin"])
    return found


def _is_checkpoint(directory: Path) -> bool:
    known = (directory / checkpoint.CONFIG).is_file() or (directory / ATLAS).is_file()
    return known or zarr.find(directory) is not None


def _checkpoints_below(directory: Path) -> list[Path]:
    """Where FiD and Atlas keep those of a run: `name/checkpoint/step-N`, `best_dev`, `latest`."""
    found = (path for below in ("*", "checkpoint/*", "*/checkpoint/*") for path in directory.glob(below))
    return sorted(path for path in found if path.is_dir() and _is_checkpoint(path))


def _fetch(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"no checkpoint {name!r}: not a directory, and the Hugging Face hub did not give it ({reason}); "
            "check the name and the connection, or download it and give the directory"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: missing or something else.
    """
    record = _read_json(path, "a JSON object")
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record


def _read_json(path: Path, expected: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected {expected}, but {said(error)}") from error


def read_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects.

    Raises:
        CheckpointError: missing or something else.
    """
    items = _read_json(path, "a list of JSON objects")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise CheckpointError(f"{path}: expected a list of JSON objects, got something else")
    return items


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint: safetensors or pickle, in one file or in shards; safetensors preferred.

    Raises:
        CheckpointError: no weights, damaged ones, or shards missing.
    """
    for name, read in ((SAFETENSORS, _read_safetensors), (PICKLE, pickles.read_tensors)):
        if (directory / name).is_file():
            return read(directory / name)
        if (directory / (name + INDEX)).is_file():
            return _read_shards(directory / (name + INDEX), read)
    if (single := _saved_by_training(directory)) is not None:
        return pickles.read_tensors(single)
    known = strangers.describe(directory)
    raise CheckpointError(
        f"{directory}: no weights in it; expected {SAFETENSORS} or {PICKLE}, "
        f"in one file or with {INDEX} and shards" + (f"; {known}" if known else "")
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    strangers.require_weights(path)
    return checkpoint.read_tensors(path)


def _saved_by_training(directory: Path) -> Path | None:
    """The one file that a training loop wrote under a name of its own."""
    found = [path for end in ("ckpt", "pt", "pth") for path in directory.glob(f"*.{end}")]
    return found[0] if len(found) == 1 and not found[0].name.startswith(NO_MODEL) else None


def _read_shards(index: Path, read: Any) -> dict[str, Tensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise CheckpointError(f"{index}: expected an object 'weight_map' of tensor names to files")
    tensors: dict[str, Tensor] = {}
    foreign = [file for file in places.values() if not is_plain_name(file)]
    if foreign:
        raise CheckpointError(
            f"{index}: names the file {foreign[0]!r:.99} outside the checkpoint's directory"
        )
    for file in sorted(set(places.values())):
        if not (index.parent / file).is_file():
            raise CheckpointError(f"{index}: names the shard {file}, which isn't there; download it too")
        tensors |= read(index.parent / file)
    missing = sorted(places.keys() - tensors.keys())
    if missing:
        raise CheckpointError(f"{index}: the shards lack {', '.join(missing[:5])}; download them again")
    return tensors
