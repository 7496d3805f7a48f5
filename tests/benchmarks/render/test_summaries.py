"""Small tables of README, from rows."""

from render import summaries

ROW = {
    "passages": 3, "questions": 90, "answerable": 70, "absent": 20, "right": 11, "contained": 16,
    "absences_said": 2, "withheld": 15, "loops": 5, "seconds_per_question": 7.304, "megabytes": 253.1,
}  # fmt: skip


def test_a_folder_of_ones_own_has_a_line_a_reader_as_measured_last() -> None:
    row = ROW | {"hardware": {"cpu": "EPYC"}, "command": "measure pocket"}
    rows = [{"reader": "pocket"} | row | {"passages": 20}, {"reader": "other"} | row | {"command": "measure"}]
    rows += [{"reader": "pocket"} | row, {"reader": "pocket"} | row | {"right": 60}]
    head, rule, *lines, empty, below = summaries.own_folder(rows).splitlines()
    assert lines == [
        "| `pocket` | 3 | 60 of 70 | 16 of 70 | 2 of 20 | 15 of 70 | 5 of 90 | 7.30 | 253 |",
        "| `pocket` | 20 | 11 of 70 | 16 of 70 | 2 of 20 | 15 of 70 | 5 of 90 | 7.30 | 253 |",
        "| `other` | 3 | 11 of 70 | 16 of 70 | 2 of 20 | 15 of 70 | 5 of 90 | 7.30 | 253 |",
    ]
    assert head.count("|") == rule.count("|") == lines[0].count("|")
    assert (empty, below) == ("", "EPYC. `measure pocket`, `measure`")
    assert summaries.own_folder([]) == summaries.NOTHING


def test_quality_in_short_has_fewer_sights_of_the_same_rows() -> None:
    row = {"fingerprint": "f", "dataset": "squad", "n": 70, "em": 26.34, "f1": 34.12}
    sights = [("gold", 1), ("foreign-gold", 1), ("none", 1), ("retrieved", 5), ("retrieved", 40)]
    rows = [row | {"context": context, "passages": passages} for context, passages in sights]
    assert summaries.quality_in_short(rows) == summaries.quality([rows[0], rows[1], rows[3]])
    assert summaries.quality_in_short([]) == summaries.NOTHING


def test_quality_has_what_a_reader_says_when_it_must_and_when_it_may_be_silent() -> None:
    row = {"fingerprint": "f", "dataset": "squad", "context": "gold", "passages": 1, "n": 70}
    old = row | {"em": 26.34, "f1": 34.12}
    new = old | {"forced_em": 54.66, "forced_f1": 66.57, "em": 52.04, "silent": 8.9}
    assert "| 26.3 / 34.1 (70) |" in summaries.quality([old])
    assert "has to answer" not in summaries.quality([old])
    found = summaries.quality([new, new | {"context": "retrieved", "passages": 5, "dataset": "nq"}])
    assert "| the reader sees | one passage that holds the answer | 5 passages, retrieved |" in found
    one = summaries.quality([new | {"context": "retrieved"}])
    assert "| the reader sees | 1 passage, retrieved |" in one
    assert "| squad | 54.7 / 66.6 (70); 52.0, silent 9 % |  |" in found
    assert "| nq |  | 54.7 / 66.6 (70); 52.0, silent 9 % |" in found
    assert "has to answer" in found
    counted = new | {"n": 30, "verbatim": 90.0, "loops": 2}
    said = summaries.quality([counted, new, counted | {"n": 10, "verbatim": 50.0, "loops": 0}])
    assert said.endswith("Of 40 answers 80.0 % stand word for word in a passage, and 2 go in circles.")


def test_tested_evidence_is_a_sentence_of_the_last_row() -> None:
    row = {
        "n": 300, "passages": 5, "changed_without_first": 91.7, "changed_without_last": 4.3,
        "answer_ms": 310.2, "ms_a_passage": 24.6, "hardware": {"cpu": "a CPU"}, "threads": 2,
        "command": "python x.py",
    }  # fmt: skip
    said = summaries.tested_evidence([row | {"n": 1}, row])
    assert said.startswith("Of 300 right answers out of 5 passages, 92 % became another")
    assert "4 % without the last; a passage left out costs 25 ms beside 310 ms" in said
    assert "for the answer (a CPU, threads: 2)" in said
    assert summaries.tested_evidence([]) == summaries.NOTHING


def test_a_subject_without_an_encoder_is_off_by_nothing() -> None:
    shapes = {"passages": 4, "passage_tokens": 100, "question_tokens": 20, "output_tokens": 32}
    times = {f"{stage}_ms": {"median": 1234.4} for stage in ("encoder", "decoder", "total")}
    row = {"git": "a", "command": "c", "shapes": shapes, "hardware": {"device": "D"}, "dtype": "int8",
           "rounds": 3, "faster_than": {}, "subject": "hf", "encoder_error": 0.0456, **times}  # fmt: skip
    other = row | {
        "subject": "decoder-only",
        "encoder_error": None,
        "faster_than": {"hf": {"total_ms": 0.25}},
    }
    head, _, *lines, _, about = summaries.speed([row, other]).splitlines()
    assert head.endswith("| speed (`hf` = 1) | encoder off by |")
    assert lines[0].endswith("| 1,234 | 1,234 | 1,234 | 1 | 4.6 % |")
    assert lines[1].endswith("| 0.25 | \N{EN DASH} |")
    assert about.startswith("4 passages of 120 tokens")
    assert "; int8, D;" in about
    old = [{name: value for name, value in one.items() if name != "encoder_error"} for one in (row, other)]
    assert "off by" not in summaries.speed(old)
