"""Tables of questions a second."""

from render import throughput

ABOUT = {"precision": "int8", "threads": 2, "rounds": 3, "hardware": {"cpu": "a CPU"}, "command": "python it"}
ANSWERS = {"of": "answers", "subject": "pocket", "passages": 20, "characters": 450.4, **ABOUT}
SHAPES = {"passages": 3, "question_tokens": 16, "passage_tokens": 112, "output_tokens": 16}
READERS = {"of": "readers", "preset": "a", "shapes": SHAPES, **ABOUT}


def test_a_way_has_a_line_and_a_number_of_questions_a_column() -> None:
    rows = [
        ANSWERS | {"way": way, "questions": count, "a_second": rate}
        for way, count, rate in (("one", 16, 1.0), ("one", 64, 2.0), ("all", 16, 3.0), ("one", 16, 4.0))
    ]
    rows[1]["rounds"] = 1
    head, _, one, together, _, about = throughput.answers([*rows, READERS]).splitlines()
    assert head == "|  | way | 16 questions, a second | 64 questions, a second |"
    assert one == "| `pocket` | one | 4.00 | 2.00 |"  # the newest of two
    assert together == "| `pocket` | all | 3.00 |  |"
    assert about.startswith("20 passages of 450 characters on average; int8, 2 threads of a CPU, ")
    assert "medians of 1 to 3 rounds" in about
    assert "medians of 3 rounds" in throughput.readers([READERS | rows[0] | {"of": "readers"}])


def test_each_preset_has_a_table_with_its_peers() -> None:
    rows = [
        READERS | {"preset": preset, "subject": subject, "way": "at once", "questions": 16, "a_second": rate}
        for preset, subject, rate in (("b", "b", 1.0), ("a", "a", 2.0), ("a", "openvino-int8", 3.0))
    ]
    first, second = throughput.readers([*rows, ANSWERS]).split("\n\n|  | way")
    assert "| `a` | at once | 2.00 |" in first
    assert "(`openvino-int8`) | at once | 3.00 |" in first
    assert "3 passages of 128 tokens, each with its question; 16 output tokens" in first
    assert "| `b` | at once | 1.00 |" in second
    assert throughput.readers([]) == throughput.answers([]) == throughput.NOTHING
