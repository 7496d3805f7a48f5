"""A fleet on Ray Serve: what it is given, how many replicas it wants, and what clients see while it changes.

What one server answers, a fleet is asked as well (`client` in conftest.py).
"""

import time
from types import SimpleNamespace

import anyio
import httpx
import pytest

from fidkit.errors import FidkitError, UsageError
from fidkit.passages import Corpus
from fidkit.server.fleet import Fleet, Replica, application
from fidkit.server.keys import add
from fidkit.server.routes import state
from fidkit.server.scaling import SECONDS_AHEAD, BySecondsAhead
from served import DOCUMENTS

ASKED = {
    "who is the harbour master of Ringsend?": "Aoife Brennan",
    "where is tea grown?": "Kenya",
    "who built the mill at Ardgath?": "Tomas Quill",
}
DATABASE = "postgresql://db.example/team?corpus=contracts"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "corpus: it is missing; add it; a fleet takes corpus, readers"),
        ({"corpus": DATABASE, "colour": "red"}, "unknown key 'colour'.*a fleet takes"),
        ({"corpus": DATABASE, "replicas": 0}, "replicas: expected 1 or more, got 0"),
        ({"corpus": DATABASE, "readers": []}, "readers: expected a length of 1 or more, got an empty list"),
        ({"corpus": DATABASE, "readers": "pocket,pocket"}, "another one called pocket"),
        ({"corpus": DATABASE, "allow_host": "answers.example"}, "fidkit keys add NAME"),
        ({"corpus": DATABASE, "keys": "keys", "allow_host": ["a.example:80"]}, "without a port"),
        ({"corpus": "contracts"}, "fidkit corpus build contracts --to DIR"),
        ({"corpus": "s3://bucket/contracts"}, "holds documents, and no corpus"),
    ],
)
def test_what_can_t_be_served(given, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says) as refused:
        application(given)
    assert "\n" not in str(refused.value)


def wanted(reports, target=2.0, before=3):
    metrics = {SECONDS_AHEAD: reports} if reports is not None else None
    context = SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=before)
    return BySecondsAhead(target)(context)[0]


def test_replicas_by_the_work_that_waits():
    assert wanted({"a": 6.0, "b": 2.0}) == 4
    assert wanted({"a": 6.0, "b": 2.0}, target=8.0) == 1
    assert wanted({"a": 0.0, "b": 0.0}) == 0
    assert wanted({}) == wanted(None) == 3


@pytest.fixture
def replica(folder, tmp_path):
    """One without Ray, that is called answers.example and asks for a key."""
    Corpus.build(folder, tmp_path / "corpus").close()
    add(tmp_path / "keys", "ada")
    corpus, keys = str(tmp_path / "corpus"), str(tmp_path / "keys")
    return Replica(Fleet(corpus=corpus, keys=keys, allow_host="Answers.example").check())


def test_a_replica_says_how_it_is(replica, monkeypatch):
    assert replica.record_autoscaling_stats() == {SECONDS_AHEAD: 0.0}
    replica.check_health()
    monkeypatch.setattr(state, "STUCK_SECONDS", -1.0)
    with pytest.raises(FidkitError, match="one batch has been read"):
        replica.check_health()


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/healthz", "answers.example", 200),
        ("/v1/readers", "answers.example", 401),
        ("/healthz", "elsewhere.example", 421),
    ],
)
def test_a_replica_is_guarded_as_a_server(replica, path, host, status):
    async def asked():
        transport = httpx.ASGITransport(replica.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return (await client.get(path)).status_code

    assert anyio.run(asked) == status


def known():
    from serving.clients import Known

    return {question: Known(answer) for question, answer in ASKED.items()}


def all_answered(clients):
    """Everybody got an answer, and nobody got another's."""
    return (clients.seen.wrong, dict(clients.seen.statuses)) == (0, {"200": len(clients.seen.seconds)})


@pytest.fixture
def restored(fleet):
    """The fleet, which serves what it did before when the test has ended."""
    import fleet as fleets

    yield fleet
    fleets.deploy(fleet.given)


@pytest.mark.fleet
def test_reader_and_corpus_are_replaced_and_no_question_fails(restored):
    import fleet as fleets

    readers = [*restored.given.readers, "second=pocket-fido"]
    with fleets.Clients(restored.url, known()) as clients:
        fleets.deploy(restored.given.model_copy(update={"readers": readers, "corpus": restored.next_corpus}))
        asked = len(clients.seen.seconds)
    assert all_answered(clients)
    assert asked > 20
    assert [r["name"] for r in restored.get("/v1/readers").json()["readers"]] == ["pocket", "second"]


@pytest.mark.fleet
def test_what_changes_in_the_database_is_answered_by_all(fleet, folder, tmp_path):
    (tmp_path / "light.txt").write_text("The lighthouse of Skellan is kept by Nora Fahy.")
    question = {"question": "who keeps the lighthouse of Skellan?", "passages": 3}
    Corpus.build([folder, tmp_path / "light.txt"], fleet.given.corpus).close()
    deadline, right = time.monotonic() + 30, 0
    while right < 20:  # in a row: so many, that both replicas are among them
        found = fleet.post("/v1/answer", json=question).json()["guess"]
        right = right + 1 if found == "Nora Fahy" else 0
        assert time.monotonic() < deadline
    Corpus.build(folder, fleet.given.corpus).close()
    while fleet.get("/v1/corpora").json()[0]["passages"] != len(DOCUMENTS):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2.5)  # until the other one has looked as well


@pytest.mark.fleet
def test_a_replica_that_is_killed(fleet):
    import fleet as fleets

    with fleets.Clients(fleet.url, known()) as clients:
        fleets.until(lambda: len(clients.seen.seconds) > 20)
        fleets.kill()
        fleets.until(lambda: fleets.running() < fleets.REPLICAS)
        fleets.until(lambda: fleets.running() == fleets.REPLICAS)
        answered = len(clients.seen.seconds)
        fleets.until(lambda: len(clients.seen.seconds) > answered + 20)
    assert clients.seen.wrong == 0
    assert set(clients.seen.statuses) <= {"200", "500", "503"}
    # What the four had asked that replica, and all of it is answered when it is asked again.
    assert clients.answered_then == clients.failed <= 4


@pytest.mark.fleet
def test_more_replicas_come_when_work_waits(restored):
    import fleet as fleets
    from ray import serve

    serve.delete("default")  # else there are as many as before, for some minutes
    fleets.deploy(
        restored.given.model_copy(update={"replicas": 1, "max_replicas": 2, "target_seconds": 0.01})
    )
    assert fleets.running() == 1
    with fleets.Clients(restored.url, known(), 8) as clients:
        fleets.until(lambda: fleets.running() == 2)
    assert all_answered(clients)
