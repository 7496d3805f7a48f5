"""A reader as a directory: `config.json`, `model.safetensors`, `tokenizer.json`.

Beside them `memory_tokenizer.json`, where passages have a vocabulary of their own, `calibration.json`, where
answers were judged (`fidkit.calibration`), and `shared.json`, where some of the weights, and the tokenizer,
are those of a bundled reader (`fidkit.checkpoint.shared`).

Each parameter is stored once, under its first name; tied parameters are tied by the config. Here they are
tensors; `fidkit.reader` makes readers of them. `fidkit.checkpoint.files` needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fidkit import assets
from fidkit.calibration import FILE as CALIBRATION
from fidkit.calibration import Calibration
from fidkit.checkpoint.files import (
    CONFIG,
    SHA256_KEYS,
    SHARED_WITH,
    TOKENIZER_SHA256,
    WEIGHTS,
    open_directory,
    opened,
)
from fidkit.checkpoint.rounding import restored
from fidkit.checkpoint.shared import FILE as SHARED
from fidkit.checkpoint.shared import Shared, sha256
from fidkit.config import ReaderConfig
from fidkit.disk import permit
from fidkit.errors import CheckpointError, UsageError
from fidkit.paths import remove
from fidkit.tokens import FILE as TOKENIZER
from fidkit.tokens import PASSAGE_FILE, Tokenizer

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What weights may be stored as."""


@dataclass(frozen=True)
class Saved:
    """A reader's directory as values.

    Attributes:
        config: the point in the space of readers.
        tokenizer: if one was saved.
        tensors: parameters by name, mapped from the file unless they are rounded there; not checked against
            `config` yet.
        alone: gives one of them with a mapping of its own, whose memory goes with it.
        where: they are from, for messages.
        calibration: of its answers, if there is one.
    """

    config: ReaderConfig
    tokenizer: Tokenizer | None
    tensors: Mapping[str, Tensor]
    alone: Callable[[str], Tensor]
    where: str
    calibration: Calibration | None = None


def save_tensors(
    tensors: Mapping[str, Tensor],
    config: ReaderConfig,
    tokenizer: Tokenizer | None,
    directory: Path,
    calibration: Calibration | None = None,
    share_with: str | None = None,
) -> None:
    """Write a reader's files to `directory`, replacing those of an earlier save one by one.

    A file is replaced by renaming: whoever has mapped the old one keeps it.

    Args:
        tensors: parameters by name, on the CPU.
        config: that they belong to.
        tokenizer: if any.
        directory: made if missing.
        calibration: of these weights, if any; one that is there is of others, and goes.
        share_with: a bundled reader, whose weights and tokenizer aren't stored again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    metadata, own, shared = {"format": "pt"}, dict(tensors), None
    if share_with is not None:
        there, metadata[SHARED_WITH] = assets.reader(share_with), share_with
        own, shared = share(tensors, share_with, read_tensors(there / WEIGHTS))
    if tokenizer is not None:
        replace_file(directory / TOKENIZER, tokenizer.save)
        metadata[TOKENIZER_SHA256] = sha256(directory / TOKENIZER)
        if shared is not None and sha256(shared.directory / TOKENIZER) == metadata[TOKENIZER_SHA256]:
            (directory / TOKENIZER).unlink()
    if tokenizer is not None and config.memory_vocabulary_size is not None:
        replace_file(directory / PASSAGE_FILE, tokenizer.save_passages)
        metadata[SHA256_KEYS[PASSAGE_FILE]] = sha256(directory / PASSAGE_FILE)
    else:
        (directory / PASSAGE_FILE).unlink(missing_ok=True)
    replace_file(directory / WEIGHTS, lambda path: save_file(own, path, metadata=metadata))
    replace_file(directory / CONFIG, config.save)
    for name, record in ((CALIBRATION, calibration), (SHARED, shared)):
        if record is None:
            (directory / name).unlink(missing_ok=True)
        else:
            replace_file(directory / name, record.save)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in the place of `path` at once.

    Where writing fails, as on a full disk, nothing of it stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected a file; delete it or choose another place")
    remove(temporary)  # whatever stands there, nobody writes through it
    try:
        write(temporary)
        permit(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(directory: Path) -> Saved:
    """The files of a reader's directory, as `locate` gives it.

    Raises:
        CheckpointError: one is missing, damaged, or not of this reader.
        ConfigError: a configuration that can't be read or built.
    """
    found = open_directory(directory)
    shared, path = found.shared, found.weights
    before = _version(path)
    own = stored = read_tensors(path)
    if shared is not None:
        stored = {**shared.take(read_tensors(shared.weights), directory / SHARED), **own}
    tensors = restored(stored, str(path))

    def alone(name: str) -> Tensor:
        # A file that takes its place meanwhile is another reader's.
        whole = own.get(name) is tensors[name]
        if not whole or before is None or _version(path) != before:
            return tensors[name]
        found = opened(path, lambda file: file.get_tensor(name), "pt")
        return found if _version(path) == before else tensors[name]

    return Saved(found.config, found.tokenizer, tensors, alone, str(path), found.calibration)


def _version(path: Path) -> tuple[int, ...] | None:
    """Tells a file from another one that takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def type_of(name: str) -> torch.dtype:
    """The type that weights are stored as.

    Raises:
        UsageError: not one of `TYPES`.
    """
    if name not in TYPES:
        raise UsageError(f"dtype is {name!r}; expected one of {', '.join(TYPES)}, or None to keep it")
    return TYPES[name]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped: a page is read when it is first looked at.

    The mapping is private. Writing to a tensor changes memory, never the file; and the file may be replaced
    or deleted, but must not be written to in place, while one of its tensors is alive.

    Raises:
        CheckpointError: missing or damaged.
    """

    def get(file: Any) -> dict[str, Tensor]:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    return opened(path, get, "pt")


def fingerprint(
    config: ReaderConfig, tokenizer: Tokenizer | None, parameters: Iterable[tuple[str, Tensor]]
) -> str:
    """SHA-256 over config, tokenizer and weights: equal readers, equal fingerprints."""
    digest = hashlib.sha256(json.dumps(config.record(), sort_keys=True).encode())
    if tokenizer is not None:
        digest.update(tokenizer.backend.to_str().encode())
        if config.memory_vocabulary_size is not None:
            digest.update(tokenizer.passage_backend.to_str().encode())
    for name, parameter in sorted(parameters):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def upload(directory: Path, name: str, *, private: bool) -> None:
    """Put a reader's directory on the hub as `name`."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(name, private=private, exist_ok=True)
    api.upload_folder(repo_id=name, folder_path=directory, commit_message="Upload fidkit reader")


def share(
    tensors: Mapping[str, Tensor], name: str, there: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Shared]:
    """What of `tensors` is its own, and what the bundled reader `name` has already.

    Args:
        tensors: as they are to be stored.
        name: of a bundled reader.
        there: its own, as they are stored.
    """
    contents = {key: _content(tensor) for key, tensor in sorted(there.items())}
    first = {content: key for key, content in reversed(contents.items())}
    own, found = dict[str, Tensor](), dict[str, str]()
    for key, tensor in tensors.items():
        content = _content(tensor)
        if contents.get(key) == content:
            found[key] = key
        elif content in first:
            found[key] = first[content]
        else:
            own[key] = tensor
    return own, Shared(reader=name, sha256=sha256(assets.reader(name) / "model.safetensors"), tensors=found)


def _content(tensor: Tensor) -> bytes:
    """Tells tensors apart by type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.digest()
