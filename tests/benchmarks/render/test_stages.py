"""What the bundled reader was worth after each of its last recipes, from rows."""

from render import stages

from fidkit import Reader

ROW = {"setting": "squad/gold", "forced_em": 61.25, "forced_f1": 70.06}


def test_a_line_a_reader_that_was_judged() -> None:
    first, _, last = stages.STAGES
    rows = [{"fingerprint": last} | ROW, {"fingerprint": first} | ROW | {"setting": "newwiki/gold"}]
    head, rule, *lines = stages.stages(rows).splitlines()
    assert head.count("|") == rule.count("|") == lines[0].count("|")
    assert lines[0].startswith("| `recipes/everyday-all.toml` | 7 | 7,935 | none |  | 61.2 / 70.1 |  |")
    assert lines[1].startswith("| `recipes/further.toml` | 12 | 36,708 | 32,907 | 61.2 / 70.1 |")
    assert stages.stages([{"fingerprint": "another"} | ROW]) == stages.NOTHING


def test_the_last_is_the_one_that_comes_along() -> None:
    assert Reader.from_pretrained("pocket").fingerprint()[:16] == list(stages.STAGES)[-1]
