"""A reader's directory without PyTorch: where it is, what is in it, and its weights as NumPy's arrays."""

from __future__ import annotations

import errno
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from fidkit import assets, mapped
from fidkit.calibration import FILE as CALIBRATION
from fidkit.calibration import Calibration
from fidkit.checkpoint.shared import FILE as SHARED
from fidkit.checkpoint.shared import Shared, sha256
from fidkit.config import ReaderConfig
from fidkit.errors import CheckpointError
from fidkit.tokens import FILE as TOKENIZER
from fidkit.tokens import PASSAGE_FILE, Tokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER_SHA256 = "tokenizer_sha256"
"""Key in the weights' metadata: of the `tokenizer.json` saved with them."""
FILES = [CONFIG, WEIGHTS, TOKENIZER, PASSAGE_FILE, CALIBRATION, SHARED]
SHARED_WITH = "shared_with"
"""Key in the weights' metadata: the bundled reader that has the rest."""
SHA256_KEYS = {TOKENIZER: TOKENIZER_SHA256, PASSAGE_FILE: "memory_tokenizer_sha256"}
SCALE = ".scale"
"""Behind the name of a matrix of 8 bits: what its rows are multiplied by."""
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}

Stamp = tuple[tuple[str, int, int, int, int], ...]

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Directory:
    """A reader's directory but for its weights, and where these are.

    Attributes:
        config: the point in the space of readers.
        tokenizer: if one was saved.
        calibration: of its answers, if there is one.
        shared: what of the weights is in another reader's file.
        weights: the file of its own.
    """

    config: ReaderConfig
    tokenizer: Tokenizer | None
    calibration: Calibration | None
    shared: Shared | None
    weights: Path

    @property
    def all_weights(self) -> list[Path]:
        """The files with its weights: its own, and the one that it shares some of."""
        return [self.weights] + ([self.shared.weights] if self.shared else [])

    @property
    def is_rounded(self) -> bool:
        """Whether matrices are stored in 8 bits."""
        return any(opened(path, _has_scales) for path in self.all_weights)


class Mapped:
    """Files whose weights are in use where they are, mapped.

    A file that another one takes the place of, as fidkit and the hub's library do it, stays as it was. One
    that is written to in place has other weights from then on, and one that is cut ends the process where
    they were. So a reader asks before and after each use.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = [(path, os.open(path, os.O_RDONLY)) for path in paths]
        for _, file in self._files:
            weakref.finalize(self, os.close, file)
        self._before = self._state()

    def check(self) -> None:
        """Raises CheckpointError where one was written to since."""
        for (path, _), before, now in zip(self._files, self._before, self._state(), strict=True):
            if before != now:
                raise CheckpointError(
                    f"{path}: it was written to while a reader had it open; open the reader again, and put "
                    "new weights in its place by renaming, as `fidkit` does"
                )

    def _state(self) -> list[tuple[int, int]]:
        return [(found.st_size, found.st_mtime_ns) for found in (os.fstat(file) for _, file in self._files)]


def open_directory(directory: Path) -> Directory:
    """All but the weights of a reader's directory, as `locate` gives it.

    Raises:
        CheckpointError: a file is missing, damaged, or not of this reader.
        ConfigError: a configuration that can't be read or built.
    """
    config, shared = ReaderConfig.load(directory / CONFIG), Shared.load(directory)
    path = directory / WEIGHTS
    vocabularies = {name: directory / name for name in SHA256_KEYS}
    if shared is not None and not vocabularies[TOKENIZER].is_file():
        vocabularies[TOKENIZER] = shared.directory / TOKENIZER
    _check_saved_with(path, vocabularies, shared)
    calibration = Calibration.load(directory / CALIBRATION) if (directory / CALIBRATION).exists() else None
    return Directory(config, _tokenizer(vocabularies, config), calibration, shared, path)


def _has_scales(file: Any) -> bool:
    return any(name.endswith(SCALE) for name in file.keys())  # noqa: SIM118 - not a dict


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, mapped (`fidkit.mapped`); bfloat16 is uint16 here.

    The file must not be written to in place while one of its arrays is alive (`Mapped` notices).

    Raises:
        CheckpointError: missing or damaged.
    """
    # Opening has looked at sizes and places of all.
    return opened(path, lambda file: mapped.arrays(path, file.keys(), _TYPES))


def opened(path: Path, get: Callable[[Any], T], framework: str = "np") -> T:
    """What `get` gives of an open safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        with safe_open(path, framework=framework) as file:
            return get(file)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise MemoryError(f"{path} can't be mapped") from error
        raise CheckpointError(
            f"{path}: expected a safetensors file, but {error}; download or save it again"
        ) from error


def _tokenizer(files: Mapping[str, Path], config: ReaderConfig) -> Tokenizer | None:
    if not files[TOKENIZER].is_file():
        return None
    passages = files[PASSAGE_FILE]
    return Tokenizer.load(files[TOKENIZER], config, passages if passages.is_file() else None)


def _check_saved_with(weights: Path, files: Mapping[str, Path], shared: Shared | None) -> None:
    """Refuse a tokenizer that the weights weren't saved with: it would number other tokens."""
    saved = opened(weights, lambda file: file.metadata() or {})
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


def stamp_of(path_or_name: str | Path) -> Stamp:
    """What is another when files of a reader's directory were replaced or written to.

    Empty where there is no such directory: for bundled readers, those of the hub, and one that is away.
    """
    if is_bundled(path_or_name):
        return ()
    found = []
    for name in FILES:
        with suppress(OSError):
            info = os.stat(Path(path_or_name) / name)
            found.append((name, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns))
    return tuple(found)


def is_calibrated(path_or_name: str | Path) -> bool:
    """Whether answers of a reader were judged, so that it was trained; `locate` says what names one.

    Raises:
        CheckpointError, UsageError: as `locate` does.
    """
    return (locate(path_or_name) / CALIBRATION).exists()


def locate(path_or_name: str | Path) -> Path:
    """The directory of a reader or an encoder of ours: as given, bundled, or fetched.

    Args:
        path_or_name: a directory, a bundled name, `s3://bucket/prefix`, or a name of the hub.

    Raises:
        CheckpointError: none of these.
        UsageError: it is in an object store, and the extra `s3` isn't installed.
    """
    if isinstance(path_or_name, str) and path_or_name.lower().startswith("s3:/"):
        from fidkit.checkpoint.fetched import fetched

        return fetched(path_or_name, FILES, CONFIG)
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
    import difflib

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        near = difflib.get_close_matches(name, assets.READERS, n=1)
        raise CheckpointError(
            f"no reader {name!r}: not a directory, not one of the bundled readers "
            f"({', '.join(assets.READERS)}), and the Hugging Face hub did not give it ({reason}); "
            + (f"did you mean {near[0]!r}?" if near else "check the name")
        ) from error
