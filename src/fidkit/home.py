"""Where fidkit keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$FIDKIT_HOME`, by default `~/.cache/fidkit`."""
    chosen = os.environ.get("FIDKIT_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "fidkit"
