"""A reader as a directory: `config.json`, `model.safetensors`, `tokenizer.json`.

Beside them `memory_tokenizer.json`, where passages have a vocabulary of their own, `calibration.json`, where
answers were judged (`fidkit.calibration`), and `shared.json`, where some of the weights, and the tokenizer,
are those of a bundled reader (`fidkit.checkpoint.shared`).

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
from fidkit.checkpoint.shared import FILE as SHARED
from fidkit.checkpoint.shared import Shared, sha256, share
from fidkit.config import ReaderConfig
from fidkit.disk import permit
from fidkit.errors import CheckpointError, UsageError
from fidkit.paths import remove
from fidkit.tokens import FILE as TOKENIZER
from fidkit.tokens import PASSAGE_FILE, Tokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER_SHA256 = "tokenizer_sha256"
"""Key in the weights' metadata: of the `tokenizer.json` saved with them."""
_FILES = [CONFIG, WEIGHTS, TOKENIZER, PASSAGE_FILE, CALIBRATION, SHARED]
SHARED_WITH = "shared_with"
"""Key in the weights' metadata: the bundled reader that has the rest."""
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
    config, shared = ReaderConfig.load(directory / CONFIG), Shared.load(directory)
    path = directory / WEIGHTS
    vocabularies = {name: directory / name for name in SHA256_KEYS}
    if shared is not None and not vocabularies[TOKENIZER].is_file():
        vocabularies[TOKENIZER] = shared.directory / TOKENIZER
    _check_saved_with(path, vocabularies, shared)
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
        found = _read(path, lambda file: file.get_tensor(name))
        return found if _version(path) == before else tensors[name]

    calibration = Calibration.load(directory / CALIBRATION) if (directory / CALIBRATION).exists() else None
    return Saved(config, _tokenizer(vocabularies, config), tensors, alone, str(path), calibration)


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


def _tokenizer(files: Mapping[str, Path], config: ReaderConfig) -> Tokenizer | None:
    if not files[TOKENIZER].is_file():
        return None
    passages = files[PASSAGE_FILE]
    return Tokenizer.load(files[TOKENIZER], config, passages if passages.is_file() else None)


def _check_saved_with(weights: Path, files: Mapping[str, Path], shared: Shared | None) -> None:
    """Refuse a tokenizer that the weights weren't saved with: it would number other tokens."""
    saved = _read(weights, lambda file: file.metadata() or {})
    if SHARED_WITH in saved and shared is None:
        raise CheckpointError(
            f"{weights.parent}: no {SHARED}, which names the weights that it has in common with "
            f"{saved[SHARED_WITH]:.99}; put it back, or save the reader again"
        )
    for name, key in SHA256_KEYS.items():
        if key in saved:
            _check_tokenizer(files[name], saved[key])


def _check_tokenizer(file: Path, expected: str) -> None:
    if not file.is_file():
        raise CheckpointError(
            f"{file.parent}: no {file.name}, but the reader was saved with one; put it back"
        )
    if sha256(file) != expected:
        raise CheckpointError(
            f"{file}: not the tokenizer that {WEIGHTS} was saved with; put that one back, "
            "or download the reader again"
        )


def is_bundled(path_or_name: str | Path) -> bool:
    """Whether it is the name of a reader, or of an encoder, that comes with fidkit."""
    return str(path_or_name) in assets.READERS + assets.EMBEDDERS


def locate(path_or_name: str | Path) -> Path:
    """The directory of a reader or an encoder of ours: as given, bundled, or fetched from the hub.

    Raises:
        CheckpointError: none of the three.
    """
    directory = Path(path_or_name)
    # The name means the same in every working directory; a folder of that name is ./pocket, or a Path.
    name = str(path_or_name)
    if is_bundled(path_or_name) and (isinstance(path_or_name, str) or not directory.exists()):
        if directory.exists():
            _log.info(f"{name} is the bundled reader; the folder of that name is ./{name}")
        return assets.reader(name)
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
            f"no reader {name!r}: not a directory, not one of the bundled readers "
            f"({', '.join(assets.READERS)}), and the Hugging Face hub did not give it ({reason}); "
            "check the name"
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
