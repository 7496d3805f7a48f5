"""Documents, and servers of them that all tests share: one alone, and a fleet."""

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs fidkit[serve]")
import postgres_server
import s3_server
from served import DOCUMENTS, running


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The documents that are served."""
    made = tmp_path_factory.mktemp("documents")
    for name, text in DOCUMENTS.items():
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="session")
def fleet(folder):
    """Two replicas on Ray Serve, of documents in a database and a reader in an object store.

    Gives a client; `url` is the fleet's, `given` says what is served, and `deploy` serves that or another.
    """
    pytest.importorskip("ray.serve", reason="needs fidkit[ray]")
    import fleet as fleets

    from fidkit import assets
    from fidkit.passages import Corpus
    from fidkit.server.fleet import Fleet

    with (
        postgres_server.started() as database,
        s3_server.started() as store,
        pytest.MonkeyPatch.context() as own,
    ):
        for name, value in s3_server.environment(store).items():
            own.setenv(name, value)
        corpora = [postgres_server.with_option(database, corpus=name) for name in ("fleet", "next")]
        for corpus in corpora:
            Corpus.build(folder, corpus).close()
        reader = s3_server.Bucket().upload(assets.reader("pocket"), "readers/pocket")
        given = Fleet(corpus=corpora[0], readers=[reader], replicas=fleets.REPLICAS, cpus=0.5)
        with fleets.cluster() as url:
            fleets.deploy(given)
            with httpx.Client(base_url=url, timeout=60) as client:
                client.url, client.given, client.next_corpus = url, given, corpora[1]
                yield client


@pytest.fixture(scope="session", params=["alone", pytest.param("fleet", marks=pytest.mark.fleet)])
def client(request, folder):
    """A client of one server, or of a fleet, for all tests that leave it as it is."""
    if request.param == "fleet":
        yield request.getfixturevalue("fleet")
    else:
        with running(folder) as made:
            yield made
