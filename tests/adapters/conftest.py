"""Documents whose passages know their place, and what answers from them."""

import pytest

from fidkit import Answerer
from served import DOCUMENTS

QUESTION = "who is the harbour master of Ringsend?"
GARDEN = "who owns the largest garden?"
UNSAID = "what colour is the boathouse door?"


@pytest.fixture(scope="session")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="session")
def answerer(documents):
    with Answerer.open(documents) as made:
        yield made


@pytest.fixture(scope="session")
def corpus(answerer):
    return answerer.corpus
