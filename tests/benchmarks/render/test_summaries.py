"""Small tables of README, from rows."""

from render import summaries

ROW = {
    "passages": 3, "questions": 90, "answerable": 70, "absent": 20, "right": 11, "contained": 16,
    "absences_said": 2, "withheld": 15, "loops": 5, "seconds_per_question": 7.304, "megabytes": 253.1,
}  # fmt: skip


def test_a_folder_of_ones_own_has_a_line_a_reader_as_measured_last() -> None:
    rows = [{"reader": "pocket"} | ROW, {"reader": "other"} | ROW, {"reader": "pocket"} | ROW | {"right": 60}]
    head, rule, *lines = summaries.own_folder(rows).splitlines()
    assert lines == [
        "| `pocket` | 3 | 60 of 70 | 16 of 70 | 2 of 20 | 15 of 70 | 5 of 90 | 7.30 | 253 |",
        "| `other` | 3 | 11 of 70 | 16 of 70 | 2 of 20 | 15 of 70 | 5 of 90 | 7.30 | 253 |",
    ]
    assert head.count("|") == rule.count("|") == lines[0].count("|")
    assert summaries.own_folder([]) == summaries.NOTHING
