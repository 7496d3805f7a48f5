"""The log of a run for TensorBoard (extra `tensorboard`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fidkit.errors import ConfigError

_NO_SCALARS = {"kind", "step", "steps"}


class Board:
    """Writes `tensorboard/` of a run.

    Args:
        path: of the run.

    Raises:
        ConfigError: TensorBoard isn't installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "tensorboard = true needs TensorBoard; `pip install 'fidkit[tensorboard]'` or leave it out"
            ) from error
        self._make, self._path = SummaryWriter, path / "tensorboard"
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Go on after `step`; what was shown of later steps disappears."""
        self.close()
        self._writer = self._make(str(self._path), purge_step=step + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """Show the numbers of a row of the log, as `kind/name` and `kind/set/name`."""
        for name, value in row.items():
            if name in _NO_SCALARS:
                continue
            inner = value if isinstance(value, Mapping) else {"": value}
            for key, number in inner.items():
                if isinstance(number, int | float):
                    tag = "/".join(filter(None, (row["kind"], name, key)))
                    self._writer.add_scalar(tag, number, row["step"])

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
