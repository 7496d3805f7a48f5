"""What comes with fidkit: a small reader, its vocabulary, and the documents that `fidkit ask` knows."""

from __future__ import annotations

from pathlib import Path

from fidkit.errors import FidkitError

_HERE = Path(__file__).parent


def documents() -> Path:
    """The folder of the project's own documentation.

    Raises:
        FidkitError: neither in the installed package nor in a checkout around it.
    """
    installed, checkout = _HERE / "docs", _HERE.parents[2] / "docs"
    return _first([installed, checkout], "the bundled documents")


def reader() -> Path:
    """The directory of the bundled reader: `config.json`, `model.safetensors`, `tokenizer.json`, its card.

    Raises:
        FidkitError: this installation has none.
    """
    return _first([_HERE / "reader" / "model.safetensors"], "the bundled reader").parent


def tokenizer_file() -> Path:
    """The vocabulary for readers trained from scratch, as a `tokenizer.json`.

    Raises:
        FidkitError: this installation has none.
    """
    return _first([_HERE / "tokenizer.json"], "the bundled vocabulary")


def _first(candidates: list[Path], what: str) -> Path:
    for path in candidates:
        if path.exists():
            return path
    places = " or ".join(str(path) for path in candidates)
    raise FidkitError(f"{what} is not at {places}; reinstall with `pip install --force-reinstall fidkit`")
