"""The part of the page that is about quality says what the rows say."""

from pathlib import Path
from typing import Any

import pytest
from render import documents
from render.study import part, tables, trials
from render.study.findings import FINDINGS, lumen
from render.study.groups import BUDGETS, grouped
from render.study.shipped import RANKED
from render.study.titles import NOTES, TITLES
from study.variants import REVISIONS, SHIPPED, TABLES


def scores(em: float) -> dict[str, Any]:
    return {name: {"n": 500, "em": em + more, "f1": em + 10, "log_likelihood": -9.0}
            for name, more in (("squad", 1.0), ("newwiki", -1.0))}  # fmt: skip


def row(variant: str, seed: int, em: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "study", "variant": variant, "seed": seed, "steps": 320, "questions": 16, "set": [],
        "git": "abc",
        "hardware": {"cpu": "EPYC"}, "cpu_seconds": 120.0, "states_seconds": 60.0, **scores(em),
        "on_the_way": {"1/4": {"step": 80, **scores(em - 10)}, "1/2": {"step": 160, **scores(em - 4)},
                       "1": {"step": 320, **scores(em - 1)}},
        "decoder_ms": {"1": 3.0, "20": 12.0}, "cross_cache_bytes": 2_500_000,
        "flops": {"live": 9e10, "projection": 2e9, "decode": 1e9, "head": 5e8}, **more,
    }  # fmt: skip


def judged(name: str, right: str, **more: Any) -> dict[str, Any]:
    """A row of a reader that wasn't trained: of two sets, the same answers are right."""
    em = 100 * right.count("1") / len(right)
    point = {"n": len(right), "em": em, "f1": em + 5, "log_likelihood": -8.0, "right": right, "recall": 75.0}
    return {
        "kind": "study", "variant": name, "seed": 0, "steps": 0, "set": [], "git": "abd", "start": "pocket",
        "hardware": {"cpu": "EPYC"}, "cpu_seconds": 36.0, "states_seconds": 0.0, "command": "study.py",
        "decides": ["squad", "newwiki"], "squad": point, "newwiki": point, **more,
    }  # fmt: skip


def rows(**means: float) -> list[dict[str, Any]]:
    return [
        row(name.replace("_", "-"), seed, em + seed / 10) for name, em in means.items() for seed in range(3)
    ]


def verdict_of(text: str, claim: str) -> str:
    (found,) = [line for line in text.splitlines() if claim in line]
    return found.split(" | ")[-1].removesuffix(" |")


def test_rows_decide() -> None:
    text = part.part(rows(fid=50.0, lsa_6=49.5, light_6=38.0))
    assert verdict_of(text, "(FiD-LSA) costs little") == "**reproduced**"
    assert verdict_of(text, "FiD-Light at the same factor") == "**reproduced**"
    assert "38.1 beside 49.6: -11.5 (spread 0.2)" in text
    assert "NQ 36.3 beside 45.8" in text
    assert verdict_of(text, "Multi-query attention on top") == "**open**"
    assert verdict_of(text, "A wider memory encoder").startswith("not attempted: ")
    other = part.part(rows(fid=50.0, lsa_6=40.0, light_6=45.0))
    assert verdict_of(other, "(FiD-LSA) costs little") == "**not reproduced**"
    assert verdict_of(other, "FiD-Light at the same factor") == "**not reproduced**"


def test_rows_of_another_start_are_not_set_beside_them() -> None:
    first = [{**one, "weights": "7124f992c2af"} for one in rows(fid=50.0, lsa_6=49.5)]
    later = row("lsa-6", 0, 10.0, weights="0123456789ab")
    assert part.part([*first, later]) == part.part(first)


def test_the_start_is_fetched_where_another_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    ((weights, revision),) = REVISIONS.items()
    text = part.part([{**one, "weights": weights} for one in rows(fid=50.0)])
    command = "--steps 320 --start start/src/fidkit/assets/readers/pocket\n```"
    monkeypatch.setattr(part, "sha256", lambda _: "another")
    other = part.part([{**one, "weights": weights} for one in rows(fid=50.0)])
    assert f"git archive {revision} src/fidkit/assets/readers/pocket | tar -x -C start" in other
    assert command in other
    monkeypatch.setattr(part, "sha256", lambda _: weights + "0" * 52)
    same = part.part([{**one, "weights": weights} for one in rows(fid=50.0)])
    assert "--steps 320\n```" in same
    assert text in (same, other)
    unknown = part.part([{**one, "weights": "0123456789ab"} for one in rows(fid=50.0)])
    assert "--steps 320 --start READER  # of weights whose SHA-256 begins with 0123456789ab\n" in unknown


