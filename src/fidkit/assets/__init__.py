"""What comes with fidkit: readers, an encoder for search, a vocabulary, and documents of its own."""

from __future__ import annotations

from pathlib import Path

from fidkit.errors import FidkitError

READER = "pocket"
"""The default reader."""
READERS = (READER, "pocket-lumen", "pocket-fido")
"""All readers, by name; the others take what they have in common with the first from there."""
EMBEDDERS = ("minilm",)
"""Encoders that make vectors of texts, for search by meaning."""
_HERE = Path(__file__).parent


def documents() -> Path:
    """The folder of the project's own documentation.

    Raises:
        FidkitError: neither in the installed package nor in a checkout around it.
    """
    installed, checkout = _HERE / "docs", _HERE.parents[2] / "docs"
    return _first([installed, checkout], "the bundled documents")


def reader(name: str = READER) -> Path:
    """The directory of a bundled reader or encoder: `config.json`, `model.safetensors`, its card.

    Args:
        name: one of `READERS` or `EMBEDDERS`.

    Raises:
        FidkitError: this installation lacks it.
    """
    assert name in READERS + EMBEDDERS, name
    return _first([_HERE / "readers" / name / "model.safetensors"], f"the bundled reader {name}").parent


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
