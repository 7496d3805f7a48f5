"""What README and docs tell people to type works."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from fidkit import assets
from fidkit.cli.app import application
from fidkit.config import ReaderConfig
from launched import command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


COMMANDS = [
    pytest.param(shlex.split(line)[1:], id=f"{page.name}: {line}")
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.splitlines()
    if line.startswith("fidkit ")
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_parse(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command, path = typer.main.get_command(application()), ["fidkit"]
    context = command.make_context("fidkit", list(words))
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"{' '.join(path)} has no {name!r}"
        command = command.commands[name]
        path.append(name)
        try:
            context = command.make_context(name, list(words), parent=context)
        except typer.BadParameter as error:
            # The paths of an example aren't there; everything else must be right.
            if "does not exist" not in str(error):
                raise


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for page in [*PAGES, ROOT / "CONTRIBUTING.md"] for target in _make_targets(page)}
    assert "ask" in named
    assert named <= targets


def _make_targets(page: Path) -> list[str]:
    return re.findall(r"(?:^|`)make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_first_question(tmp_path: Path) -> None:
    question = "How many encoder layers does the bundled reader have?"
    process = command(["ask", question], says=tmp_path / "said")
    process.join(120)
    said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert process.exitcode == 0, said
    assert any(re.match(r"six\b", line) for line in said), said
    assert ReaderConfig.load(assets.reader() / "config.json").encoder.layers == 6


def test_the_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["answer"].evidence  # type: ignore[attr-defined]
