"""The study of quality: kept states, readers as their tables want them, and rows once."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import judging
import numpy as np
import pytest
import torch
from proportions import split
from study import command, measure, ranked, runs
from study.coded import coded
from study.command import begun, main
from study.ranked import Ranked
from study.remembered import Remembered
from study.runs import made
from study.states import RECORD, States
from study.variants import (
    CODES,
    CONDITIONING,
    FIDO,
    GQA,
    LIGHT,
    LSA,
    MEMORIES,
    MOMENTS,
    MQ,
    OTHERS,
    SETS,
    SHIPPED,
    START,
    TRANSFER,
    Variant,
)

from fidkit import Corpus
from fidkit.bench.rows import read
from fidkit.context import Batch, collate, pad
from fidkit.errors import FidkitError
from fidkit.evaluate.evaluate import Result
from fidkit.nn.encoder import EncoderLayers
from fidkit.preset import named
from fidkit.questions.files import Question
from fidkit.reader import Reader
from fidkit.types import Answer, Hit, Passage
from small_data import write_data, write_rows

BATCH = collate([[5, 6, 7], [8, 9]], [[[10, 11, 12, 13]], [[14, 15], [16, 17, 18]]])


def tiny(seed: int = 0) -> Reader:
    """A reader whose encoder is left as it is, and whose decoder isn't."""
    reader = Reader(named("tiny-fid"))
    reader.reset_parameters(torch.Generator().manual_seed(seed))
    reader.live_encoder.requires_grad_(False)
    return reader.eval()


def rounded(reader: Reader, batch: Batch = BATCH) -> torch.Tensor:
    """What the encoder makes of a batch, to the bits of bfloat16."""
    return reader.read(batch).states_BMD.bfloat16().float()


