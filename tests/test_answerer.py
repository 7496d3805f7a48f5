"""Answers: the same alone and in company, with evidence that is what the decoder looked at."""

import gc
import itertools
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fidkit import Corpus, Passage
from fidkit.answerer import GUESS, Answerer
from fidkit.context import IGNORED, collate
from fidkit.engine.answering import HALF_CHARACTERS, answer_batch
from fidkit.engine.evidence import look_back
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated, generate, greedy
from fidkit.engine.runner import Runner
from fidkit.errors import CheckpointError, UsageError
from fidkit.nn.attention import CrossAttention
from fidkit.passages.protocol import NOTHING_FOUND
from fidkit.precompute import Options, build
from fidkit.reader import Reader
from fidkit.tokens import Tokenizer
from fidkit.types import Answer, Hit
from forked import forked

SYSTEMS = ["tiny-fid", "tiny-fid-light", "tiny-fid-lsa", "tiny-fido", "tiny-memoryfid", "tiny-lumen"]
SYSTEMS += ["tiny-lumen-deep"]
PASSAGES = [
    Passage("tea", "Tea", "Tea comes from China. It was first a medicine."),
    Passage("nile", "Nile", "The Nile flows north."),
    Passage("fram", "Fram", "Fram was the ship that carried Nansen and later Amundsen to the ice, and back."),
]
QUESTIONS = ["where does tea come from?", "who?", "which ship carried both of the explorers?"]
READ = [PASSAGES, PASSAGES[1:2], PASSAGES[::-1][:2]]
STAGES = ["tokenize", "encode", "decode", "evidence", "total"]


