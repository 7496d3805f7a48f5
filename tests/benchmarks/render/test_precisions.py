"""The table of precisions."""

from render import precisions

ABOUT = {"reader": "pocket", "hardware": {"cpu": "a CPU"}, "command": "python it", "n": 1500}


def row(setting: str, precision: str, em: float, f1: float) -> dict:
    return ABOUT | {"setting": setting, "precision": precision, "em": em, "f1": f1}


def test_a_setting_has_both_precisions_and_what_is_between_them() -> None:
    rows = [row("nq", "float32", 1, 1), row("nq", "float32", 30.04, 40), row("nq", "int8", 29.5, 40.25)]
    _, _, nq, _, about = precisions.answers([*rows, row("webq", "int8", 1, 1)]).splitlines()
    assert nq == "| nq | 1,500 | 30.0 / 40.0 | 29.5 / 40.2 | -0.5 / +0.2 |"  # the newest of two
    assert about == "`pocket`, a CPU. `python it`"


def test_half_a_comparison_is_none() -> None:
    assert precisions.answers([row("webq", "int8", 1, 1)]) == precisions.NOTHING
