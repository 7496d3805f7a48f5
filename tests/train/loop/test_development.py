"""Development questions while training: what each reads, how answers are judged, what picks the best."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fidkit.errors import ConfigError
from fidkit.reader import Reader
from fidkit.train.loop import development as development_module
from fidkit.train.loop.development import Development, mean_f1
from fidkit.train.losses.auxiliary import Auxiliary
from train.toy import FACTS, IDS, table_of, world, write_rows

CONTEXTS = "evaluation.context=['positive', 'retrieved', 'foreign']"
RETRIEVED = "evaluation.retrieved={ facts = 'retrieved.jsonl' }"
EXTRA = "evaluation.files={ facts = 'questions.jsonl', extra = 'extra.jsonl' }"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("development")
    rows = [{"id": f"u{n}", "question": f"who {n}?", "answers": [], "near_ids": [f"p{n}"]} for n in range(4)]
    write_rows(folder / "near.jsonl", rows)
    own = {"ctxs": [{"id": "x", "title": "", "text": "Nobody but Nansen."}], "positive_ids": ["x"]}
    other = {"ctxs": [{"id": "y", "title": "", "text": "Tea."}], "positive_ids": ["y"]}
    rows = [
        {"question": "who?", "answers": ["Nansen"], **own},
        {"question": "what?", "answers": ["Tea"], **other},
    ]
    write_rows(folder / "extra.jsonl", rows)
    return folder


def development(folder: Path, *changes: str) -> Development:
    recipe = world(folder, "evaluation.limit=8", *changes)
    return Development(recipe, table_of(recipe))


def test_each_set_is_asked_with_each_kind_of_passages(folder: Path) -> None:
    asked = development(folder, CONTEXTS, RETRIEVED, EXTRA, "evaluation.passages=3").sets
    assert asked.keys() == {
        "facts/positive", "facts/retrieved", "facts/foreign", "extra/positive", "extra/foreign",
    }  # fmt: skip
    number = {question: n for n, (*_, question, _) in enumerate(FACTS)}
    read = {
        name: {number[a.question]: [p.id for p in a.passages] for a in asked[name]}
        for name in asked
        if "facts" in name
    }
    assert read["facts/positive"] == {n: [IDS[n]] for n in range(8)}
    assert read["facts/retrieved"] == {n: [IDS[(n + k) % 8] for k in (1, 2, 0)] for n in range(8)}
    assert read["facts/foreign"] == {n: [IDS[(n + 4) % 8]] for n in range(8)}
    extra = {
        name: {a.question: a.passages[0].id for a in asked[f"extra/{name}"]}
        for name in ("positive", "foreign")
    }
    assert extra == {"positive": {"who?": "x", "what?": "y"}, "foreign": {"who?": "y", "what?": "x"}}


class Writer:
    """Stands for a reader: writes the same tokens whatever it reads, as likely as the numbers say."""

    def __init__(self, *steps: dict[int, float]) -> None:
        self.reader = Reader.from_preset("tiny-fid")
        self.reader.start = lambda context, max_tokens, beams=1: iter(steps)
        self.reader.step = self.step

    def step(self, ids_N: torch.Tensor, cache: Iterator[dict[int, float]]) -> torch.Tensor:
        likely = torch.full((len(ids_N), self.reader.config.vocabulary_size), -9.0)
        for token, score in next(cache, {self.reader.config.end_token: 1.0}).items():
            likely[:, token] = score
        return likely


def test_answers_are_judged_as_they_are_and_as_if_the_first_token_could_not_end_them(folder: Path) -> None:
    settings = [CONTEXTS, EXTRA, "evaluation.unanswerable={ near = 'near.jsonl' }", "evaluation.forced=true"]
    asked = development(folder, *settings)
    end, tea = 1, Reader.from_preset("tiny-fid").tokenizer.encode("Tea")
    half = {"em": 50.0, "f1": 50.0}
    silent = Writer({end: 2.0, tea[0]: 1.0}, *({token: 1.0} for token in tea[1:])).reader
    scores = asked.scores(silent)
    assert scores["extra/positive"] == {
        "em": 0.0, "f1": 0.0, "forced_em": 50.0, "forced_f1": 50.0, "silent": 100.0,
    }  # fmt: skip
    assert scores["near"] == {"silent": 100.0}
    speaking = Writer(*({token: 1.0, end: 0.0} for token in tea)).reader
    scores = asked.scores(speaking)
    assert scores["extra/foreign"] == half | {"forced_em": 50.0, "forced_f1": 50.0, "silent": 0.0}
    assert scores["near"] == {"silent": 0.0}
    # Without it, no more than EM and F1 as ever.
    assert development(folder, EXTRA).scores(silent)["extra"] == {"em": 0.0, "f1": 0.0}


def test_a_pointer_is_judged_by_the_piece_that_it_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader.from_preset("tiny-fid")
    monkeypatch.setattr(
        development_module,
        "point",
        lambda batch, context, logits: [[*reader.tokenizer.encode("Tea")]] * len(logits),
    )
    settings = [CONTEXTS, EXTRA, "evaluation.unanswerable={ near = 'near.jsonl' }"]
    scores = development(folder, *settings).pointed(reader, Auxiliary(reader))
    assert scores["extra/positive"] == scores["extra/foreign"] == {"em": 50.0, "f1": 50.0}
    assert scores.keys() == {"facts/positive", "facts/foreign", "extra/positive", "extra/foreign"}


def test_the_best_is_picked_by_what_can_be_answered() -> None:
    plain = {"a": {"em": 1.0, "f1": 10.0}, "b": {"em": 1.0, "f1": 20.0}}
    assert mean_f1(plain) == 15
    forced = {
        "a/positive": {"f1": 10.0, "forced_f1": 30.0},
        "a/foreign": {"f1": 90.0, "forced_f1": 90.0},
        "b": {"f1": 10.0, "forced_f1": 50.0},
        "near": {"silent": 100.0},
    }
    assert mean_f1(forced) == 40


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["evaluation.context=['foreign']"], "nothing to pick the best reader by"),
        (["evaluation.context=[]"], "nothing to pick the best reader by"),
        (["evaluation.files={}", "evaluation.unanswerable={ a = 'b' }"], "unanswerable goes with `files`"),
        (["evaluation.unanswerable={ facts = 'b' }"], "both have a set 'facts'"),
    ],
)
def test_an_evaluation_that_picks_nothing_is_refused(folder: Path, changes: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        world(folder, *changes)