def test_states_are_those_of_the_encoder_and_computed_once(tmp_path: Path) -> None:
    reader, states = tiny(), States(tmp_path)
    expected = rounded(reader)
    torch.testing.assert_close(reader.read(BATCH, states).states_BMD, expected, rtol=0, atol=0)
    assert states.computed == 3
    again = States(tmp_path)  # another run
    torch.testing.assert_close(reader.read(BATCH, again).states_BMD, expected, rtol=0, atol=0)
    assert again.computed == 0
    some = collate([[8, 9]], [[[16, 17, 18], [10, 11]]])  # one row that is there, and one that isn't
    torch.testing.assert_close(
        reader.read(some, again).states_BMD, rounded(reader, some), rtol=0.02, atol=0.02
    )
    assert again.computed == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_states_made_on_a_device_are_read_on_the_cpu(tmp_path: Path) -> None:
    reader, states = tiny(), States(tmp_path)
    expected = rounded(reader)
    made = reader.cuda().read(BATCH.to("cuda"), states).states_BMD
    torch.testing.assert_close(made.cpu(), expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(reader.cpu().read(BATCH, states).states_BMD, made.cpu(), rtol=0, atol=0)
    assert states.computed == 3


def test_states_are_of_one_encoder(tmp_path: Path) -> None:
    states = States(tmp_path)
    for seed in range(1, 9):  # one after the other, so that they may stand at one place in memory
        reader = tiny(seed)
        torch.testing.assert_close(reader.read(BATCH, states).states_BMD, rounded(reader), rtol=0, atol=0)
        del reader
    assert states.computed == 24


def test_what_is_trained_is_not_kept(tmp_path: Path) -> None:
    reader, states = tiny().requires_grad_(True), States(tmp_path)
    context = reader.read(BATCH, states)
    torch.testing.assert_close(context.states_BMD, reader.read(BATCH).states_BMD, rtol=0, atol=0)
    assert context.states_BMD.requires_grad
    assert states.computed == 0


def test_states_outlive_a_process_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    reader = tiny()
    reader.read(BATCH, States(tmp_path))
    index = tmp_path / "index.bin"
    index.write_bytes(index.read_bytes()[: 2 * RECORD.size + 7])  # in the middle of the third
    again = States(tmp_path)
    torch.testing.assert_close(reader.read(BATCH, again).states_BMD, rounded(reader), rtol=0, atol=0)
    assert again.computed == 1
    assert States(tmp_path).computed == 0
    assert index.stat().st_size == 3 * RECORD.size


def test_readers_are_the_start_with_another_decoder() -> None:
    start, light = Reader.from_pretrained(START), made(LIGHT[6], 0)
    assert light.config.kept_vectors == 23
    for name, p in light.live_encoder.named_parameters():
        torch.testing.assert_close(p, start.live_encoder.get_parameter(name), rtol=0, atol=0)
    sparse, other = made(LSA[6], 0), made(LSA[6], 1)
    assert sparse.config.cross_layers == (False,) * 5 + (True,)
    name = "decoder.layers.5.cross_attention.key.weight"
    assert not torch.equal(sparse.get_parameter(name), other.get_parameter(name))
    assert made(MQ, 0).config.kv_heads == (1, 1)
    assert made(GQA, 0).config.kv_heads == (2, 2)
    large = made(FIDO, 0).config.decoder
    assert (large.layers, large.heads, large.feed_forward) == (12, 12, 2048)


def test_lumen_s_parts_see_each_other_as_they_should() -> None:
    seen = {variant.name: made(variant, 0) for variant in CONDITIONING}
    blind = seen["lumen-1-3-question-sees-passage"]
    assert (blind.config.live, blind.config.live_attention) == (2, "question-sees-passage")
    frozen = seen["lumen-1-3-question-frozen"]
    assert not any(p.requires_grad for p in frozen.question_encoder.parameters())
    torch.testing.assert_close(
        frozen.state_dict(), split(START, frozen.config.alpha).state_dict(), rtol=0, atol=0
    )


def test_memory_encoders_are_the_start_s_first_layers() -> None:
    start = Reader.from_pretrained(START)
    for variant in MEMORIES[:2]:
        assert variant.memory is not None
        reader = made(variant, 0)
        assert (reader.config.live, reader.config.question_layers) == (2, 4)
        assert reader.config.memory_layers == variant.memory
        memory = {name: p for name, p in reader.named_parameters() if name.startswith("memory_encoder.")}
        assert sum(name.endswith("attention.query.weight") for name in memory) == variant.memory
        assert not any(p.requires_grad for p in memory.values())
        for name, p in memory.items():
            source = name.removeprefix("memory_encoder.").replace("encoder.", "live_encoder.", 1)
            torch.testing.assert_close(p, start.get_parameter(source), rtol=0, atol=0)


class Watched(runs.Trainer):
    """A trainer that is remembered, with the rows of its log."""

    seen: list["Watched"] = []  # noqa: RUF012

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.before = {name: p.detach().clone() for name, p in self.reader.named_parameters()}
        Watched.seen.append(self)

    def log(self, kind: str, **values: Any) -> None:
        self.rows.append((kind, values))
        super().log(kind, **values)

    def changed(self, part: str) -> bool:
        """Whether training changed anything of it."""
        return any(
            not torch.equal(p, self.before[name])
            for name, p in self.reader.named_parameters()
            if name.startswith(part)
        )


def watched(
    variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], Watched, Watched]:
    """What came of two trainings of a step each, and these."""
    data, corpus = write_data(tmp_path / "data")
    monkeypatch.setattr(runs, "Trainer", Watched)
    monkeypatch.setattr(Watched, "seen", [])
    monkeypatch.setattr(runs, "SOME", 1)
    monkeypatch.setattr(measure, "TIMES", 1)
    sets = judging.gold(data, corpus, 2, (*SETS, *OTHERS))
    changes = [f"data={data}", f"passages=[{str(corpus)!r}]", "stages.0.questions=2", "tasks.other.where={}"]
    outcome = runs.trained(variant, 0, 2, changes, States(tmp_path / "states"), sets, tmp_path / "run")
    first, second = Watched.seen
    return outcome, first, second


