"""`fidkit ask`: one JSON object on stdout, everything else on stderr, errors in one line."""

import inspect
import io
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fidkit.answerer import Answerer
from fidkit.cli.app import run
from fidkit.cli.ask import _excerpt, _Printed, _show_answer, _show_evidence
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.meaning import minilm
from fidkit.errors import UsageError
from fidkit.passages import Corpus, default_location, opening
from fidkit.passages.local.layout import writer_lock
from fidkit.passages.opening import BEING_INDEXED
from fidkit.reader import Reader
from fidkit.types import Answer, Evidence, Passage, Without

QUESTION = "where does tea come from?"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("reader")
    Reader.from_preset("tiny-fid").save_pretrained(directory)
    return str(directory)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nTea comes from China.\n")
    (folder / "coffee.txt").write_text("Coffee comes from Ethiopia, tea does not.")
    (folder / "picture.txt").write_bytes(b"\x89PNG\xff\x00")
    return folder


def test_json_is_one_object_with_the_keys_of_the_contract(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    record = json.loads(out)
    keys = ["question", "answer", "guess", "confidence", "score", "verbatim", "evidence", "timings_ms"]
    keys += ["reader", "notes"]
    assert list(record) == keys
    assert (record["question"], record["reader"]) == (QUESTION, reader)
    assert {e["source"].split(":")[0] for e in record["evidence"]} == {"tea.md", "coffee.txt"}
    assert all(
        list(e) == ["id", "title", "text", "score", "source", "span", "sentence", "without", "where", "boxes"]
        for e in record["evidence"]
    )
    assert sum(e["score"] for e in record["evidence"]) == pytest.approx(1, abs=1e-5)
    assert record["score"] < 0
    assert {"search", "encode", "decode", "total"} <= record["timings_ms"].keys()
    assert "{" not in err


def test_the_second_use_reuses_the_index_and_later_ones_refresh_it(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(question: str) -> dict:
        assert run(["ask", question, "--in", str(docs), "--reader", reader, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def index() -> dict[Path, int]:
        corpora = Path(os.environ["FIDKIT_HOME"])
        files = [path for path in corpora.rglob("*") if path.is_file() and ".sqlite" not in path.name]
        return {path: path.stat().st_mtime_ns for path in files}

    first, built = ask(QUESTION), index()
    second = ask(QUESTION)
    assert index() == built != {}
    for key in ("answer", "score", "evidence"):
        assert first[key] == second[key]
    (docs / "cocoa.txt").write_text("Cocoa comes from the Amazon.")
    found = ask("what of cocoa and the Amazon?")["evidence"]
    assert any(one["source"].startswith("cocoa.txt") for one in found)


def test_a_built_corpus_or_several_sources_will_do(
    reader: str, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Corpus.build(docs, tmp_path / "built").close()
    both = ["--in", str(docs / "tea.md"), "--in", str(docs / "coffee.txt")]
    for sources in (["--in", str(tmp_path / "built")], both):
        assert run(["ask", QUESTION, *sources, "--reader", reader, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["evidence"]) == 2
    assert run(["ask", QUESTION, *both, "--reader", reader, "--json", "--passages", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["evidence"]) == 1


def test_a_person_sees_the_answer_its_evidence_and_where_it_stands(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader]) == 0
    out, err = capsys.readouterr()
    assert "Tea comes from China." in out
    assert "[tea.md:" in out
    assert "%" in out
    assert "2 passages read in" in err


def test_a_passage_that_is_read_in_pieces_is_one_passage(
    reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.txt"
    long.write_text("tea " + " ".join(f"x{number}q{number}z" for number in range(1000, 1080)))
    assert run(["ask", "tea", "--in", str(long), "--reader", reader, "--passages", "1"]) == 0
    assert re.search(r"\n1 passage read as [2-9][0-9]* pieces in ", capsys.readouterr().err)


def test_a_stream_prints_what_is_printed_without(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for more in ([], ["--stream"]):
        assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader, *more]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""


@pytest.mark.parametrize(
    "more", [["--beams", "3"], ["--temperature", "1", "--top-k", "9", "--top-p", "0.9", "--seed", "4"]]
)
def test_alternatives_are_shown_and_in_the_json(
    reader: str, docs: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "ask",
        QUESTION,
        "--in",
        str(docs),
        "--reader",
        reader,
        "--n-best",
        "3",
        "--max-tokens",
        "4",
        *more,
    ]
    assert run([*given, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    others = record["alternatives"]
    assert [list(other) for other in others] == [["answer", "score"]] * 2
    scores = [record["score"], *(other["score"] for other in others)]
    assert scores == sorted(scores, reverse=True)
    assert run(given) == 0
    out = capsys.readouterr().out
    assert out.startswith(record["answer"])
    assert all(
        f"or: {other['answer'] or '(no answer)'}  (score {other['score']:.2f})" in out for other in others
    )


@pytest.mark.parametrize("more", [["--max-tokens", "2"], ["--min-tokens", "9"], ["--no-repeat-ngram", "1"],
                                  ["--length-penalty", "0"]])  # fmt: skip
def test_options_reach_the_decoding(reader: str, docs: Path, more: list[str], monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(Answerer, "answer", lambda *_, decoding, **__: seen.append(decoding) or Answer("", 0))
    monkeypatch.setattr("fidkit.cli.ask._show_evidence", lambda *_: None)
    assert (
        run(["ask", QUESTION, "--in", str(docs), "--reader", reader, *more, "--stop", "a", "--stop", "b"])
        == 0
    )
    name = more[0].removeprefix("--").replace("-", "_")
    assert seen == [Decoding(**{name: float(more[1])}, stop=("a", "b"))]


def test_an_answer_that_is_cut_is_said(reader: str, docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "note: the answer was cut after 2 tokens; a larger max_tokens goes on"
    assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader, "--max-tokens", "2"]) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("question", "said"), [("xyzzy?", "no passage shares a word"), ("tea " * 99, "tokens long")]
)
def test_notes_go_to_stderr_and_into_the_json(
    reader: str, docs: Path, question: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # By meaning something is always found.
    Corpus.build(docs, default_location([docs]), encoder=minilm, vectors=False).close()
    assert run(["ask", question, "--in", str(docs), "--reader", reader, "--json"]) == 0
    out, err = capsys.readouterr()
    left_out, note, _raw = json.loads(out)["notes"]
    assert said in note
    assert f"note: {note}" in err
    # Of the folder's three files, one is no text.
    assert left_out.startswith("1 of 3 files were left out (picture.txt: ")
    command = re.search(r"`fidkit (corpus info \S+)` lists them", left_out)[1]
    assert command == f"corpus info {docs}"
    assert run(command.split()) == 0
    assert "picture.txt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([" "], 2, "the question is empty"),
        (["who?", "--passages", "0"], 2, "--passages is 0"),
        (["who?", "--beams", "0"], 2, "--beams is 0; expected 1 or more"),
        (["who?", "--max-tokens", "0"], 2, "--max-tokens is 0; expected 1 or more"),
        (["who?", "--top-k", "3"], 2, "--temperature is 0, which draws none; set a temperature"),
        (["who?", "--beams", "2", "--temperature", "1"], 2, "expected beam search or sampling"),
        (["who?", "--stream"], 2, "--stream and --json exclude each other"),
        (["who?", "--in", "no/such/folder"], 1, "no/such/folder"),
        (["who?", "--in", "{empty}"], 1, "empty"),
        (["who?", "--in", "{docs}", "--reader", "{docs}"], 1, "no config.json"),
        (["who?", "--in", "{docs}", "--reader", "no such reader!"], 1, "no reader 'no such reader!'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    code: int,
    said: str,
    docs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"docs": docs, "empty": tmp_path / "empty"}
    assert run(["ask", *(a.format(**places) for a in arguments), "--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "Traceback" not in err


def test_as_a_command_only_json_reaches_stdout(reader: str, docs: Path) -> None:
    command = [sys.executable, "-c", "from fidkit.cli import main; main()", "ask", QUESTION]
    command += ["--in", str(docs), "--reader", reader, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["question"] == QUESTION


@pytest.mark.parametrize(
    ("more", "opened"),
    [
        ([], {"reader": "pocket", "device": "auto", "precision": "auto", "stored": True}),
        (["--precision", "bfloat16"], {"precision": "bfloat16"}),
        (["--precision", "float32"], {"precision": "float32"}),
        (["--device", "cpu"], {"device": "cpu"}),
        (["--no-memory"], {"stored": False}),
        (["--reader", "a/b"], {"reader": "a/b"}),
        (["--in", "a", "--in", "b/c"], {"documents": ["a", "b/c"]}),
    ],
)
def test_options_reach_the_answerer(more: list[str], opened: dict, monkeypatch) -> None:
    seen: list[dict] = []
    parameters = inspect.signature(Answerer.open)

    def open_(*given, **named) -> object:
        call = parameters.bind(*given, **named)
        call.apply_defaults()
        seen.append(call.arguments)
        raise UsageError("seen")

    monkeypatch.setattr(Answerer, "open", open_)
    assert run(["ask", QUESTION, *more]) == 2
    assert seen[0] | opened == seen[0]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
@pytest.mark.parametrize("passages", [1, 2])
def test_precision_and_passages_are_what_is_computed(
    reader: str, docs: Path, precision: str, dtype: torch.dtype, passages: int, capsys, monkeypatch
) -> None:
    """All the way down: the runner's type, and how many passages were read."""
    closed: list[Answerer] = []
    close = Answerer.close
    monkeypatch.setattr(Answerer, "close", lambda qa: closed.append(qa) or close(qa))
    command = ["ask", QUESTION, "--in", str(docs), "--reader", reader, "--json", "--device", "cpu"]
    assert run([*command, "--precision", precision, "--passages", str(passages)]) == 0
    assert closed[0].runner.reader.embedding.weight.dtype is dtype
    assert len(json.loads(capsys.readouterr().out)["evidence"]) == passages


def test_the_bundled_reader_is_not_shadowed_by_a_folder(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Reader.from_preset("tiny-fid").save_pretrained(tmp_path / "pocket")
    bundled = Reader.from_pretrained("pocket").config
    command = ["ask", QUESTION, "--in", str(docs), "--json", "--reader"]
    scores = []
    for name in ("pocket", "./pocket"):
        assert run([*command, name]) == 0
        out, err = capsys.readouterr()
        scores.append(json.loads(out)["score"])
        assert ("note: pocket is the bundled reader; the folder of that name is ./pocket" in err) == (
            name == "pocket"
        )
    assert scores[0] != scores[1]
    assert (
        Reader.from_pretrained("./pocket").config == Reader.from_pretrained(Path("pocket")).config != bundled
    )


def test_while_another_process_indexes_the_state_before_answers(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ask", "cocoa or tea?", "--in", str(docs), "--reader", reader, "--json"]
    assert run(command) == 0
    capsys.readouterr()
    (docs / "cocoa.txt").write_text("Cocoa comes from the Amazon.")
    with writer_lock(default_location([docs])):
        assert run(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["notes"][0] == BEING_INDEXED
    assert "cocoa.txt" not in json.dumps(record["evidence"])
    assert run(command) == 0
    assert "cocoa.txt" in capsys.readouterr().out


def test_a_first_index_that_another_process_makes_is_waited_for(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = default_location([docs])
    where.mkdir(parents=True)
    say, said = opening._say_waiting, []
    with ExitStack() as other:
        other.enter_context(writer_lock(where))
        monkeypatch.setattr(opening, "_say_waiting", lambda: [say(), said.append(1), other.close()])
        assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader, "--json"]) == 0
    out, err = capsys.readouterr()
    assert said == [1]
    assert len(json.loads(out)["evidence"]) == 2
    assert "note: another process is indexing these documents; waiting" in err


# Many questions


def test_without_a_question_each_line_is_one(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    open_reader = Answerer.open.__func__
    monkeypatch.setattr(
        Answerer, "open", classmethod(lambda *given, **more: opened.append(1) or open_reader(*given, **more))
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n\n  \nand coffee?\n"))
    assert run(["ask", "--in", str(docs), "--reader", reader, "--json"]) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["question"] for record in records] == [QUESTION, "and coffee?"]
    assert all(len(record["evidence"]) for record in records)
    assert len(opened) == 1
    assert err.count("were left out (picture.txt: ") == 1
    assert "question: " not in err  # nobody types


def test_an_input_that_is_closed_is_said(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(["ask", "--in", str(docs), "--reader", reader]) == 2
    assert "error: there is no input to read questions from; give one, such as" in capsys.readouterr().err


def test_a_question_that_fails_is_said_and_the_next_one_answered(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answerer.answer

    def fail_once(self, question, *given, **more):
        if question == "fail":
            raise UsageError("no such thing")
        return answer(self, question, *given, **more)

    monkeypatch.setattr(Answerer, "answer", fail_once)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"fail\n{QUESTION}\n"))
    assert run(["ask", "--in", str(docs), "--reader", reader, "--json"]) == 1
    out, err = capsys.readouterr()
    assert "error: no such thing" in err
    failed, answered = map(json.loads, out.splitlines())
    assert failed == {"question": "fail", "error": "no such thing"}
    assert answered["question"] == QUESTION


def test_a_line_that_is_no_text_is_said_and_not_passed_over(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"\udcff\udcfe\n{QUESTION}\n"))
    assert run(["ask", "--in", str(docs), "--reader", reader, "--json"]) == 1
    out, err = capsys.readouterr()
    assert "error: the question is empty; expected some words" in err
    no_text, answered = map(json.loads, out.splitlines())
    assert no_text["error"].startswith("the question is empty")
    assert answered["question"] == QUESTION
    monkeypatch.setattr(sys, "stdin", io.StringIO("tea of K\udce4se?\n"))
    assert run(["ask", "--in", str(docs), "--reader", reader, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "tea of K\N{REPLACEMENT CHARACTER}se?"


def test_of_questions_that_nobody_types_each_stands_before_its_answer(
    docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\nand\tcoffee?\n"))
    assert run(["ask", "--in", str(docs), "--passages", "2"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{QUESTION}\n")
    assert "\n\nand\\tcoffee?\n" in out
    assert err.count("The bundled reader is small") == 1


def test_at_a_terminal_it_asks_and_an_empty_line_ends(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{QUESTION}\n\nnever asked\n"))
    assert run(["ask", "--in", str(docs), "--reader", reader]) == 0
    out, err = capsys.readouterr()
    assert err.count("question: ") == 2
    assert QUESTION not in out.splitlines()  # it stands there already


def test_how_far_indexing_is_ends_before_the_answer(
    reader: str, docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ask", QUESTION, "--in", str(docs), "--reader", reader]) == 0
    said = capsys.readouterr().err.splitlines()
    (indexed,) = [at for at, line in enumerate(said) if line.startswith("encoding passages")]
    (read,) = [at for at, line in enumerate(said) if "read in" in line]
    assert indexed < read


@pytest.mark.parametrize(("confidence", "said"), [(0.5, "50% sure"), (0.49, "only 49% sure")])
def test_doubt_is_said(confidence: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer("Kenya", -0.1, verbatim=True, confidence=confidence)
    _show_answer(answer, _Printed(), calibrated=True)
    assert capsys.readouterr().out == f"Kenya  ({said})"


def test_an_answer_that_its_document_wraps_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    without = Without("Nadia\r\n  Rahman", -2.0)
    text = "Built by Ingrid\nHalvorsen."
    evidence = Evidence(Passage("1", "The\ntower", text), 1.0, (9, 25), (9, 25), text, without)
    answer = Answer(
        "Ingrid\nHalvorsen", -0.1, (evidence,), {"total": 1.0}, verbatim=True, confidence=0.9
    )  # fmt: skip
    _show_answer(answer, _Printed(), calibrated=True)
    assert capsys.readouterr().out == "Ingrid Halvorsen  (90% sure)"
    streamed = _Printed()
    for piece in ("Ingrid", "Ingrid\n", "Ingrid\nHalv", "Ingrid\nHalvorsen"):
        streamed(piece)
    assert capsys.readouterr().out == "Ingrid Halvorsen"
    _show_evidence(answer)
    out = capsys.readouterr().out
    assert "without it: Nadia Rahman  (score of 'Ingrid Halvorsen'" in out
    assert "»Ingrid Halvorsen«" in out


@pytest.mark.parametrize(
    ("shares", "more", "shown"),
    [
        ((0.5, 0.3, 0.2), {}, "abc"),
        ((0.9, 0.06, 0.04), {}, "a"),
        ((0.09, 0.08, 0.07), {}, "a"),  # of many, the first at least
        ((0.9, 0.06, 0.04), {"place": (0, 1)}, "ac"),
        ((0.9, 0.06, 0.04), {"without": Without("d", -2.0)}, "ac"),
    ],
)
def test_what_was_hardly_looked_at_is_not_shown(shares, more, shown, capsys) -> None:
    passages = [Passage(name, name, f"{name} text") for name in "abc"]
    evidence = [Evidence(passage, share) for passage, share in zip(passages, shares, strict=True)]
    evidence[2] = replace(evidence[2], **more)
    _show_evidence(Answer("a", -0.1, tuple(evidence), {"total": 1.0}, verbatim=True, confidence=0.9))
    out = capsys.readouterr().out
    assert re.findall(r"^ *\d+%  (\w)", out, re.MULTILINE) == list(shown)


@pytest.mark.parametrize(
    ("confidence", "without", "said"),
    [(0.02, None, "»a«"), (0.002, None, "a text"), (0.002, Without("d", -2.0), "»a«")],
)
def test_a_guess_that_is_not_told_is_not_marked(confidence, without, said, capsys) -> None:
    evidence = Evidence(Passage("1", "One", "a text"), 1.0, (0, 1), (0, 1), "a text", without)
    answer = Answer("", -0.1, (evidence,), {"total": 1.0}, guess="a", confidence=confidence, verbatim=True)
    _show_answer(answer, _Printed(), calibrated=True)
    _show_evidence(answer)
    out = capsys.readouterr().out
    assert out.startswith("The documents don't seem to say.")
    assert ("Best guess" in out) == ("»" in out) == ("»" in said)
    assert said in out


def test_the_sentence_shown_is_the_one_with_the_answer_though_it_stands_there_twice() -> None:
    text = "- Pump: 20 bar\n- Tank: 7 bar\n- Pump: 20 bar"
    evidence = Evidence(Passage("1", "", text), 1.0, (37, 43), (37, 43), "- Pump: 20 bar")
    assert _excerpt(evidence) == "- Pump: »20 bar«"
