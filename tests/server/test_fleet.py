"""A fleet on Ray Serve: what it is given, how many replicas it wants, and what clients see while it changes.

What one server answers, a fleet is asked as well (`client` in conftest.py).
"""

import time
from types import SimpleNamespace

import pytest

from fidkit.errors import UsageError
from fidkit.passages import Corpus
from fidkit.server.fleet import Fleet, application
from fidkit.server.scaling import SECONDS_AHEAD, BySecondsAhead
from served import DOCUMENTS, running

ASKED = {
    "who is the harbour master of Ringsend?": "Aoife Brennan",
    "where is tea grown?": "Kenya",
    "who built the mill at Ardgath?": "Tomas Quill",
}
DATABASE = "postgresql://db.example/team?corpus=contracts"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "corpus: Field required; a fleet takes corpus, readers"),
        ({"corpus": DATABASE, "colour": "red"}, "colour: Extra inputs"),
        ({"corpus": DATABASE, "replicas": 0}, "replicas: Input should be greater"),
        ({"corpus": DATABASE, "readers": []}, "readers: List should have at least 1"),
        ({"corpus": DATABASE, "readers": "pocket,pocket"}, "another one called pocket"),
        ({"corpus": DATABASE, "allow_host": "answers.example"}, "fidkit keys add NAME"),
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


def test_a_server_says_how_much_waits(folder):
    with running(folder) as client:
        scheduler = client.service.scheduler
        assert scheduler.seconds_ahead == 0
        client.post("/v1/answer", json={"question": "where is tea grown?"})
        scheduler._seconds_a_character = 1.0
        scheduler._reading = [SimpleNamespace(size=5)]
        scheduler._begun = time.monotonic() - 2
        assert 2.5 < scheduler.seconds_ahead < 3.1
        assert "fidkit_seconds_ahead 2." in client.get("/metrics").text
        scheduler._reading = []


def same(clients):
    """Nobody got another's answer, and all got one."""
    return (clients.seen.wrong, clients.failed, dict(clients.seen.statuses)) == (
        0, 0, {"200": len(clients.seen.seconds)},
    )  # fmt: skip


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
    with fleets.Clients(restored.url, ASKED) as clients:
        fleets.deploy(restored.given.model_copy(update={"readers": readers, "corpus": restored.next_corpus}))
        asked = len(clients.seen.seconds)
    assert same(clients)
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

    with fleets.Clients(fleet.url, ASKED, again=True) as clients:
        time.sleep(1)
        fleets.kill()
        deadline, gone = time.monotonic() + 60, False
        while not gone or fleets.running() < fleets.REPLICAS:
            gone = gone or fleets.running() < fleets.REPLICAS
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
    assert clients.seen.wrong == 0
    assert set(clients.seen.statuses) <= {"200", "500", "503"}
    # At most what each client had asked that replica, once, and all of that is answered when asked again.
    assert clients.failed <= 4
    assert clients.again == [clients.failed, clients.failed]


@pytest.mark.fleet
def test_more_replicas_come_when_work_waits_and_go_when_none_does(restored):
    import fleet as fleets

    fleets.deploy(
        restored.given.model_copy(update={"replicas": 1, "max_replicas": 2, "target_seconds": 0.01})
    )
    assert fleets.running() == 1
    with fleets.Clients(restored.url, ASKED, 8) as clients:
        deadline = time.monotonic() + 90
        while fleets.running() < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert same(clients)