def test_a_table_has_a_line_a_reader() -> None:
    text = part.part(rows(fid=50.0, lsa_6=49.5))
    (line,) = [line for line in text.splitlines() if line.startswith("| `fid` |")]
    cells = line.strip("| ").split(" | ")
    assert cells[1:3] == ["3", "51.10 (51.00 to 51.20)"]
    assert cells[8:11] == [tables.NONE] * 3  # rows from before these sets were asked
    assert cells[11:] == ["40.10 (40.00 to 40.20)", "3.0", "12.0", "3.50", "2.5", "2.0"]
    assert "0.3 hours of one core" in text


def test_a_table_without_rows_says_how_they_are_made() -> None:
    text = part.part(rows(fid=50.0))
    (said,) = [block for block in text.split("### ") if block.startswith(TITLES["transfer"])]
    assert NOTES["transfer"] in said
    assert "Not measured yet. `python benchmarks/study.py transfer " in said


def test_sets_that_do_not_decide_are_shown_where_rows_have_them() -> None:
    asked = {"nq": {"n": 200, "em": 31.0, "f1": 42.0, "log_likelihood": -7.5}}
    text = part.part([row("fid", 0, 50.0, **asked), row("fid", 1, 50.0), row("lsa-6", 0, 50.0)])
    whole = part.part([row("fid", 0, 50.0, **asked)])
    (fid, lsa) = [
        line.split(" | ") for line in text.splitlines() if line.startswith(("| `fid`", "| `lsa-6`"))
    ]
    assert (fid[8], lsa[8]) == ("31.0 / 42.0 / -7.50 (1 seed)", tables.NONE)
    assert "| 31.0 / 42.0 / -7.50 |" in whole
    assert "questions: 500 of squad, 500 of newwiki" in text


def test_lumen_is_shown_at_each_budget() -> None:
    text = part.part(rows(lumen_1_3=50.0))
    heads, _, line = text.split(f"### {TITLES['lumen']}")[1].split("\n\n")[2].splitlines()
    at = [heads.split(" | ").index(f"first questions: EM after {budget}") for budget in BUDGETS]
    assert [line.split(" | ")[column].split(" ")[0] for column in at] == ["40.10", "46.10", "49.10"]


def test_a_deeper_decoder_is_set_beside_beams_that_take_as_long() -> None:
    def depth(n: int, em: float, ms: float, beams_em: float, beams_ms: float) -> list[dict[str, Any]]:
        beams = {"4": {**scores(beams_em), "decoder_ms": {"1": 1.0, "20": beams_ms}}}
        return [
            row(f"depth-{n}", seed, em, decoder_ms={"1": 1.0, "20": ms}, beams=beams) for seed in range(3)
        ]

    claim = "Beams of the smallest decoder"
    three = [*depth(2, 40.0, 9.0, 41.0, 21.0), *depth(4, 44.0, 15.0, 0.0, 99.0), *depth(6, 50.0, 20.0, 0, 99)]
    assert verdict_of(part.part(three), claim) == "**open**"
    text = part.part([*three, *depth(12, 60.0, 40.0, 0.0, 99.0)])
    # Six layers are the most that take no longer; their first questions are one point lower than all.
    assert "4 beams of `depth-2`, `depth-6`: 41.0 beside 49.0: -8.0 (spread 0.0); 21.0 beside 20.0 ms" in text
    assert verdict_of(text, claim) == "**reproduced**"
    assert verdict_of(text, "Quality grows with the decoder's layers") == "**reproduced**"
    slow = [*depth(2, 40.0, 9.0, 41.0, 14.0), *three[3:], *depth(12, 60.0, 40.0, 0.0, 99.0)]
    assert "every deeper one takes longer than 14.0 ms" in part.part(slow)


