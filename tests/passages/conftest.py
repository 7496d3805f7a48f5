import gzip
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fidkit import Corpus
from postgres_server import started, with_option


@pytest.fixture
def write_rows() -> Callable[[Path, Iterable[dict[str, Any]]], Path]:
    """Writes records as JSONL, packed when the name ends with .gz."""

    def write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
        return path

    return write


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of three small documents."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "tea.md").write_text("# Tea\n\nTea comes from China.\n\n## Brewing\n\nUse hot water.\n")
    (folder / "coffee.txt").write_text("Coffee comes from Ethiopia.")
    (folder / "deep" / "cocoa.txt").write_text("Cocoa comes from the Amazon.")
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with started() as uri:
        yield uri


@pytest.fixture
def url(server: str) -> str:
    """The URL of a corpus in it that isn't there yet."""
    return with_option(server, corpus=uuid.uuid4().hex)


@pytest.fixture(params=["local", "postgres", "served"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a corpus may be built, by each engine."""
    if request.param == "local":
        return str(tmp_path / "corpus")
    url = request.getfixturevalue("url")
    return url if request.param == "postgres" else with_option(url, replica="none")


@pytest.fixture
def accented(tmp_path: Path) -> Corpus:
    """A corpus of accents, within letters and as characters of their own, and of a name with brackets."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "cafe\u0301.txt").write_text("The re\u0301sume\u0301 names Ada.", encoding="utf-8")
    (docs / "caf\u00e9s.txt").write_text("The owner is Berg.", encoding="utf-8")
    (docs / "[draft] lease.txt").write_text("The tenant is Cole.")
    (docs / "d lease.txt").write_text("The tenant is Dunn.")
    return Corpus.build(docs, tmp_path / "c")