@pytest.mark.slow
def test_a_memory_encoder_is_transferred_and_then_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (variant,) = [variant for variant in TRANSFER if variant.name == "webq-1-2-memory"]
    there = replace(variant, recipe=(*variant.recipe, "tasks.webq.where={}"))  # no such questions here
    outcome, first, second = watched(there, tmp_path, monkeypatch)
    assert first.changed("memory_encoder.")
    assert not second.changed("memory_encoder.")
    assert not any(p.requires_grad for p in second.reader.memory_encoder.parameters())
    assert first.changed("live_encoder.")
    assert second.changed("live_encoder.")
    for name, p in first.reader.named_parameters():
        torch.testing.assert_close(second.before[name], p.detach(), rtol=0, atol=0)
    assert (first.recipe.stages[0].mix, second.recipe.stages[0].mix) == (
        {"extractive": 0.8, "other": 0.2}, {"webq": 1.0},
    )  # fmt: skip
    assert (first.recipe.steps, second.recipe.steps) == (1, 1)
    assert first.recipe.seed != second.recipe.seed == 0
    assert outcome["decides"] == list(outcome["on_the_way"]["1"].keys() - {"step"}) == ["webq"]
    assert {name: outcome[name]["n"] for name in (*SETS, *OTHERS)} == {
        "squad": 1, "newwiki": 1, "nq": 1, "webq": 2, "triviaqa": 1,
    }  # fmt: skip
    assert outcome["cpu_seconds"] == pytest.approx(first.cpu_seconds + second.cpu_seconds, abs=0.1)
    assert (tmp_path / "states" / "states.bin").stat().st_size == 0  # of no use to other runs


def test_memory_is_rounded_to_codes(tmp_path: Path) -> None:
    data, corpus = write_data(tmp_path / "data")
    passages = [passage for asked in judging.gold(data, corpus, 2, SETS).values() for _, [passage] in asked]
    reader, codes = made(CODES, 0), 3
    run = coded(EncoderLayers.__call__, reader, passages, codes)
    assert reader.tokenizer is not None
    ids = reader.tokenizer.passages(passages)
    given = torch.as_tensor(pad(ids, 0)), torch.tensor([len(row) for row in ids])
    exact, rounded = reader.encode_passages(*given), reader.encode_passages(*given, run)
    for part in rounded.split(16, dim=1):
        assert len(part.unique(dim=0)) == codes
    # The nearest of few codes is nearer than the mean of all, and not near.
    error, variance = float((rounded - exact).square().mean()), float(exact.var(0).mean())
    assert 0.1 * variance < error < variance


@pytest.mark.slow
def test_a_reader_learns_and_is_judged_with_memory_in_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, corpus = write_data(tmp_path / "data")
    monkeypatch.setattr(measure, "TIMES", 1)
    sets = judging.gold(data, corpus, 2, (*SETS, *OTHERS))
    changes = [f"data={data}", f"passages=[{str(corpus)!r}]", "stages.0.questions=2", "tasks.other.where={}"]
    states, found = States(tmp_path / "states"), []
    for codes in (3, 0):
        monkeypatch.setattr(runs, "coded", lambda *given: pytest.fail("no codes were asked for"))
        if codes:
            monkeypatch.setattr(runs, "coded", coded)
        variant = replace(CODES, codes=codes)
        found.append(runs.trained(variant, 0, 1, changes, states, sets, tmp_path / "run"))
        assert (states.computed == 0) == bool(codes)  # what codes give back is kept apart
    rounded, exact = (outcome["squad"]["log_likelihood"] for outcome in found)
    assert rounded != pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("kind", ["carry", pytest.param("fresh", marks=pytest.mark.slow)])
