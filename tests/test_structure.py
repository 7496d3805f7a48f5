"""What `make lint` asks beside style: it finds a circle and a long function where there is one."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "structure.py"
spec = importlib.util.spec_from_file_location("structure", SCRIPT)
structure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(structure)


@pytest.mark.parametrize(
    ("imports", "found"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d", "a"}}, [["a", "b", "c"], ["d", "e"]]),
        ({"a": {"a"}}, [["a"]]),
    ],
)
def test_circles(imports: dict[str, set[str]], found: list[list[str]]) -> None:
    assert structure.circles(imports) == found


def test_imports_in_functions_count_and_those_for_types_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "in_a_circle"
    package.mkdir()
    (package / "__init__.py").touch()
    late = "def f():\n    from in_a_circle import b\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from in_a_circle import c\n"
    for name, text in {
        "a": late,
        "b": f"import in_a_circle.a\n{typed}",
        "c": "import in_a_circle.b\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = structure.circles(structure.imports_of("in_a_circle"))
    assert found == [["in_a_circle.a", "in_a_circle.b"]]


def test_long_functions_are_found(tmp_path: Path) -> None:
    for name, lines in (("short", 59), ("long", 60)):
        (tmp_path / f"{name}.py").write_text(f"class A:\n    def {name}(self):\n" + "        x = 1\n" * lines)
    [(lines, place)] = structure.long_functions(tmp_path)
    assert lines == 61
    assert place.endswith("long.py:2: long")
