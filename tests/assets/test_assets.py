"""Finding what comes with the package."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fidkit import FidkitError, assets


def test_documents_of_a_checkout() -> None:
    names = {path.name for path in assets.documents().glob("*.md")}
    assert {"family.md", "corpus.md", "training.md", "checkpoints.md", "architecture.md"} <= names


def test_an_installed_package_prefers_its_own_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(assets, "_HERE", tmp_path)
    assert assets.documents() == tmp_path / "docs"


@pytest.mark.parametrize("find", [assets.documents, assets.reader, assets.tokenizer_file])
def test_what_is_missing_is_said(
    find: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "_HERE", tmp_path / "a" / "b" / "c")
    with pytest.raises(FidkitError, match="reinstall with"):
        find()


def test_reader_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_HERE", tmp_path)
    directory = tmp_path / "readers" / "pocket"
    directory.mkdir(parents=True)
    (directory / "model.safetensors").touch()
    assert assets.reader() == directory