def test_second_moments_go_on_or_begin_anew(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (variant,) = [variant for variant in MOMENTS if variant.name == f"moments-{kind}"]
    small = replace(variant, config={**variant.config, "decoder": {"layers": 6}})
    _, first, second = watched(small, tmp_path, monkeypatch)
    carried = [values for name, values in second.rows if name == "moments"]
    assert carried == ([{"fresh": []}] if kind == "carry" else [])
    assert first.recipe.optimiser.warmup > second.recipe.optimiser.warmup == 0
    assert first.recipe.optimiser.kind == second.recipe.optimiser.kind == "hybrid"


def test_passages_are_ranked_by_words_and_meaning() -> None:
    hits = [
        Hit(Passage(str(n), "", f"text {n}"), score) for n, score in enumerate((9.0, 8.0, 5.0, 4.0, 3.0, 1.0))
    ]
    near = [0.1, 0.9, 0.2, 0.3, 0.8, 0.7]
    assert [p.id for p in ranked._best(hits, near, "meaning")] == ["1", "4", "5", "3", "2"]
    # By words 1, 0.875, 0.5, 0.375, 0.25, 0; by meaning 0, 1, 0.125, 0.25, 0.875, 0.75.
    assert [p.id for p in ranked._best(hits, near, "both")] == ["1", "4", "0", "5", "2"]


def test_what_comes_along_is_judged_by_its_guesses() -> None:
    passage = Passage("0", "Nile", "Its delta begins at Cairo.")
    question = Question("q", "where?", ("Cairo",))
    withheld, wrong = Answer("", -1.0, guess="Cairo"), Answer("the Nile", -1.0)
    found = ranked.guessed([Result(question, [passage], withheld), Result(question, [], wrong)])
    assert found == {"n": 2, "em": 50.0, "f1": 50.0, "recall": 50.0, "right": "10"}


def towns(folder: Path) -> tuple[Path, Path]:
    """Data in which words find every passage for every question."""
    numbers = range(8)
    passages = [
        {"id": f"p{n}", "title": f"River {n}", "text": f"River number {n} flows to the town of Port {n}."}
        for n in numbers
    ]
    questions = [
        {"id": f"q{n}", "question": f"what town does river number {n} flow to?", "answers": [f"Port {n}"]}
        for n in numbers
    ]
    write_rows(folder / "corpus" / "passages.jsonl.gz", passages)
    for name in SETS:
        write_rows(folder / "qa" / f"dev.{name}.jsonl.gz", questions)
    Corpus.build(folder / "corpus", to=folder / "towns.corpus").close()
    return folder, folder / "towns.corpus"


def test_a_reader_that_comes_along_is_judged_with_each_ranking(tmp_path: Path) -> None:
    data, corpus = towns(tmp_path / "data")
    with ExitStack() as stack:
        setting = Ranked(data, corpus, 2, stack)
        found = {
            one.ranking: setting.judged(one) for one in SHIPPED["reranking"] if one.reader == "pocket-lumen"
        }
        read, _ = setting._all("pocket-lumen", "squad")
        chosen = {
            one.ranking: setting._ranked(one, "squad")[0]
            for one in SHIPPED["reranking"]
            if one.reader == "pocket-lumen"
        }
    for (_, _, answer), (_, passages) in zip(read, chosen["shares"], strict=True):
        shares = {e.passage.id: e.score for e in answer.evidence}
        assert len(shares) > len(passages) == 5
        assert min(shares[p.id] for p in passages) >= sorted(shares.values())[-5]
        assert answer.evidence[0].score > answer.evidence[-1].score
    for (_, five), (_, all_found) in zip(chosen["words"], chosen["none"], strict=True):
        assert five == all_found[:5]
    for ranking, row in found.items():
        assert row["passages"] == (20 if ranking == "none" else 5)
        assert row["ms"]["answering"] > 0
        assert (row["ms"]["ranking"] > 0) == (ranking in ("meaning", "both", "shares"))
        for name in SETS:
            assert row[name]["n"] == len(row[name]["right"]) == 2
            assert row[name]["em"] == 50 * row[name]["right"].count("1")
    assert found["shares"]["ms"]["ranking"] == found["none"]["ms"]["answering"]  # they are read once


def test_a_memory_is_answered_from_in_each_codec(tmp_path: Path) -> None:
    data, corpus = write_data(tmp_path / "data")
    with ExitStack() as stack:
        setting = Remembered(data, corpus, 2, stack)
        exact, rounded, coarse = (setting.judged(one) for one in SHIPPED["codecs"][:3])
    assert exact["error"] < 1e-6 < rounded["error"] < coarse["error"] < 0.02
    assert exact["bytes_a_token"] > 1.9 * rounded["bytes_a_token"] > 1.9 * 1.9 * coarse["bytes_a_token"]
    alone = judging.judge_all(Reader.from_pretrained("pocket-lumen"), judging.gold(data, corpus, 2))
    for name in SETS:
        assert exact[name]["n"] == len(exact[name]["right"]) == 2
        assert exact[name]["log_likelihood"] == pytest.approx(alone[name]["log_likelihood"], rel=1e-5)
        likelihoods = [row[name]["log_likelihood"] for row in (exact, rounded, coarse)]
        assert len(set(likelihoods)) == 3
        np.testing.assert_allclose(likelihoods, likelihoods[0], rtol=0.05)


@pytest.mark.slow
def test_what_comes_along_has_a_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, corpus = write_data(tmp_path / "data")
    typed = ["codecs", "--data", str(data), "--corpus", str(corpus), "--to", str(tmp_path / "study.jsonl")]
    typed += ["--only", "codec-int8", "--limit", "2"]
    main(typed)
    (row,) = read(tmp_path / "study.jsonl")
    assert (row["variant"], row["start"], row["steps"], row["codec"]) == (
        "codec-int8", "pocket-lumen", 0, "int8",
    )  # fmt: skip
    monkeypatch.setattr(Remembered, "judged", None)  # nothing is left to do
    main(typed)
    assert list(read(tmp_path / "study.jsonl")) == [row]


def test_a_command_trains_no_other_reader_when_its_minutes_are_over(tmp_path: Path) -> None:
    data, corpus = write_data(tmp_path / "data")
    typed = ["table-4", "--data", str(data), "--corpus", str(corpus), "--states", str(tmp_path / "states")]
    typed += ["--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "study.jsonl"), "--limit", "1"]
    with pytest.raises(SystemExit, match="same command goes on"):
        main([*typed, "--limit-minutes", "0"])
    assert not (tmp_path / "study.jsonl").exists()
    assert not (tmp_path / "runs").exists()


def test_a_training_that_diverges_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(variant: Variant, seed: int, *_: Any) -> dict[str, Any]:
        if (variant.name, seed) == ("lsa-6", 0):
            raise FidkitError("step 3 diverged")
        return {"squad": {"em": 50.0}}

    data, corpus = write_data(tmp_path / "data")
    monkeypatch.setattr(command, "trained", trained)
    typed = ["table-4", "--data", str(data), "--corpus", str(corpus), "--states", str(tmp_path / "states")]
    typed += ["--to", str(tmp_path / "study.jsonl"), "--limit", "1"]
    typed += ["--only", "fid", "lsa-6", "--seeds", "0", "1"]
    with pytest.raises(SystemExit, match="without a row: 1"):
        main(typed)
    assert "lsa-6, seed 0, has no row: step 3 diverged" in capsys.readouterr().err
    found = [(row["variant"], row["seed"]) for row in read(tmp_path / "study.jsonl")]
    assert found == [("fid", 0), ("fid", 1), ("lsa-6", 1)]


@pytest.mark.slow
def test_a_table_has_a_row_for_each_reader_and_seed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, corpus = write_data(tmp_path / "data")
    typed = ["table-4", "--data", str(data), "--corpus", str(corpus), "--states", str(tmp_path / "states")]
    typed += ["--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "study.jsonl"), "--limit", "3"]
    typed += ["--seeds", "0", "1", "--steps", "4", "--only", "light-6", "mq"]
    typed += ["--set", "stages.0.questions=2", "stages.0.mix={ extractive = 1.0 }", "tasks.other.where={}"]
    main(typed)
    found = list(read(tmp_path / "study.jsonl"))
    assert [(row["variant"], row["seed"]) for row in found] == [
        ("light-6", 0), ("mq", 0), ("light-6", 1), ("mq", 1)
    ]  # fmt: skip
    for row in found:
        assert row["steps"] == 4
        assert [row["on_the_way"][share]["step"] for share in ("1/4", "1/2", "1")] == [1, 2, 4]
        assert all(row[name]["n"] == 3 for name in (*SETS, *OTHERS))
        assert row["decides"] == list(SETS)
        assert row["decoder_ms"]["20"] > row["decoder_ms"]["1"] > 0
    assert found[0]["states_seconds"] > 0
    assert set(found[1]["beams"]) == {"4", "16"}
    assert not any((tmp_path / "runs").iterdir())
    kept = EncoderLayers.__call__
    monkeypatch.setattr(EncoderLayers, "__call__", None)  # nothing is left to do
    main(typed)
    assert list(read(tmp_path / "study.jsonl")) == found
    monkeypatch.setattr(EncoderLayers, "__call__", kept)
    other = another(tmp_path / START)
    main([*typed, "--start", str(other), "--seeds", "0", "--only", "light-6"])
    *before, last = read(tmp_path / "study.jsonl")
    assert before == found
    assert (last["start"], last["weights"]) == (START, begun(str(other))["weights"])
    assert last["weights"] != before[0]["weights"]


def another(directory: Path) -> Path:
    """A reader of the start's name with other weights."""
    reader = Reader.from_pretrained(START)
    with torch.no_grad():
        reader.embedding.norm.bias += 0.5
    reader.save_pretrained(directory)
    return directory


def test_a_start_is_known_by_its_weights(tmp_path: Path) -> None:
    one, other = begun(START), begun(str(another(tmp_path / START)))
    assert one["start"] == other["start"] == START
    assert one["weights"] != other["weights"]
    assert begun(START) == one
