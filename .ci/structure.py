"""What no style checker asks: that no files import one another in a circle, and that functions are short.

An import inside a function counts as one at the top does; only those for type checkers don't.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = "fidkit"
LONGEST = 60
"""Lines of a function, its decorators and docstring included."""


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Sets of files that all lead to one another, by what each imports."""
    reached = {name: _reach(name, imports) for name in imports}
    in_circle = sorted(name for name in imports if name in reached[name])
    found: dict[frozenset[str], list[str]] = {}
    for name in in_circle:
        others = [other for other in in_circle if other in reached[name] and name in reached[other]]
        found[frozenset(others)] = others
    return list(found.values())


def _reach(start: str, imports: dict[str, set[str]]) -> set[str]:
    """Everything that is imported, by whatever way."""
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        new = imports[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


def imports_of(package: str) -> dict[str, set[str]]:
    """What each file of a package imports of the package."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    return {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}


def long_functions(folder: Path, most: int = LONGEST) -> Iterator[tuple[int, str]]:
    """Lines and place of each function with more than `most` lines."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
                if (lines := node.end_lineno - first + 1) > most:
                    yield lines, f"{path}:{first}: {node.name}"


def main() -> int:
    """Print what is wrong, a line each; 1 if something is."""
    sys.path.insert(0, str(ROOT / "src"))
    faults = [
        f"{' <-> '.join(names)}: these files import one another; move what they share below all of them"
        for names in circles(imports_of(PACKAGE))
    ]
    faults += [
        f"{place} has {lines} lines; expected at most {LONGEST}: cut it into functions that say what they do"
        for lines, place in long_functions(ROOT / "src")
    ]
    print(*faults, sep="\n", end="\n" if faults else "")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
