"""Tables of the readers that come along, from rows."""

from render import siblings

ANSWERED = {"setting": "squad/gold", "n": 200, "forced_em": 61.25, "forced_f1": 70.06}
TIMED = {
    "passages": 20, "codec": "bf16", "questions": 20, "rounds": 7, "threads": 2, "bytes_a_passage": None,
    "hardware": {"cpu": "EPYC"}, "command": "python benchmarks/siblings.py",
}  # fmt: skip


def test_a_line_a_reader_and_a_column_a_setting() -> None:
    rows = [
        {"reader": "pocket"} | ANSWERED,
        {"reader": "pocket"} | ANSWERED | {"setting": "squad/retrieved-5", "n": 120},
        {"reader": "pocket-fido"} | ANSWERED | {"forced_em": 50.0},
    ]
    head, rule, *lines = siblings.quality(rows).splitlines()
    assert head == "| reader | squad, the passage with the answer | squad, 5 retrieved passages |"
    assert head.count("|") == rule.count("|")
    assert lines[:2] == [
        "| pocket | 61.2 / 70.1 (200) | 61.2 / 70.1 (120) |",
        "| pocket-fido | 50.0 / 70.1 (200) |  |",
    ]
    assert "--only squad/gold squad/retrieved-5" in lines[-1]
    assert siblings.quality([]) == siblings.times([]) == siblings.NOTHING


def test_times_are_those_measured_last_beside_the_first_reader() -> None:
    rows = [
        {"reader": "pocket", "memory": False, "ms": 9.0} | TIMED,
        {"reader": "pocket", "memory": False, "ms": 1200.0} | TIMED,
        {"reader": "pocket-lumen", "memory": True, "ms": 400.0} | TIMED | {"bytes_a_passage": 107_088.2},
    ]
    found = siblings.times(rows)
    assert "| pocket | encoded | 1,200 | 1.00 | - |" in found
    assert "| pocket-lumen | fetched | 400 | 3.00 | 107 KB in bf16 |" in found
    assert "medians of 7 interleaved rounds; EPYC, threads: 2. `python benchmarks/siblings.py`" in found