def test_transfer_decides_by_the_questions_that_were_learnt_last() -> None:
    def webq(name: str, em: float) -> list[dict[str, Any]]:
        point = {"webq": {"n": 500, "em": em, "f1": em, "log_likelihood": -9.0}}
        on_the_way = {budget: {"step": 1, **point} for budget in BUDGETS}
        return [
            row(f"webq-{name}", seed, 1.0, decides=["webq"], on_the_way=on_the_way, **point)
            for seed in range(3)
        ]

    measured = [*webq("1-2", 30.0), *webq("1-2-live", 32.0), *webq("1-3", 26.0), *webq("1-3-live", 31.0)]
    measured += [*webq("1-6", 10.0), *webq("1-6-live", 29.0)]
    text = part.part(measured)
    assert "1/2 live: 2.0, 1/3 live: 5.0, 1/6 live: 19.0" in text
    assert verdict_of(text, "Transfer gains the more") == "**reproduced**"
    assert verdict_of(text, "a sixth live is clearly worse without transfer") == "**reproduced**"
    assert "| webq: EM |" in text.split(f"### {TITLES['transfer']}")[1]


def test_readers_that_come_along_are_compared_question_by_question() -> None:
    memory = {
        "codec": "pq",
        "pq_codes": 4096,
        "bytes_a_passage": 4000.4,
        "bytes_a_token": 48.0,
        "error": 0.25,
    }
    ranked = {"found": 20, "passages": 5, "ms": {"ranking": 1.2, "answering": 100.4}}
    text = part.part([
        *rows(fid=50.0),
        judged("codec-bf16", "1" * 50 + "0" * 50, **{**memory, "codec": "bf16"}),
        judged("codec-pq", "1" * 40 + "0" * 60, **memory),
        judged("pocket-by-words", "0101" * 25, ranking="words", **ranked),
        judged("pocket-by-shares", "0111" * 25, ranking="shares", **ranked),
    ])  # fmt: skip
    assert verdict_of(text, "Memory 16 times smaller") == "**not reproduced**"
    assert "40.0 beside 50.0: -10.0 (spread 4.3)" in text
    assert verdict_of(text, "Passages as they were found") == "**reproduced**"
    assert "| `pq` | 4,000 | 48.0 | 25.00% | 40.0 / 45.0 / -8.00 | 40.0 / 45.0 / -8.00 |" in text
    assert "| 5 of 20, as words rank them | 50.0 / 55.0 (75) | 50.0 / 55.0 (75) | 1 | 100 |" in text


def test_every_table_has_a_title_and_every_finding_knows_its_rows() -> None:
    assert TITLES.keys() == TABLES.keys() | SHIPPED.keys()
    assert NOTES.keys() <= TITLES.keys()
    assert set(RANKED) == {one.ranking for one in SHIPPED["reranking"]}
    every = {variant.name for variants in TABLES.values() for variant in variants}
    trained = [
        row(name, seed, 40.0, beams={"4": {**scores(40.0), "decoder_ms": {"1": 3.0, "20": 12.0}}})
        for name in every for seed in range(3)
    ]  # fmt: skip
    found = grouped([*trained, *(judged(one.name, "0110") for of_one in SHIPPED.values() for one in of_one)])
    for finding in FINDINGS:
        assert (finding.judge is None) == bool(finding.skipped)
        if finding.judge:
            assert "open" not in finding.judge(found).word, finding.claim


def test_the_gap_that_training_closes_is_that_beside_fid() -> None:
    live = [row(lumen("1"), seed, 50.0) for seed in range(3)]
    third = [row(lumen("1/3"), seed, 48.0) for seed in range(3)]
    for one in third:
        one["on_the_way"]["1/4"] |= scores(20.0)
    text = part.part([*live, *third])
    assert "1/4 of the steps: -20.0, 1/2 of the steps: -2.0, 1 of the steps: -2.0" in text


def test_of_two_runs_the_newer_counts() -> None:
    one = row("fid", 0, 50.0)
    assert grouped([one, row("fid", 0, 51.0)])["fid"].em() == {0: 51.0}
    assert grouped([one, row("fid", 0, 60.0, set=["dropout=0.1"])])["fid"].em() == {0: 50.0}


def test_readers_of_as_many_steps_stand_beside_each_other() -> None:
    other, most = row("fid", 0, 10.0, steps=3200), [row("fid", 0, 50.0), row("mq", 0, 40.0)]
    for rows in ([other, *most], [*most, other]):
        assert {name: group.em() for name, group in grouped(rows).items()} == {
            "fid": {0: 50.0},
            "mq": {0: 40.0},
        }


