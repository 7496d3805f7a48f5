"""The reader that comes with fidkit: small, loadable, able to read, and able to be silent."""

import json

import pytest

from fidkit import Passage, assets
from fidkit.answerer import Answerer
from fidkit.cli.app import run
from fidkit.engine.embedder import Embedder
from fidkit.engine.generation.decoding import Decoding
from fidkit.errors import CheckpointError
from fidkit.reader import Reader

MOST_BYTES = 32_000_000
PASSAGES = [
    Passage(
        "a", "South Pole", "Roald Amundsen reached the South Pole in December 1911. His ship was called Fram."
    ),
    Passage("b", "Tea", "Tea comes from China. It was first drunk as a medicine."),
]


@pytest.fixture(scope="module")
def qa():
    with Answerer("pocket") as opened:
        yield opened


def test_it_is_small_and_has_all_its_files() -> None:
    directory = assets.reader()
    files = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert sum(files.values()) <= MOST_BYTES
    assert files.keys() == {
        "config.json", "model.safetensors", "tokenizer.json", "calibration.json", "README.md", "LICENSE",
    }  # fmt: skip


def test_its_answers_are_pieces_of_passages_by_a_calibrated_confidence() -> None:
    reader = Reader.from_pretrained("pocket")
    assert reader.config.extractive
    assert reader.calibration is not None


@pytest.mark.parametrize(
    ("question", "said", "where"),
    [
        ("Who reached the South Pole?", "Roald Amundsen", "a"),
        ("When was the South Pole reached?", "December 1911", "a"),
        ("Where does tea come from?", "China", "b"),
    ],
)
def test_it_answers_in_the_words_of_its_passages(qa: Answerer, question: str, said: str, where: str) -> None:
    answer = qa.read(question, PASSAGES)
    assert answer.text == said
    assert answer.verbatim
    assert answer.evidence[0].passage.id == where
    assert sum(evidence.score for evidence in answer.evidence) == pytest.approx(1, abs=1e-5)


def test_a_stream_grows_in_the_words_of_the_passages(qa: Answerer) -> None:
    seen: list[str] = []
    answer = qa.read("Who reached the South Pole?", PASSAGES, stream=seen.append)
    assert seen[-1] == answer.text == "Roald Amundsen"
    assert all(answer.text.startswith(text) for text in seen)


def test_several_beams_find_what_one_finds_or_better(qa: Answerer) -> None:
    for question in ("Who reached the South Pole?", "When was the South Pole reached?"):
        one, several = (qa.read(question, PASSAGES, decoding=Decoding(beams=n)) for n in (1, 4))
        assert several.text == one.text
        assert several.score >= one.score - 1e-4


def test_without_passages_there_is_no_guess(qa: Answerer) -> None:
    answer = qa.read("Who designed the bridge?", [])
    assert answer.text == answer.guess == ""


def test_it_is_silent_where_nothing_is_said(qa: Answerer) -> None:
    answer = qa.read("What is the interest rate of the mortgage?", PASSAGES)
    assert answer.text == ""
    assert answer.guess


def test_it_is_what_ask_uses_on_the_projects_own_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "How many encoder layers does the bundled reader have?", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reader"] == "pocket"
    assert len(record["evidence"]) > 1
    assert record["guess"] == "six"


def test_vectors_of_its_encoder_find_what_is_meant() -> None:
    embedder = Embedder.open("minilm")
    asked, tea, pole, port = embedder.embed(
        ["What do people drink in the morning?", "A pot of tea", "The South Pole", "The port of Hamburg"]
    )
    assert asked @ tea > 0.3 > max(asked @ pole, asked @ port)
    assert asked @ asked == pytest.approx(1, abs=1e-5)


def test_an_encoder_alone_is_no_reader() -> None:
    with pytest.raises(CheckpointError, match=r"minilm: an encoder without a decoder.* such as pocket"):
        Reader.from_pretrained("minilm")


def test_all_weights_that_come_with_it_are_small() -> None:
    found = [path.stat().st_size for path in assets.reader().parent.glob("*/model.safetensors")]
    assert len(found) == len(assets.READERS + assets.EMBEDDERS)
    assert sum(found) <= 52_000_000
