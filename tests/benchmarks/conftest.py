import pytest
from paper.command import main


@pytest.fixture
def measure(tmp_path):
    """Measure one experiment at size tiny; returns the file of its rows."""

    def run(name: str, *more: str, rounds: int = 2):
        main([name, "--size", "tiny", "--rounds", str(rounds), "--out", str(tmp_path), *more])
        return tmp_path / f"paper-{name}.jsonl"

    return run