@pytest.fixture(scope="module", params=SYSTEMS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return sharpened(request.param)


@pytest.fixture(scope="module")
def fid() -> Reader:
    return sharpened("tiny-fid")


def sharpened(name: str) -> Reader:
    """A random reader whose cross-attention is not almost even."""
    reader = Reader.from_preset(name)
    with torch.no_grad():
        for module in reader.modules():
            if isinstance(module, CrossAttention):
                module.query.weight.mul_(8)
    return reader


def asking(reader: Reader) -> Answerer:
    """With the weights as they are."""
    return Answerer(reader, precision="as-is")


def shares(answer: Answer) -> dict[str, float]:
    return {evidence.passage.id: evidence.score for evidence in answer.evidence}


def naive_shares(reader: Reader, question: str, passages: list[Passage], tokens: int) -> list[float]:
    """Attention mass of the answer's tokens by passage, from what goes into each cross-attention."""
    tokenizer = reader.tokenizer
    batch = collate([tokenizer.question(question).ids], [tokenizer.passages(passages)])
    mass = torch.zeros(len(passages))

    def watch(module: CrossAttention, inputs: tuple, _output: torch.Tensor) -> None:
        x, (keys, _), _, _ = inputs
        query = module.query(x)[0].view(len(x[0]), module.heads, -1)
        for head in range(module.heads):
            key = keys[0, head * module.kv_heads // module.heads]
            for step in range(len(query)):
                attended = (key @ query[step, head]).softmax(0)
                for number in range(len(passages)):
                    mass[number] += attended[context.passage_BM[0] == number].sum()

    with torch.no_grad():
        context = reader.read(batch)
        ids = greedy(reader, context, tokens).ids_BT
        layers = [module for module in reader.modules() if isinstance(module, CrossAttention)]
        assert len(layers) == sum(reader.config.cross_layers)
        hooks = [layer.register_forward_hook(watch) for layer in layers]
        reader.decode(ids, context)
        for hook in hooks:
            hook.remove()
    return (mass / mass.sum()).tolist()


def test_evidence_is_the_attention_of_the_layers_that_read(reader: Reader) -> None:
    for question, passages in zip(QUESTIONS, READ, strict=True):
        answer = asking(reader).read(question, passages, 5)
        expected = naive_shares(reader, question, passages, 5)
        given = shares(answer)
        assert [given[p.id] for p in passages] == pytest.approx(expected, abs=1e-5)
        assert sum(given.values()) == pytest.approx(1, abs=1e-5)
        ranked = [evidence.score for evidence in answer.evidence]
        assert ranked == sorted(ranked, reverse=True)


def test_evidence_of_a_reader_that_reranks_is_what_it_ranked_by() -> None:
    """Also of passages that it left behind."""
    glimmer = sharpened("tiny-glimmer")
    with torch.no_grad():
        glimmer.reranker.weight.normal_(std=0.5)
    assert glimmer.config.rerank.keep == 2
    tokenizer = glimmer.tokenizer
    together = asking(glimmer).read(QUESTIONS, READ, 5)
    for question, passages, answer in zip(QUESTIONS, READ, together, strict=True):
        batch = collate([tokenizer.question(question).ids], [tokenizer.passages(passages)])
        with torch.no_grad():
            context = glimmer.read(batch)
        expected = context.scores_BN[0].softmax(-1).tolist()
        given = shares(answer)
        assert [given[p.id] for p in passages] == pytest.approx(expected, abs=1e-5)
        assert len(context.passage_BM[0].unique()) == min(2, len(passages))
    assert min(shares(together[0]).values()) > 0
    # Nothing to read: nothing to rank.
    assert asking(glimmer).read(QUESTIONS[0], [], 3).evidence == ()


@torch.no_grad()
def test_a_reader_that_reranks_says_where_it_looked_in_what_it_kept() -> None:
    glimmer = sharpened("tiny-glimmer")
    glimmer.reranker.weight.normal_(std=0.5)
    tokenizer = glimmer.tokenizer
    ids = torch.tensor([[5, 6, tokenizer.config.end_token]])
    for question, passages in zip(QUESTIONS, READ, strict=True):
        context = glimmer.read(collate([tokenizer.question(question).ids], [tokenizer.passages(passages)]))
        generated = Generated(ids, torch.zeros(1, 3))
        first_M = glimmer.look(ids, context).first_BM[0]
        looked = look_back(glimmer, context, generated, len(passages)).tokens[0]
        for number, token in enumerate(looked):
            own_M = (context.passage_BM[0] == number) & (context.token_BM[0] >= 0)
            if not own_M.any():
                assert token is None
                continue
            assert first_M[own_M][context.token_BM[0][own_M] == token] == first_M[own_M].max()
        assert sum(token is not None for token in looked) == min(2, len(passages))


def test_a_batch_answers_as_one_by_one(reader: Reader) -> None:
    together = asking(reader).read(QUESTIONS, READ, 5)
    for question, passages, answer in zip(QUESTIONS, READ, together, strict=True):
        alone = asking(reader).read(question, passages, 5)
        assert alone.text == answer.text
        assert alone.score == pytest.approx(answer.score, abs=1e-4)
        assert shares(alone) == pytest.approx(shares(answer), abs=1e-4)


@torch.no_grad()
def test_evidence_of_a_short_answer_ends_where_the_answer_ends(fid: Reader) -> None:
    def of(questions: list[str], ids: list[list[int]]) -> torch.Tensor:
        tokenizer = fid.tokenizer
        batch = collate(
            [tokenizer.question(q).ids for q in questions], [tokenizer.passages(PASSAGES)] * len(ids)
        )
        generated = Generated(torch.tensor(ids), torch.zeros(len(ids), len(ids[0])))
        return torch.tensor(look_back(fid, fid.read(batch), generated, 3).shares)

    short, long = [300, 1], [400, 500, 600, 700, 1]
    padded = [*short, *[IGNORED] * 3]
    together = of(QUESTIONS[:2], [padded, long])
    alone = [of(QUESTIONS[:1], [short]), of(QUESTIONS[1:2], [long])]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    assert not torch.allclose(together[0], of(QUESTIONS[:1], [long])[0], atol=1e-4)


def test_the_order_of_passages_changes_nothing(reader: Reader) -> None:
    answers = [asking(reader).read(QUESTIONS[0], order, 5) for order in (PASSAGES, PASSAGES[::-1])]
    assert answers[0].text == answers[1].text
    assert answers[0].score == pytest.approx(answers[1].score, abs=1e-4)
    assert shares(answers[0]) == pytest.approx(shares(answers[1]), abs=1e-4)


def test_equal_passages_are_read_once(fid: Reader) -> None:
    again = replace(PASSAGES[0], id="other", source="elsewhere.md")
    twice = asking(fid).read(QUESTIONS[0], [PASSAGES[0], PASSAGES[1], again], 3)
    once = asking(fid).read(QUESTIONS[0], PASSAGES[:2], 3)
    assert same(twice, once)
    assert {e.passage.id for e in twice.evidence} == {"tea", "nile"}


def test_the_score_is_the_mean_log_probability_under_teacher_forcing(reader: Reader) -> None:
    tokenizer = reader.tokenizer
    for question, passages in zip(QUESTIONS, READ, strict=True):
        answer = asking(reader).read(question, passages, 6)
        asked, read = [tokenizer.question(question).ids], [tokenizer.passages(passages)]
        ids = greedy(reader, reader.read(collate(asked, read)), 6).ids_BT[0].tolist()
        with torch.no_grad():
            output = reader(collate(asked, read, [ids]))
        assert answer.text == tokenizer.decode(ids)
        assert answer.score == pytest.approx(-float(output.loss), abs=1e-4)


# Questions and passages at the edge


@pytest.mark.parametrize("question", ["", " \n\t", "\N{ZERO WIDTH SPACE}\x07\N{NO-BREAK SPACE}"])
def test_an_empty_question_is_refused(fid: Reader, question: str) -> None:
    for ask in (
        lambda: asking(fid).read(question, PASSAGES),
        lambda: asking(fid).read(["who?", question], [PASSAGES, PASSAGES]),
    ):
        with pytest.raises(UsageError, match="the question is empty"):
            ask()


def test_a_long_question_is_cut_and_said(fid: Reader) -> None:
    long = "who " * 200
    noted, silent = asking(fid).read([long, "who?"], [PASSAGES, PASSAGES], 3)
    tokens = len(Tokenizer(fid.tokenizer.backend, fid.config.replace(question_tokens=999)).question(long).ids)
    limit = fid.config.question_tokens
    [note] = noted.notes
    assert [int(number) for number in re.findall(r"\d+", note)] == [tokens, limit, tokens - limit]
    assert "cut" in note
    assert silent.notes == ()
    cut = fid.tokenizer.decode(fid.tokenizer.question(long).ids).removeprefix("question:")
    assert asking(fid).read(cut, PASSAGES, 3).text == noted.text


def test_without_passages_there_is_an_answer_and_no_evidence(reader: Reader) -> None:
    alone = asking(reader).read("who?", [], 3)
    assert alone.evidence == ()
    assert alone.score < 0
    beside, other = asking(reader).read(["who?", "who?"], [[], PASSAGES], 3)
    assert (beside.text, beside.evidence) == (alone.text, ())
    assert len(other.evidence) == 3


def test_lists_belong_together(fid: Reader) -> None:
    assert asking(fid).read([], []) == []
    with pytest.raises(UsageError, match="2 questions but 1 list of passages;"):
        asking(fid).read(["who?", "what?"], [PASSAGES])
    with pytest.raises(UsageError, match="1 question but 0 lists of passages;"):
        asking(fid).read(["who?"], [])
    with pytest.raises(UsageError, match="max_tokens is 0; expected 1 or more"):
        asking(fid).read("who?", PASSAGES, 0)
    with pytest.raises(UsageError, match=r"decoding is \{'beams': 2\} \(dict\); expected Decoding\("):
        asking(fid).read("who?", PASSAGES, decoding={"beams": 2})


def test_a_reader_without_a_tokenizer_says_so(fid: Reader) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        asking(Reader(fid.config)).read("who?", PASSAGES)


def test_timings_are_of_each_stage(fid: Reader) -> None:
    answer = asking(fid).read("who?", PASSAGES, 3)
    assert list(answer.timings_ms) == STAGES
    assert all(ms > 0 for ms in answer.timings_ms.values())
    assert answer.timings_ms["total"] == pytest.approx(sum(answer.timings_ms[s] for s in STAGES[:-1]))


# With a corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "docs"
    folder.mkdir()
    for passage in PASSAGES:
        (folder / f"{passage.id}.txt").write_text(passage.text)
    return Corpus.build(folder, tmp_path / "corpus")


def test_an_answerer_reads_what_the_corpus_finds(corpus: Corpus, fid: Reader) -> None:
    question = "which ship carried Nansen up the Nile?"
    answer = Answerer(fid, corpus, precision="as-is").answer(question, 5, 4)
    found = [hit.passage for hit in corpus.search(question, 5)]
    assert {evidence.passage for evidence in answer.evidence} == set(found)
    assert len(found) == 2
    same = asking(fid).read(question, found, 4)
    assert (answer.text, answer.score, answer.evidence) == (same.text, same.score, same.evidence)
    assert list(answer.timings_ms) == ["search", *STAGES]
    assert answer.timings_ms["total"] > answer.timings_ms["search"] > 0
    assert len(Answerer(fid, corpus, precision="as-is").answer(question, 1, 4).evidence) == 1


def test_cached_tokens_give_the_same_answer(
    corpus: Corpus, fid: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Answerer(fid, corpus, precision="as-is").answer("where does tea come from?", max_new_tokens=4)
    tokenized: list[Passage] = []
    tokenize = Tokenizer.passages
    monkeypatch.setattr(
        Tokenizer, "passages", lambda self, some: [*map(tokenized.append, some)] and tokenize(self, some)
    )
    again = Answerer(fid, corpus, precision="as-is").answer("where does tea come from?", max_new_tokens=4)
    assert (again.text, again.score, again.evidence) == (first.text, first.score, first.evidence)
    assert all(passage.text == "" for passage in tokenized)  # nothing but the empty passage


def test_nothing_found_is_said(corpus: Corpus, fid: Reader) -> None:
    answer = Answerer(fid, corpus, precision="as-is").answer("xyzzy?", max_new_tokens=3)
    assert (answer.evidence, answer.notes) == ((), (f"{NOTHING_FOUND}; {GUESS}",))


def test_an_answerer_refuses_what_makes_no_sense(corpus: Corpus, fid: Reader) -> None:
    answerer = Answerer(fid, corpus, precision="as-is")
    with pytest.raises(UsageError, match="k is 0; expected 1 or more"):
        answerer.answer("who?", 0)
    with pytest.raises(UsageError, match="the question is empty"):
        answerer.answer(" ")


def test_a_stream_sees_the_text_grow_into_the_answer(corpus: Corpus, fid: Reader) -> None:
    seen: list[str] = []
    answer = Answerer(fid, corpus, precision="as-is").answer(
        "where does tea come from?", max_new_tokens=6, stream=seen.append
    )
    assert len(seen) > 1
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
    assert seen[-1] == answer.text


def writes(text: str) -> Reader:
    """A reader that writes this text, whatever it is asked: each token alone decides which comes next."""
    reader = Reader.from_preset("tiny-fid")
    reader = Reader(reader.config.replace(tied_head=False), reader.tokenizer).eval()
    tokens = reader.tokenizer.target(text)
    before = [reader.config.pad_token, *tokens[:-1]]
    assert len(set(before)) == len(before), "a token that comes twice has two that follow it"
    with torch.no_grad():
        for name, p in reader.decoder.named_parameters():
            if name.endswith("out.weight"):  # layers that add nothing
                p.zero_()
        reader.head.linear.weight.zero_()
        reader.head.linear.weight[tokens] = torch.nn.functional.normalize(
            reader.decoder.embedding.weight[before], dim=1
        )
    return reader


def test_a_stream_waits_for_the_bytes_of_a_character() -> None:
    seen: list[str] = []
    runner = Runner(writes("Tea 🙂 cup"))
    decoding = Decoding(max_tokens=16)
    [answer] = answer_batch(runner, QUESTIONS[:1], READ[:1], decoding, streams=[seen.append])
    assert answer.text == "Tea 🙂 cup"
    assert seen == ["Te", "Tea", "Tea 🙂", "Tea 🙂 cup"]


def test_one_and_many_agree(fid: Reader) -> None:
    [listed] = asking(fid).read(QUESTIONS[:1], READ[:1], 4)
    [batched] = answer_batch(Runner(fid), QUESTIONS[:1], READ[:1], Decoding(max_tokens=4))
    one = asking(fid).read(QUESTIONS[0], READ[0], 4)
    for answer in (listed, batched):
        assert (answer.text, answer.score, answer.evidence) == (one.text, one.score, one.evidence)


# Ways of writing


def test_decoding_is_passed_on(fid: Reader) -> None:
    tokenizer, decoding = fid.tokenizer, Decoding(max_tokens=5, beams=4, n_best=3, length_penalty=0.5)
    answers = asking(fid).read(QUESTIONS, READ, decoding=decoding)
    for question, passages, answer in zip(QUESTIONS, READ, answers, strict=True):
        batch = collate([tokenizer.question(question).ids], [tokenizer.passages(passages)])
        with torch.no_grad():
            generated = generate(fid, fid.read(batch), decoding)
        texts = [tokenizer.decode([i for i in row if i != IGNORED]) for row in generated.ids_BT.tolist()]
        scores = generated.scores.tolist()
        assert [answer.text, *(a.text for a in answer.alternatives)] == texts
        assert [answer.score, *(a.score for a in answer.alternatives)] == pytest.approx(scores, abs=1e-4)
    assert asking(fid).read(QUESTIONS[0], READ[0], 5).alternatives == ()


def test_an_answer_that_is_cut_says_so(fid: Reader) -> None:
    one, other = asking(fid).read(QUESTIONS[:2], READ[:2], 5)
    assert one.cut
    assert other.cut
    first = one.text[:1]
    ended = asking(fid).read(QUESTIONS[0], READ[0], decoding=Decoding(max_tokens=5, stop=(first,)))
    assert not ended.cut


def test_evidence_is_that_of_the_best_answer(fid: Reader) -> None:
    alone, many = (
        asking(fid).read(QUESTIONS, READ, decoding=Decoding(max_tokens=5, beams=4, n_best=n)) for n in (1, 4)
    )
    for one, best in zip(alone, many, strict=True):
        assert (one.text, one.score, shares(one)) == (best.text, best.score, shares(best))


def test_a_stop_text_ends_an_answer(fid: Reader) -> None:
    long = asking(fid).read(QUESTIONS[0], READ[0], 8)
    middle = long.text[len(long.text) // 2 :][:2]
    short = asking(fid).read(QUESTIONS[0], READ[0], decoding=Decoding(max_tokens=8, stop=(middle,)))
    assert middle in short.text
    assert long.text.startswith(short.text)
    assert len(short.text) < len(long.text)


@pytest.mark.parametrize("decoding", [Decoding(max_tokens=5, beams=3), Decoding(max_tokens=5, temperature=1)])
def test_a_stream_ends_with_the_answer(corpus: Corpus, fid: Reader, decoding: Decoding) -> None:
    seen: list[str] = []
    answer = Answerer(fid, corpus, precision="as-is").answer(
        "where is the tea?", stream=seen.append, decoding=decoding
    )
    assert seen[-1] == answer.text


# Life of an answerer


def same(one: Answer, other: Answer) -> bool:
    return replace(one, timings_ms={}) == replace(other, timings_ms={})


def many_questions(n: int) -> list[str]:
    words = ["tea", "China", "Nile", "north", "Fram", "ship", "Nansen", "ice", "medicine", "Amundsen"]
    return [f"which {words[i % 10]} of {words[(i // 10 + 3) % 10]} number {i}?" for i in range(n)]


@pytest.mark.parametrize(
    ("preset", "asked"),
    [
        ("tiny-lumen", 24),
        pytest.param("tiny-lumen", 200, marks=pytest.mark.slow),
        pytest.param("tiny-fid", 200, marks=pytest.mark.slow),
    ],
)
def test_eight_threads_get_the_answers_of_one(corpus: Corpus, preset: str, asked: int) -> None:
    questions = many_questions(asked)
    with Answerer(sharpened(preset), corpus) as qa:
        alone = [qa.answer(question, 2, 3) for question in questions]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda question: qa.answer(question, 2, 3), questions))
    assert all(map(same, together, alone))
    assert len({answer.text for answer in alone}) > 1  # or equal answers would show nothing


def test_threads_read_one_after_the_other_and_search_at_once(corpus: Corpus, fid: Reader) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def stream(_text: str) -> None:
        writing.set()
        go_on.wait(30)

    with Answerer(fid, corpus) as qa, ThreadPoolExecutor(2) as pool:
        first = pool.submit(qa.answer, "where does tea come from?", 2, 4, stream)
        assert writing.wait(30)
        second = pool.submit(qa.read, "who?", PASSAGES, 2)
        assert not wait([second], timeout=1).done  # the caches of the first answer are in use
        assert corpus.search("tea", 1)
        go_on.set()
        assert first.result(30).text
        assert second.result(30).evidence


def open_and_ask(docs: Path, reader: Path) -> None:
    with Answerer.open(docs, reader) as qa:
        qa.answer("where does tea come from?", 2, 2)


def held() -> tuple[int, int]:
    """Threads and files of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def test_open_ask_and_close_leaves_no_threads_and_no_files(corpus: Corpus, tmp_path: Path) -> None:
    Reader.from_preset("tiny-lumen").save_pretrained(tmp_path / "reader")
    build(corpus, str(tmp_path / "reader"), Options(codec="float32", precision="float32"))
    open_and_ask(tmp_path / "corpus", tmp_path / "reader")  # what is loaded once
    threads, files = held()
    for _ in range(12):
        open_and_ask(tmp_path / "corpus", tmp_path / "reader")
    assert held()[1] == files
    # Those of the index end some time after it was closed.
    deadline = time.monotonic() + 30
    while held()[0] > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held()[0] < threads + 8  # of twelve rounds


@pytest.mark.slow
def test_fifty_rounds_take_no_more_than_twenty(tmp_path: Path) -> None:
    (tmp_path / "tea.txt").write_text(PASSAGES[0].text)
    pages: list[int] = []
    for _ in range(50):
        open_and_ask(tmp_path / "tea.txt", Path("pocket"))
        gc.collect()
        pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
    grown = (max(pages[-10:]) - max(pages[10:20])) * os.sysconf("SC_PAGE_SIZE")
    assert grown < 19_000_000  # half a reader, which has 38 MB: one round that leaks has more


def test_closing_lets_go_of_what_was_opened_and_of_nothing_else(corpus: Corpus, fid: Reader) -> None:
    with Answerer(fid, corpus) as qa:
        pass
    assert corpus.search("tea", 1)  # the caller's own
    for use in (lambda: qa.answer("who?"), lambda: qa.read("who?", PASSAGES)):
        with pytest.raises(UsageError, match="this answerer is closed; open another one"):
            use()
    qa.close()
    with Answerer.open(corpus.path, fid) as qa:
        opened = qa.corpus
        assert opened is not None
        assert opened.search("tea", 1)
    with pytest.raises(UsageError, match="this corpus is closed"):
        opened.search("tea", 1)


def test_closing_waits_for_answers_under_way(corpus: Corpus, fid: Reader) -> None:
    qa = Answerer(fid, corpus)
    writing, go_on = threading.Event(), threading.Event()

    def stream(_text: str) -> None:
        writing.set()
        go_on.wait(30)

    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(qa.answer, "where does tea come from?", 2, 4, stream)
        assert writing.wait(30)
        closed = pool.submit(qa.close)
        assert not closed.done()
        go_on.set()
        assert answer.result(30).text
        closed.result(30)


def test_a_process_that_was_forked_while_an_answer_was_written_is_told_so(fid: Reader) -> None:
    """It would wait for a thread that it doesn't have. A fork between answers does no harm."""
    qa, quiet = Answerer(fid), Answerer(fid)

    def ask() -> None:
        with pytest.raises(UsageError, match="this process was forked while the answerer was answering"):
            qa.read("who?", PASSAGES)
        qa.close()
        quiet.close()

    codes: list[int] = []

    def stream(_text: str) -> None:
        codes.append(forked(ask))

    qa.read("where does tea come from?", PASSAGES, 1, stream)
    assert codes == [0]
    assert qa.read("where does tea come from?", PASSAGES, 1).text


def test_a_stream_that_asks_again_is_told_so_instead_of_waiting_for_ever(corpus: Corpus, fid: Reader) -> None:
    with Answerer(fid, corpus) as qa:
        for nested in (lambda _: qa.read("who?", PASSAGES), lambda _: qa.close()):
            with pytest.raises(UsageError, match="from within a stream"):
                qa.answer("where does tea come from?", 2, 4, nested)
        assert qa.answer("where does tea come from?", 2, 4).text


def test_documents_are_a_folder_files_or_a_corpus(corpus: Corpus, fid: Reader, tmp_path: Path) -> None:
    docs, told = tmp_path / "docs", []
    for given in (docs, str(docs), [docs / "tea.txt", docs / "nile.txt"], corpus.path):
        with Answerer.open(given, fid, progress=told.append) as qa:
            assert qa.answer("where does tea come from?", 1).evidence[0].passage.text == PASSAGES[0].text
    assert told
    with Answerer.open(reader=fid) as qa:
        assert ".md:" in qa.answer("what is a codec?", 1).evidence[0].passage.source


def test_a_list_of_questions_is_answered_in_its_order(corpus: Corpus, fid: Reader) -> None:
    questions = many_questions(50)
    with Answerer(fid, corpus) as qa:
        answers = qa.answer(questions, 2, 4)
        assert [shares(a).keys() for a in answers] == [shares(qa.answer(q, 2, 4)).keys() for q in questions]
        assert qa.answer([]) == qa.read([], []) == []
        assert all("search" in answer.timings_ms for answer in answers)


def test_a_reader_that_is_given_is_left_as_it_is(fid: Reader) -> None:
    weight = fid.embedding.weight
    Answerer(fid, precision="bfloat16").read("who?", PASSAGES, 2)
    assert fid.embedding.weight is weight
    assert weight.dtype is torch.float32


# What people get wrong

BAD = [
    (("who?", "Tea comes from China."), r"the passages are 'Tea comes.*expected a list such as \[Passage"),
    (("who?", PASSAGES[0]), r"the passages are Passage\(.*expected a list"),
    (("who?", None), "the passages are None; expected a list"),
    (("who?", ["Tea comes from China."]), r"passage 1 is 'Tea comes.*\(str\); expected Passage\("),
    (("who?", [PASSAGES[0], None]), r"passage 2 is None; expected Passage\("),
    (("who?", [Hit(PASSAGES[0], 1.0)]), "passage 1 is a Hit; expected a Passage: give hit.passage"),
    (("who?", [Passage("1", "Title", None)]), "passage 1 has a title or text that is no str"),
    ((None, PASSAGES), "the question is None; expected a text"),
    ((3, PASSAGES), r"the question is 3 \(int\); expected a text"),
    ((["who?", None], [PASSAGES, PASSAGES]), "the question is None; expected a text"),
    ((["who?"], "Tea"), "expected a list of passages for each"),
    ((["who?"], PASSAGES[:1]), "the passages are Passage.*expected a list"),
]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_what_is_no_question_and_no_passage_is_named(fid: Reader, given: tuple, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        asking(fid).read(*given)
    assert "\n" not in str(error.value)


def test_half_characters_are_read_as_replaced_and_said(corpus: Corpus, fid: Reader) -> None:
    broken, whole = "where does \ud83d tea come from?", "where does \N{REPLACEMENT CHARACTER} tea come from?"
    with Answerer(fid, corpus) as qa:
        found, expected = qa.answer(broken, 2, 4), qa.answer(whole, 2, 4)
        assert found.notes == (HALF_CHARACTERS,)
        assert same(replace(found, notes=()), expected)
        passages = [[Passage("1", "T\udc80", f"a {c} b")] for c in ("\ud83d", "\N{REPLACEMENT CHARACTER}")]
        texts = [qa.read("who?", some, 4).text for some in passages]
        assert texts[0] == texts[1]


def test_wrong_ways_to_open_say_what_is_right(corpus: Corpus, fid: Reader) -> None:
    for make, said in (
        (lambda: Answerer.open("https://example.org/docs", fid), "no engine is known for this"),
        (lambda: Answerer.open([], fid), "no documents given"),
        (lambda: Answerer.open(3, fid), "the documents are 3; expected a folder"),
        (lambda: Answerer.open(corpus, fid), r"use Answerer\(reader, corpus\)"),
        (lambda: Answerer(fid, "docs"), r"expected an open Corpus, or Answerer.open\('docs'"),
        (lambda: Answerer(corpus, fid), "expected an open Corpus"),
        (lambda: Answerer(None), "the reader is None; expected a Reader"),
        (lambda: Answerer.open("no/such", fid, device="gpu"), "the device is 'gpu'; expected auto, cpu"),
        (lambda: Answerer.open("no/such", fid, precision="bf16"), "the precision is 'bf16'; expected one of"),
        (lambda: Answerer(fid).answer("who?"), "no documents to search"),
        (lambda: Answerer(fid, corpus).answer("who?", True), r"k is True \(bool\); expected 1 or more"),
        (lambda: Answerer(fid, corpus).answer("who?", 2, 3, decoding=Decoding()), "exclude each other"),
        (lambda: Answerer(fid, corpus).answer(["who?"], stream=print), "one question at a time"),
    ):
        with pytest.raises(UsageError, match=said):
            make()


@pytest.mark.parametrize(
    ("question", "text"), [("who drinks it?", "茶来自中国。"), ("咖啡在哪里？", "Tea comes from China.")]
)
def test_a_search_that_finds_nothing_says_so(fid: Reader, tmp_path: Path, question: str, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    by_words = Corpus.build(tmp_path / "a.txt", tmp_path / "a.corpus")  # by meaning something is always found
    with by_words, Answerer(fid, by_words) as qa:
        assert qa.answer(question, 2, 2).notes == (f"{NOTHING_FOUND}; {GUESS}",)


def test_a_question_without_spaces_finds_its_passage(fid: Reader, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("茶来自中国。")
    (tmp_path / "b.txt").write_text("咖啡来自埃塞俄比亚。")
    with Answerer.open(tmp_path, fid) as qa:
        answer = qa.answer("咖啡来自哪里？", 1, 2)
    assert [evidence.passage.id for evidence in answer.evidence] == ["b.txt#1"]
    assert answer.notes == ()
