"""A small world to train in: a dozen passages, a question about each, and a recipe of seconds."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fidkit.passages import Corpus
from fidkit.train.passages import PassageTable, open_passages
from fidkit.train.recipe import Recipe, load_recipe
from fidkit.types import Passage

# Title, text, question, answers.
FACTS = [
    (
        "Roald Amundsen",
        "Roald Amundsen reached the South Pole in December 1911. His ship had left Oslo the year before. "
        "The ship was called Fram.",
        "when was the pole reached?",
        ["December 1911"],
    ),
    (
        "Marie Curie",
        "Marie Curie discovered radium in a cold shed. She was born in Warsaw. Two Nobel prizes went to her.",
        "where was she born?",
        ["Warsaw"],
    ),
    (
        "Nile",
        "The Nile flows through ten countries to the sea. Its delta begins at Cairo. It has 6,650 km.",
        "where does the delta begin?",
        ["Cairo"],
    ),
    (
        "Tea",
        "Tea comes from China and was first a medicine. Robert Fortune carried plants to India in 1848.",
        "who carried plants away?",
        ["Robert Fortune", "Fortune"],
    ),
    (
        "Lisbon earthquake",
        "On 1 November 1755 an earthquake destroyed Lisbon. Pombal rebuilt the city. Voltaire wrote of it.",
        "who rebuilt the city?",
        ["Pombal"],
    ),
    (
        "Ada Lovelace",
        "Ada Lovelace wrote the first program for a machine of Charles Babbage. It was published in 1843.",
        "what year was it published?",
        ["1843"],
    ),
    (
        "Eiger",
        "The Eiger is a mountain of 3,967 metres above Grindelwald. Its north face was climbed in 1938.",
        "which village lies below?",
        ["Grindelwald"],
    ),
    (
        "Penicillin",
        "Alexander Fleming found penicillin on a forgotten dish. Howard Florey made it a drug in Oxford.",
        "who made the drug?",
        ["Howard Florey", "Florey", "howard florey"],
    ),
]
IDS = [f"p{number}" for number in range(len(FACTS))]

RECIPE = """
output = "run"
seed = 3
passages = ["passages.jsonl"]
dropout = 0.1
save_every = 2
log_every = 1

[reader]
preset = "tiny-fid"
initialisation = "matching"

[tasks.cloze]
kind = "cloze"

[tasks.facts]
kind = "questions"
files = ["questions.jsonl"]
retrieved = ["retrieved.jsonl"]

[optimiser]
rate = 1e-3
warmup = 2

[evaluation]
every = 4
limit = 4
files = { facts = "questions.jsonl" }

[[stages]]
steps = 3
questions = 4
sentences = 1
mix = { cloze = 0.5, facts = 0.5 }
auxiliary = 1.0

[[stages]]
steps = 3
questions = 2
accumulate = 2
passages = 2
mix = { facts = 1.0 }
"""


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_world(folder: Path) -> Path:
    """The files that `RECIPE` names, and the recipe itself; returns the recipe's path."""
    facts = list(zip(IDS, FACTS, strict=True))
    write_rows(folder / "passages.jsonl", [{"id": i, "title": t, "text": x} for i, (t, x, *_) in facts])
    write_rows(
        folder / "questions.jsonl",
        [{"id": f"q{i}", "question": q, "answers": a, "positive_ids": [i]} for i, (*_, q, a) in facts],
    )
    # The positive passage comes third.
    turned = [(i, [IDS[(n + k) % len(IDS)] for k in (1, 2, 0, 3)]) for n, i in enumerate(IDS)]
    write_rows(folder / "retrieved.jsonl", [{"id": f"q{i}", "ctx_ids": ranked} for i, ranked in turned])
    path = folder / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def world(folder: Path, *changes: str) -> Recipe:
    """A recipe over a world of its own in `folder`."""
    folder.mkdir(exist_ok=True)
    return load_recipe(write_world(folder), [f"data={folder}", f"output={folder / 'run'}", *changes])


def table_of(recipe: Recipe) -> PassageTable:
    """The passages of a recipe."""
    return PassageTable(open_passages([recipe.path(entry) for entry in recipe.passages]))


def table_with(folder: Path, passages: Iterable[Passage]) -> PassageTable:
    """A table of these passages, built into a corpus in `folder`."""
    rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
    return PassageTable(Corpus.build(write_rows(folder / "table.jsonl", rows), folder / "table.corpus"))
