"""Documents, and a server of them that all tests share."""

import pytest

pytest.importorskip("fastapi", reason="needs fidkit[serve]")
from served import DOCUMENTS, running


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The documents that are served."""
    made = tmp_path_factory.mktemp("documents")
    for name, text in DOCUMENTS.items():
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="session")
def client(folder):
    """A client of one server for all tests that leave it as it is."""
    with running(folder) as made:
        yield made
