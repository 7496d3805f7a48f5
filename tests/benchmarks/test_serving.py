"""How a server is measured, on one that runs."""

import argparse
import json
import time

import httpx
import pytest
from serving import clients, command, servers
from serving.clients import Known, Seen

from fidkit.cli.app import run
from fidkit.passages import Corpus
from fidkit.server.limits import Limits
from fidkit.server.schemas import Answer
from served import DOCUMENTS, running

QUESTIONS = ("where is tea grown?", "who built the mill?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("served")
    for name, text in DOCUMENTS.items():
        (made / name).write_text(text)
    return made


def test_every_answer_is_compared(folder):
    with running(folder) as client:
        url = str(client.base_url)
        answers = clients.known(url, dict.fromkeys(QUESTIONS))
        seen = clients.closed(url, answers, 2, 0.5)
        n = len(seen.seconds)
        assert n >= 2
        assert (seen.wrong, seen.statuses) == (0, {"200": n})
        assert seen.took >= 0.5
        assert 0 < min(seen.http) <= 1000 * max(seen.seconds)
        others = {question: Known("another") for question in QUESTIONS}
        seen = clients.closed(url, others, 1, 0.2)
        assert seen.wrong == len(seen.seconds) > 0
        others = {question: Known("another", compared=False) for question in QUESTIONS}
        assert clients.closed(url, others, 1, 0.2).wrong == 0


def test_so_many_tokens_are_asked_for(folder):
    with running(folder) as client:
        [whole] = clients.known(str(client.base_url), {QUESTIONS[1]: None}).values()
        [cut] = clients.known(str(client.base_url), {QUESTIONS[1]: 1}).values()
    assert len(cut.guess) < len(whole.guess)
    assert (whole.max_tokens, cut.max_tokens) == (None, 1)


def test_a_flood_counts_what_is_refused(folder, monkeypatch):
    with running(folder, limits=Limits(waiting=1)) as client:
        url, scheduler = str(client.base_url), client.service.scheduler
        answers, read = clients.known(url, dict.fromkeys(QUESTIONS)), scheduler._read

        def slowly(*asked):  # half of those that come, however fast the machine is
            time.sleep(0.05)
            return read(*asked)

        monkeypatch.setattr(scheduler, "_read", slowly)
        seen = clients.flooded(url, answers, 40, 1)
    assert sum(seen.statuses.values()) == 40
    assert seen.statuses["200"] == len(seen.seconds) > 0
    assert seen.statuses["503"] > 0
    assert (seen.wrong, seen.without_retry) == (0, 0)


def test_rounds_are_summed():
    def seen(n, took):
        return Seen(took, seconds=[0.1] * n, queued=[1.0] * n, http=[2.0] * n)

    rounds = {
        "batched": [(seen(10, 1.0), 1.5), (seen(30, 2.0), 3.0), (seen(8, 1.0), 1.5)],
        "unbatched": [(seen(5, 1.0), 1.0), (seen(30, 2.0), 1.0), (seen(2, 1.0), 1.0)],
        "transformers": [(seen(2, 1.0), 1.0), (seen(2, 2.0), 1.0), (seen(2, 1.0), 1.0)],
    }
    found = command._summed(rounds, "batched")
    assert (found["answered"], found["questions_per_second"], found["rounds"]) == (48, 12.0, 3)
    assert (found["times_unbatched"], found["times_transformers"]) == (2.0, 5.0)
    assert found["cores"] == 1.5


def test_the_fastest_way_of_the_peer_is_taken(tmp_path):
    rows = [
        {"of": "peer", "readers": n, "threads": 3 - n, "dtype": "bfloat16", "questions_per_second": speed}
        for n, speed in ((1, 9.0), (1, 0.5), (2, 0.8), (1, 0.1), (2, 0.1))
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = argparse.Namespace(to=tmp_path / "rows.jsonl")
    assert command._fastest_peer(options) == {"readers": 2, "threads": 1, "dtype": "bfloat16"}
    with pytest.raises(SystemExit, match="run it"):
        command._fastest_peer(argparse.Namespace(to=tmp_path / "none.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "together"), [("batched", True), ("unbatched", False)])
def test_what_is_read_together_is_told_by_its_times(folder, way, together):
    """Questions of one batch have its times; the first ones, which nothing waited with, count for nothing."""
    with servers.fidkit(str(folder), way) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answers = client.post("/v1/answer", json={"question": [*QUESTIONS, *QUESTIONS]}).json()["answers"]
        encoded = [answer["timings_ms"]["encode"] for answer in answers]
        assert server.megabytes() > 10
        assert server.cpu_seconds() > 0
    assert (len(set(encoded)) < len(encoded)) is together


@pytest.mark.slow
def test_the_peer_answers_as_fidkit_does(folder, tmp_path):
    pytest.importorskip("transformers")
    with Corpus.build(folder, tmp_path / "corpus") as corpus:
        found = [hit.passage.id for hit in corpus.search(QUESTIONS[0], 20)]
    assert run(["convert", "pocket", str(tmp_path / "encoder"), "--to", "hf-bert"]) == 0
    with servers.peer(str(tmp_path / "corpus"), tmp_path / "encoder", 1, 1, "float32") as server:
        answers = clients.known(server.url, dict.fromkeys(QUESTIONS, 3))
        seen = clients.closed(server.url, answers, 2, 0.5)
        asked = {"question": QUESTIONS[0], "max_tokens": 3}
        record = httpx.post(f"{server.url}/v1/answer", json=asked, timeout=60).json()
    assert (seen.wrong, seen.statuses) == (0, {"200": len(seen.seconds)})
    assert [one["id"] for one in record["evidence"]] == found != []
    assert set(record["timings_ms"]) == {"search", "queue", "read", "total"}
    assert Answer.model_validate(record)


def test_an_answer_of_the_peer_is_as_long_as_ours():
    asked = command._random_answers({"who?": Known("Wanjiru Kamau"), "what?": Known("")})
    assert asked["who?"].max_tokens > asked["what?"].max_tokens >= 1
    assert not any(answer.compared for answer in asked.values())
