"""The example packages of loaders: what they name is there, and what needs no other package works."""

import importlib.util
import io
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from harm.pdfs import page

from fidkit.passages.load.pdf import read_pdf

EXAMPLES = Path(__file__).parents[1] / "examples"


def loaded(example: str) -> tuple[ModuleType, dict[str, str]]:
    """The module of an example, and what its entry points name."""
    folder = EXAMPLES / example
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    found = project["entry-points"]["fidkit.loaders"]
    (name,) = {value.partition(":")[0] for value in found.values()}
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, found


@pytest.mark.parametrize(
    ("example", "endings"), [("ocr", {"pdf", "png", "jpg", "jpeg"}), ("docling", {"tex"})]
)
def test_entry_points_name_functions(example: str, endings: set[str]) -> None:
    module, found = loaded(example)
    assert found.keys() == endings
    assert all(callable(getattr(module, value.partition(":")[2])) for value in found.values())


def test_a_pdf_with_text_is_read_as_ever() -> None:
    module, _ = loaded("ocr")
    data = page("The Aurora sailed in 1901.")
    assert list(module.read_pdf(io.BytesIO(data), "a.pdf")) == list(read_pdf(io.BytesIO(data), "a.pdf"))


def test_pages_to_be_recognised_are_those_of_the_note() -> None:
    module, _ = loaded("ocr")
    said = "pages 1, 3 to 5 and 12 have no text; they may be pictures"
    assert module._numbers(said) == [1, 3, 4, 5, 12]
    assert module._numbers("page 7 has no text; it may be a picture") == [7]
