"""What recipes need beside them: everyday documents, the mean of two runs, and questions to fit on."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import berts
from fidkit import Corpus, Passage, Reader
from fidkit.engine.meaning import minilm
from fidkit.errors import CheckpointError
from fidkit.preset import named
from fidkit.questions.files import read_questions
from fidkit.tokens import Tokenizer
from fidkit.train.data.examples import Example, collate_examples
from fidkit.train.data.joined import read_ranked

RECIPES = Path(__file__).parents[1] / "recipes"
EVERYDAY = RECIPES / "everyday"
OWN_FOLDER = RECIPES.parent / "examples" / "own-folder"


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> list[dict]:
    return [*map(json.loads, (EVERYDAY / "questions.jsonl").read_text(encoding="utf-8").splitlines())]


def test_every_answer_stands_in_its_document_and_every_document_is_in_one_part() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (EVERYDAY / "documents").iterdir()}
    parts: dict[str, set[str]] = {}
    for row in rows():
        parts.setdefault(row["document"], set()).add(row["part"])
        if row["answers"]:
            found = " ".join(texts[row["document"]].split())
            assert " ".join(row["answers"][0].split()) in found, row
    assert parts.keys() == texts.keys()
    assert {frozenset(of_one) for of_one in parts.values()} == {frozenset({"train"}), frozenset({"dev"})}


def test_nothing_that_readers_are_judged_by_is_among_them() -> None:
    judged = json.loads("[" + ",".join((OWN_FOLDER / "questions.jsonl").read_text().splitlines()) + "]")
    assert not {row["question"] for row in judged} & {row["question"] for row in rows()}
    passages = {run for path in (OWN_FOLDER / "documents").iterdir() for run in _runs_of(path)}
    for path in (EVERYDAY / "documents").iterdir():
        assert not passages & set(_runs_of(path)), path.name


def _runs_of(path: Path) -> list[tuple[str, ...]]:
    """All runs of 12 words."""
    words = path.read_text(encoding="utf-8").casefold().split()
    return [tuple(words[at : at + 12]) for at in range(len(words) - 11)]


def test_questions_are_joined_with_what_a_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    join = script(EVERYDAY / "join.py")
    some = {row["document"] for row in rows() if row["part"] == "dev"}
    kept = sorted(some)[:2]
    (tmp_path / "documents").mkdir()
    for name in kept:
        (tmp_path / "documents" / name).write_bytes((EVERYDAY / "documents" / name).read_bytes())
    mine = [
        row | {"part": ("train", "dev")[row["document"] == kept[1]]}
        for row in rows()
        if row["document"] in kept
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    monkeypatch.setattr(join, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["join.py", str(tmp_path / "to")])
    join.main()
    found = {
        name: [*read_questions(tmp_path / "to" / f"{name}.jsonl")]
        for name in ("train", "dev", "train.absent", "dev.absent")
    }
    left_out = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert sum(map(len, found.values())) + sum(left_out) == len(mine)
    assert sum(left_out) <= 1
    asked, absent = found["train"] + found["dev"], found["train.absent"] + found["dev.absent"]
    for question in asked:
        texts = {passage.id: passage.text for passage in question.passages}
        [gold] = question.positive_ids
        assert question.answers[0] in texts.pop(gold)
        assert not any(answer in text for answer in question.answers for text in texts.values())
    assert all(question.near_ids[0] in {p.id for p in question.passages} for question in absent)
    sources = {
        name: {p.id.partition("#")[0] for q in some for p in q.passages} for name, some in found.items()
    }
    assert sources["train"] == {kept[0]}
    assert sources["dev"] == {kept[1]}


def test_passages_are_found_by_meaning_too_for_questions_that_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"1": "The ferry sails at noon.", "2": "When does the boat leave?", "3": "Dough rests overnight."}
    passages, asked = tmp_path / "passages.jsonl", tmp_path / "asked.jsonl"
    passages.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in texts.items()))
    Corpus.build(passages, tmp_path / "corpus", encoder=minilm, vectors=True).close()
    about = {"question": "At what hour does the vessel depart?", "answers": ["noon"]}
    rows = [{"id": "a", **about, "positive_ids": ["1"]}, {"id": "b", **about}]
    rows += [{"id": "c", **about, "answers": [], "near_ids": ["2"]}]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = script(RECIPES / "found.py")
    to = tmp_path / "both" / "asked.jsonl"
    monkeypatch.setattr(sys, "argv", ["found.py", str(tmp_path / "corpus"), str(asked), "--to", str(to)])
    found.main()
    ranked = read_ranked(to)
    assert ranked.keys() == {"a", "c"}
    assert set(ranked["a"][:2]) == {"1", "2"}


def test_questions_about_an_encyclopedia_name_their_passage() -> None:
    questions = [*read_questions(RECIPES / "encyclopedia" / "questions.jsonl")]
    absent = [*read_questions(RECIPES / "encyclopedia" / "absent.jsonl")]
    assert (len(questions), len(absent)) == (32907, 3835)
    assert len({question.id for question in [*questions, *absent]}) == 32907 + 3835
    assert all(len(question.positive_ids) == 1 for question in questions)
    assert all(question.target == question.answers[0] for question in questions)
    assert len({question.positive_ids[0] for question in questions}) == 4602
    assert not any(question.positive_ids or question.answers for question in absent)
    assert all(len(question.near_ids) == 1 for question in absent)


def test_the_mean_of_readers_is_that_of_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        Reader.from_preset("tiny-fido", seed).save_pretrained(tmp_path / str(seed))
    Reader.from_preset("tiny-lumen", 1).save_pretrained(tmp_path / "other")
    mean = script(RECIPES / "mean.py")
    monkeypatch.setattr(sys, "argv", ["mean.py", f"{tmp_path}/1", f"{tmp_path}/2", "--to", f"{tmp_path}/to"])
    mean.main()
    one, two, found = (Reader.from_pretrained(tmp_path / name) for name in ("1", "2", "to"))
    for name, weight in found.named_parameters():
        expected = (one.get_parameter(name) + two.get_parameter(name)) / 2
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-7)
    mean.average(found, [found, found])
    for name, weight in Reader.from_pretrained(tmp_path / "to").named_parameters():
        assert torch.equal(weight, found.get_parameter(name))  # what none has learnt anew
    monkeypatch.setattr(
        sys, "argv", ["mean.py", f"{tmp_path}/1", f"{tmp_path}/other", "--to", f"{tmp_path}/b"]
    )
    with pytest.raises(SystemExit):
        mean.main()
    assert "another reader than" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_reader_reads_as_before_with_its_words_in_the_order_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ["<s>", "<pad>", "</s>", "<unk>", *reversed(berts.WORDS), "[UNK]", "<mask>"]
    own = _reader_of_words(tmp_path / "own", theirs, pad="<pad>", start="<s>", end="</s>")
    other = _reader_of_words(tmp_path / "other", berts.VOCABULARY, pad="[PAD]", start="[CLS]", end="[SEP]")
    vocabulary = script(RECIPES / "vocabulary.py")
    where = [str(tmp_path / name) for name in ("own", "other", "to")]
    monkeypatch.setattr(sys, "argv", ["vocabulary.py", where[0], "--of", where[1], "--to", where[2]])
    vocabulary.main()
    made = Reader.from_pretrained(tmp_path / "to")
    assert made.config == own.config.replace(
        vocabulary_size=len(berts.VOCABULARY),
        **{name: getattr(other.config, name) for name in vocabulary.TOKENS},
    )
    assert made.tokenizer is not None
    assert made.tokenizer.backend.get_vocab() == {word: n for n, word in enumerate(berts.VOCABULARY)}
    before, after = (_logits(reader, "who wrote abc?", "it the text abc.", "abc") for reader in (own, made))
    order = [theirs.index(vocabulary.NAMES.get(word, word)) for word in berts.VOCABULARY]
    torch.testing.assert_close(after, before[..., order], rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"2 of 3 tokens .* 'b' among them"):
        vocabulary.places({"a": 0}, {"c": 2, "a": 0, "b": 1})


def _reader_of_words(directory: Path, words: list[str], pad: str, start: str, end: str) -> Reader:
    """A reader with random weights, of which none is zero, stored in a directory."""
    directory.mkdir()
    berts.save_vocabulary(directory, words)
    config = named("tiny-fid").replace(
        vocabulary_size=len(words),
        tied_head=True,
        head_bias=True,
        question_format="{question}",
        passage_format="{title}{text}",
        pad_token=words.index(pad),
        start_token=words.index(start),
        **dict.fromkeys(("end_token", "question_end_token", "title_end_token"), words.index(end)),
    )
    reader = Reader(config, Tokenizer.load(directory / "tokenizer.json", config)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in reader.parameters():
            weight.normal_(0.0, 0.3, generator=generator)
    reader.save_pretrained(directory)
    return reader


def _logits(reader: Reader, question: str, text: str, answer: str) -> torch.Tensor:
    tokens = reader.tokenizer
    assert tokens is not None
    passages = tokens.passages([Passage("1", "", text)])
    example = Example(tokens.question(question).ids, passages, tokens.target(answer))
    with torch.no_grad():
        return reader(collate_examples([example]).to("cpu")).logits


def test_confidence_is_fitted_on_every_second_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting = script(RECIPES / "fitting.py")
    for name, (file, count) in fitting.QUESTIONS.items():
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps({"id": f"{name}-{n}"}) + "\n" for n in range(2 * count + 5))
        path.write_bytes(gzip.compress(lines.encode()) if file.endswith(".gz") else lines.encode())
    monkeypatch.setattr(sys, "argv", ["fitting.py", str(tmp_path / "data"), str(tmp_path / "fit")])
    fitting.main()
    for name, (_, count) in fitting.QUESTIONS.items():
        written = (tmp_path / "fit" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in written] == [f"{name}-{2 * n}" for n in range(count)]
    assert sum(count for _, count in fitting.QUESTIONS.values()) == 1008
    assert "everyday: 300 questions" in capsys.readouterr().out
