"""`examples/clients.py`: every client gets right answers with their sources."""

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.adapters


def test_every_client_is_right(capsys):
    script = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "clients.py"))
    assert script["main"]() == 0
    told = capsys.readouterr().out
    assert told.count("| 3 | 3 |") == len(script["CLIENTS"]) == 11