def test_a_table_that_was_run_again_says_how_far_off_it_is() -> None:
    def again(ems: list[float], seed: int = 0) -> list[dict[str, Any]]:
        return [row(name, seed, em, command="study.py table-4") for name, em in zip(names, ems, strict=False)]

    names = [variant.name for variant in TABLES["table-4"]]
    first = [row(name, seed, 40.0 + seed) for name in names for seed in (0, 1)]
    assert "once more" not in part.part(first)
    assert "once more" not in part.part([*first, *again([40.5] * (len(names) - 1))])  # not all of them
    text = part.part([*first, *again([40.5] * (len(names) - 1) + [39.2]), row("lumen-0", 0, 3.0)])
    assert text.count("once more") == 1
    assert f"All {len(names)} readers were trained once more" in text
    assert "(`study.py table-4`): exact match of a seed differs by 0.8 points at most, where" in text
    assert "seeds of a reader differ by up to 0.0." in text
    text = part.part([*first, *again([40.5] * len(names)), *again([41.0] * len(names), seed=1)])
    assert f"All {2 * len(names)} readers were trained once more" in text
    assert "differs by 0.5 points at most, where seeds of a reader differ by up to 1.0." in text


def test_the_page_has_it_and_what_stands_beside_lumen_behind(tmp_path: Path) -> None:
    documents.reproduce(tmp_path, tmp_path, check=False)
    text = (tmp_path / "reproduce.md").read_text(encoding="utf-8")
    assert "## What the papers say of quality\n\nNot measured yet.\n\n### Beside LUMEN" in text
    assert "(#what-the-papers-say-of-quality)" in text


def test_the_plot_has_decoders_and_proportions() -> None:
    drawn = part.panels([*rows(fid=50.0, lsa_6=49.0), row(lumen("0"), 0, 20.0), row(lumen("1"), 0, 50.0)])
    decoders, proportions = drawn
    assert decoders["points"] == {
        "fid": (12.0, pytest.approx([50.0, 50.1, 50.2])),
        "lsa-6": (12.0, pytest.approx([49.0, 49.1, 49.2])),
    }
    assert proportions["lines"]["1 of the steps"] == ([0.0, 1.0], [19.0, 49.0])
    assert proportions["lines"]["1/4 of the steps"] == ([0.0, 1.0], [10.0, 40.0])
    assert part.panels([]) == []


def test_passages_that_are_read_have_a_column_each() -> None:
    asked = [
        {
            "context": "retrieved", "dataset": name, "passages": n, "forced_em": 30.0 + n, "n": 100,
            "recall": {"1": 50.0, str(n): 60.4}, "command": "python benchmarks/quality.py",
        }
        for name, n in (("squad", 20), ("squad", 5), ("nq", 5))
    ]  # fmt: skip
    text = part.part(rows(fid=50.0), asked)
    assert "| EM (an answer is among the passages) | 5 | 20 |" in text
    assert "| squad | 35.0 (60) | 50.0 (60) |\n| nq | 35.0 (60) |  |" in text
    assert "first 100 questions" in text
    assert "Passages that are read" not in part.part(rows(fid=50.0))


def test_the_log_sets_two_rates_side_by_side() -> None:
    first = row("lumen-1", 0, 30.0, set=["optimiser.rate=5e-4"])
    said = trials.rates([first, *rows(lumen_1=50.0)])
    before, after = said.split("At 1.5e-4:")
    assert "| `lumen-1` | 320 | 1 | 31.00 | 29.00 |" in before
    assert "| `lumen-1` | 320 | 3 | 51.10 (51.00 to 51.20) |" in after
    assert said.count("More of them") == 1


def test_the_log_has_readers_with_their_own_steps() -> None:
    longer = row("mq-longer", 0, 52.0, on_the_way={"1": {"step": 960, **scores(50.0)}})
    found = trials.table([*rows(mq=50.0), longer, row("fid", 0, 60.0)], ["mq", "fido", "mq-longer"])
    cells = [[cell.strip() for cell in said.split("|")][1:-1] for said in found.splitlines()[2:4]]
    assert [(name, steps) for name, steps, *_ in cells] == [("`mq`", "320"), ("`mq-longer`", "960")]
    assert cells[1] == ["`mq-longer`", "960", "1", "53.00", "51.00"]
    assert "`fid`" not in found
    assert trials.table([], ["mq"]) == "Not measured yet."
    other = row("mq", 0, 30.0, set=["optimiser.rate=5e-4"])
    assert trials.table([*rows(mq=50.0), other], ["mq"]) == trials.table(rows(mq=50.0), ["mq"])
    assert "| `mq` | 320 | 1 | 31.00 | 29.00 |" in trials.table([other], ["mq"], other["set"])
    without = row("mq", 0, 50.0, on_the_way={})
    assert "| 320 |" in trials.table([without], ["mq"])
