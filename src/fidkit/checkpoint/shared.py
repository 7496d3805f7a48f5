"""Weights that a reader has in common with a bundled one: named in `shared.json`, and stored there alone.

A reader whose encoder, or a part of it, is that of a bundled reader so takes a fraction of the bytes; its
vocabulary may be the other's too. What it shares is looked for by content, not by name: frozen layers of a
memory encoder are live ones in the reader that they come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fidkit import arrays, assets
from fidkit.arrays import Array
from fidkit.config.strict import Strict, parse, said
from fidkit.errors import CheckpointError, ConfigError

FILE = "shared.json"


class Shared(Strict):
    """What of a reader lies in the files of a bundled one.

    Attributes:
        reader: its name.
        sha256: of the weights that are meant.
        tensors: the names there, by the names here.
    """

    reader: str
    sha256: str
    tensors: dict[str, str]

    @classmethod
    def load(cls, directory: Path) -> Shared | None:
        """What `directory` says of it; None where it shares nothing.

        Raises:
            CheckpointError: a damaged file, or a reader that this fidkit doesn't bring, or not as it was.
        """
        path = directory / FILE
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: expected JSON, but {said(error)}; save the reader again"
            ) from error
        try:
            shared: Shared = parse(cls, record, str(path))
        except ConfigError as error:
            raise CheckpointError(f"{error}; save the reader again") from error
        if shared.reader not in assets.READERS:
            raise CheckpointError(
                f"{path}: has weights of the bundled reader {shared.reader!r:.99}; this fidkit brings "
                f"{', '.join(assets.READERS)}; upgrade fidkit"
            )
        state = shared.weights.stat()
        if shared.sha256 != _sha256_once(shared.weights, state.st_ino, state.st_size, state.st_mtime_ns):
            raise CheckpointError(
                f"{path}: has weights of another {shared.reader} than this fidkit brings; install the "
                "version that it was saved with, or save it again"
            )
        return shared

    @property
    def directory(self) -> Path:
        """Of the reader that has them."""
        return assets.reader(self.reader)

    @property
    def weights(self) -> Path:
        """The file that they lie in."""
        return self.directory / "model.safetensors"

    def take(self, there: Mapping[str, Array], where: Path) -> dict[str, Array]:
        """Its tensors under their names here, no two of which are one in memory.

        Raises:
            CheckpointError: one isn't there.
        """
        if missing := sorted(set(self.tensors.values()) - there.keys()):
            raise CheckpointError(
                f"{where}: names weights that {self.reader} lacks: {', '.join(missing[:5])}"
            )
        seen, taken = set[str](), {}
        for here, name in self.tensors.items():
            taken[here] = arrays.copied(there[name]) if name in seen else there[name]
            seen.add(name)
        return taken

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


@lru_cache(maxsize=8)
def _sha256_once(path: Path, *state: int) -> str:
    """Of a file in a state; who opens several readers shares the work."""
    return sha256(path)


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
