"""A reader as a directory: `config.json`, `model.safetensors`, `tokenizer.json`.

Beside them `memory_tokenizer.json`, where passages have a vocabulary of their own, and `calibration.json`,
where answers were judged (`fidkit.calibration`).

Each parameter is stored once, under its first name; tied parameters are tied by the config. Here they are
values; `fidkit.reader` makes readers of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fidkit import assets
from fidkit.calibration import FILE as CALIBRATION
from fidkit.calibration import Calibration
from fidkit.checkpoint.rounded import restored
from fidkit.config import ReaderConfig
from fidkit.errors import CheckpointError, UsageError
from fidkit.paths import remove
from fidkit.tokens import FILE as TOKENIZER
from fidkit.tokens import PASSAGE_FILE, Tokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
BUNDLED = "pocket"
TOKENIZER_SHA256 = "tokenizer_sha256"
"""Key in the weights' metadata: of the `tokenizer.json` saved with them."""
_FILES = [CONFIG, WEIGHTS, TOKENIZER, PASSAGE_FILE, CALIBRATION]
SHA256_KEYS = {TOKENIZER: TOKENIZER_SHA256, PASSAGE_FILE: "memory_tokenizer_sha256"}

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What weights may be stored as."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


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
) -> None:
    """Write a reader's files to `directory`, replacing those of an earlier save one by one.

    A file is replaced by renaming: whoever has mapped the old one keeps it.

    Args:
        tensors: parameters by name, on the CPU.
        config: that they belong to.
        tokenizer: if any.
        directory: made if missing.
        calibration: of these weights, if any; one that is there is of others, and goes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"}
    if tokenizer is not None:
        replace_file(directory / TOKENIZER, tokenizer.save)
        metadata[TOKENIZER_SHA256] = _sha256(directory / TOKENIZER)
    if tokenizer is not None and config.memory_vocabulary_size is not None:
        replace_file(directory / PASSAGE_FILE, tokenizer.save_passages)
        metadata[SHA256_KEYS[PASSAGE_FILE]] = _sha256(directory / PASSAGE_FILE)
    else:
        (directory / PASSAGE_FILE).unlink(missing_ok=True)
    replace_file(directory / WEIGHTS, lambda path: save_file(dict(tensors), path, metadata=metadata))
    replace_file(directory / CONFIG, config.save)
    if calibration is None:
        (directory / CALIBRATION).unlink(missing_ok=True)
    else:
        replace_file(directory / CALIBRATION, calibration.save)


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
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(directory: Path) -> Saved:
    """The files of a reader's directory, as `locate` gives it.

    Raises:
        CheckpointError: one is missing, damaged, or not of this reader.
        ConfigError: a configuration that can't be read or built.
    """
    config = ReaderConfig.load(directory / CONFIG)
    _check_tokenizers(directory)
    path = directory / WEIGHTS
    before = _version(path)
    stored = read_tensors(path)
    tensors = restored(stored, str(path))

    def alone(name: str) -> Tensor:
        # A file that takes its place meanwhile is another reader's.
        if stored[name] is not tensors[name] or before is None or _version(path) != before:
            return tensors[name]
        found = _read(path, lambda file: file.get_tensor(name))
        return found if _version(path) == before else tensors[name]

    calibration = Calibration.load(directory / CALIBRATION) if (directory / CALIBRATION).exists() else None
    return Saved(config, _tokenizer(directory, config), tensors, alone, str(path), calibration)


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


def _tokenizer(directory: Path, config: ReaderConfig) -> Tokenizer | None:
    if not (directory / TOKENIZER).is_file():
        return None
    passages = directory / PASSAGE_FILE
    return Tokenizer.load(directory / TOKENIZER, config, passages if passages.is_file() else None)


def _check_tokenizers(directory: Path) -> None:
    """Refuse a tokenizer that the weights weren't saved with: it would number other tokens."""
    saved = _read(directory / WEIGHTS, lambda file: file.metadata() or {})
    for name, key in SHA256_KEYS.items():
        if key in saved:
            _check_tokenizer(directory, name, saved[key])


def _check_tokenizer(directory: Path, name: str, expected: str) -> None:
    if not (directory / name).is_file():
        raise CheckpointError(f"{directory}: no {name}, but the reader was saved with one; put it back")
    if _sha256(directory / name) != expected:
        raise CheckpointError(
            f"{directory / name}: not the tokenizer that {WEIGHTS} was saved with; put that one back, "
            "or download the reader again"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def locate(path_or_name: str | Path) -> Path:
    """The directory of a reader: as given, bundled, or fetched from the hub.

    Raises:
        CheckpointError: none of the three.
    """
    directory = Path(path_or_name)
    # The name means the same in every working directory; a folder of that name is ./pocket, or a Path.
    if str(path_or_name) == BUNDLED and (isinstance(path_or_name, str) or not directory.exists()):
        if directory.exists():
            _log.info(f"{BUNDLED} is the bundled reader; the folder of that name is ./{BUNDLED}")
        return assets.reader()
    if (directory / CONFIG).is_file():
        return directory
    if directory.exists():
        raise CheckpointError(
            f"{directory}: no {CONFIG} in it; expected a reader's directory "
            f"({CONFIG}, {WEIGHTS}, {TOKENIZER}). For a Hugging Face T5 checkpoint run `fidkit convert` first"
        )
    return _fetch(str(path_or_name))


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"no reader {name!r}: not a directory, not the bundled reader ({BUNDLED}), "
            f"and the Hugging Face hub did not give it ({reason}); check the name"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped: a page is read when it is first looked at.

    The mapping is private. Writing to a tensor changes memory, never the file; and the file may be replaced
    or deleted, but must not be written to in place, while one of its tensors is alive.

    Raises:
        CheckpointError: missing or damaged.
    """
    return _read(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict


def _read(path: Path, get: Callable[[Any], T]) -> T:
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        with safe_open(path, framework="pt") as file:
            return get(file)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: expected a safetensors file, but {error}; download or save it again"
        ) from error


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
