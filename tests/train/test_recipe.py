"""A recipe says exactly what was written, and refuses everything else in one line."""

from pathlib import Path

import pytest

from fidkit.errors import ConfigError
from fidkit.train.recipe import Recipe, load_recipe, load_resolved
from train.toy import RECIPE, world, write_world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_world(tmp_path)


def refusal(path: Path, *changes: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_recipe(path, changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_recipe_says_what_was_written(path: Path) -> None:
    recipe = load_recipe(path)
    assert (recipe.seed, recipe.steps, recipe.stages[1].accumulate) == (3, 6, 2)
    assert recipe.tasks["facts"].files == ["questions.jsonl"]
    assert recipe.optimiser.betas == (0.9, 0.98)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_changes_reach_nested_keys_and_items_of_lists(path: Path) -> None:
    changed = load_recipe(
        path,
        [
            "stages.0.steps=7",
            "stages.1.mix={ cloze = 1 }",
            "optimiser.rate=0.5",
            "output=runs/a b",  # text needs no quotes
            'data="quoted"',
            "tasks.facts.where.dataset=['squad']",
            "reader.changes.dropout=0.3",
        ],
    )
    assert [stage.steps for stage in changed.stages] == [7, 3]
    assert changed.stages[1].mix == {"cloze": 1.0}
    assert (changed.optimiser.rate, changed.output, changed.data) == (0.5, "runs/a b", "quoted")
    assert changed.tasks["facts"].where == {"dataset": ["squad"]}
    assert changed.reader.changes == {"dropout": 0.3}
    assert changed.optimiser.warmup == load_recipe(path).optimiser.warmup


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("colour=red", "unknown key 'colour'"),
        ("optimiser.speed=1", "unknown key 'optimiser.speed'"),
        ("stages.0.speed=1", "unknown key 'stages.0.speed'"),
        ("seed=many", "seed: "),
        ("stages.1.steps=0", "stages.1.steps: "),
        ("optimiser.rate=-1", "optimiser.rate: "),
        ("tasks.facts.kind=guess", "tasks.facts.kind: "),
        ("stages.0.mix={ nothing = 1.0 }", "stage 1 mixes 'nothing', but the tasks are cloze, facts"),
        ("stages=[]", "stages: "),
        ("reader.start=somewhere", "either a preset (random weights) or a reader to start from"),
        ("threads=0", "threads: "),
        ("threads=10000", "threads: "),
        ("seed", "expected key=value"),
        ("stages=[{ steps = 2,", "--set stages=[{ steps = 2,: expected a value in TOML, but "),
        ("seed.x=1", "--set seed.x=1: 'x' leads nowhere"),
        ("stages.9.steps=1", "--set stages.9.steps=1: '9' leads nowhere"),
        ("stages.0=1", "--set stages.0=1: '0' leads nowhere"),
    ],
)
def test_a_refusal_names_the_key(path: Path, change: str, named: str) -> None:
    assert named in refusal(path, change)


def test_a_recipe_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, broken, foreign = (tmp_path / name for name in ("missing", "broken", "foreign"))
    broken.write_text("seed = ")
    foreign.write_bytes(b"seed = '\xff'")
    for path in (missing, broken, foreign):
        assert refusal(path).startswith(f"{path}: expected a recipe in TOML, but ")


def test_keys_without_a_default_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(RECIPE.replace('output = "run"', ""))
    assert "output: it is missing; add it" in refusal(path)


@pytest.mark.parametrize("mix", ["{}", "{ cloze = 0.0 }", "{ cloze = -1.0, facts = 2.0 }", "{ cloze = inf }"])
def test_a_mix_that_nothing_can_be_drawn_by_is_refused(tmp_path: Path, mix: str) -> None:
    with pytest.raises(ConfigError, match=r"stages.0: mix is \{.*expected a task with a weight above 0"):
        world(tmp_path, f"stages.0.mix={mix}")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    deep = "[" * 100_000
    with pytest.raises(ConfigError, match=r"--set seed=.*nested too deeply") as error:
        world(tmp_path, f"seed={deep}")
    assert len(str(error.value)) < 300
    path = tmp_path / "deep.toml"
    path.write_text(f"output = {deep}")
    with pytest.raises(ConfigError, match=r"deep\.toml: expected a recipe in TOML"):
        load_recipe(path)
    path.write_text(deep)
    assert load_resolved(path) is None


def test_tasks_may_still_be_called_sources(tmp_path: Path) -> None:
    """Their name in recipes, --set and `recipe.json` of the first versions."""
    path = write_world(tmp_path)
    new = load_recipe(path)
    path.write_text(path.read_text().replace("[tasks.", "[sources."))
    notes: list[str] = []
    assert load_recipe(path, say=notes.append) == new
    [note] = notes
    assert "'sources' is called 'tasks' now" in note
    changed = load_recipe(path, ["sources.facts.verbatim=true"])
    assert changed == load_recipe(path, ["tasks.facts.verbatim=true"])
    assert changed.tasks["facts"].verbatim
    kept = tmp_path / "recipe.json"
    kept.write_text(new.model_dump_json().replace('"tasks":', '"sources":'))
    assert load_resolved(kept) == new
    path.write_text(path.read_text() + "[tasks.more]\nkind = 'cloze'\n")
    with pytest.raises(ConfigError, match="has both 'tasks' and 'sources'"):
        load_recipe(path)


def test_bfloat16_may_still_be_called_as_it_was(tmp_path: Path) -> None:
    """Its name in recipes, --set and `recipe.json` of the first versions."""
    path = write_world(tmp_path)
    plain = path.read_text()
    path.write_text('precision = "bfloat16"\n' + plain)
    notes: list[str] = []
    new = load_recipe(path, say=notes.append)
    assert (new.precision, notes) == ("bfloat16", [])
    path.write_text('precision = "bf16"\n' + plain)
    assert load_recipe(path, say=notes.append) == new
    path.write_text(plain)
    assert load_recipe(path, ["precision=bf16"], notes.append) == new
    in_the_file, in_the_change = notes
    assert (
        in_the_file
        == f"{path}: the precision 'bf16' is called 'bfloat16' now; write precision = \"bfloat16\""
    )
    assert in_the_change.startswith("--set precision=bf16: the precision 'bf16' is called 'bfloat16' now")
    kept = tmp_path / "recipe.json"
    kept.write_text(new.model_dump_json().replace('"precision":"bfloat16"', '"precision":"bf16"'))
    assert '"bf16"' in kept.read_text()
    assert load_resolved(kept) == new


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("recipes/*.toml")), ids=lambda p: p.stem
)
def test_every_recipe_that_comes_along_can_be_read(path: Path) -> None:
    notes: list[str] = []
    recipe = load_recipe(path, say=notes.append)
    assert notes == []
    assert {name for stage in recipe.stages for name in stage.mix} == set(recipe.tasks)
