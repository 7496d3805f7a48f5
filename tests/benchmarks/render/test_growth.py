"""How a corpus grows, as a table and as plots."""

import pytest
from render import growth

ABOUT = {"hardware": {"cpu": "a CPU", "cores": 2}, "command": "python it"}


def rows(size: int, *, more: float = 0.0) -> list[dict]:
    """All stages at a size: each figure grows by the passage, from the same start."""

    def at(each: float, start: float = 0.0) -> float:
        return start + more + each * size

    ways = {by: {"median": at(1e-5, 2.0), "p95": at(2e-5, 3.0)} for by in growth.WAYS}
    sizes = {"catalogue": 700 * size, "index": 100 * size, "vectors": 464 * size}
    built = {"seconds": at(1e-4, 1.0), "own_peak_bytes": at(1000, 1e8), "sizes": sizes}
    searched = {
        "milliseconds": ways, "open_ms": 5.0 - 1e-6 * size, "info_ms": 3.0, "encoded_a_second": 100.0,
        "private_bytes": 5e7, "mapped_bytes": 500 * size,
    }  # fmt: skip
    refreshed = built | {"anew_seconds": 2 * built["seconds"]}
    stages = {
        "words": built,
        "vectors": built,
        "refresh": refreshed,
        "search": searched,
        "ask": {"median": 0.5},
    }
    return [{"of": of, "passages": size, **facts, **ABOUT} for of, facts in stages.items()]


def test_a_line_goes_on_to_twenty_million() -> None:
    records = [*rows(1_000_000, more=99.0), *rows(10_000), *rows(1_000_000)]  # the newest of two
    head, _, *lines, _, about = growth.table(records).splitlines()
    assert head == "| passages | 10,000 | 1,000,000 | 20,000,000, on paper |"
    assert "| built by words, s | 2.0 | 101.0 | 2,001.0 |" in lines
    assert "| search by meaning, ms | 2.1 | 12.0 | 202.0 |" in lines
    assert "| then the index anew, s | 4.0 | 202.0 | 4,002.0 |" in lines
    assert "| vectors on disk, MB | 5 | 464 | 9,280 |" in lines
    assert "| opened, ms | 5.0 | 4.0 | 4.0 |" in lines  # nothing takes less than was measured
    assert "| encoded, hours of a core | 0.0 | 2.8 | 55.6 |" in lines
    assert "`python it`" in about


def test_a_stage_that_is_missing_leaves_its_cells_empty() -> None:
    records = [row for row in (*rows(10_000), *rows(100_000)) if row["of"] != "refresh"]
    assert "| 1 % changed, s |  |  |  |" in growth.table(records)
    assert growth.table([]) == growth.NOTHING
    assert growth.panels([]) == []


def test_plots_by_size() -> None:
    building, memory, disk, searching = growth.panels([*rows(100_000), *rows(10_000)])
    assert building["lines"]["by words"] == ([10_000, 100_000], [2.0, 11.0])
    assert memory["lines"]["search"] == ([10_000, 100_000], [50.0, 50.0])
    assert disk["lines"]["vectors"][1] == pytest.approx([4.64, 46.4])
    assert list(searching["lines"]) == ["by words", "by meaning", "by both"]
