"""Tables of a corpus in PostgreSQL."""

from render import postgres

ABOUT = {"hardware": {"cpu": "a CPU", "cores": 2}, "command": "python it"}


def load(seconds: float, kills: list[str], said: dict[str, int]) -> dict:
    counts = {"writes": 1200, "removals": 30, "reads": 4000, "faults": 0, "writers": 8, "readers": 8}
    return {"of": "load", "seconds": seconds, "kills": kills, "said": said, **counts, **ABOUT}


def test_runs_without_and_with_kills_stand_side_by_side() -> None:
    rows = [load(9, [], {}), load(60, [], {}), load(110, ["SIGKILL"] * 10, {"writes given up": 3, "more": 1})]
    head, _, seconds, kills, _, said, *_, about = postgres.load(rows).splitlines()
    assert head == "|  | left alone | killed |"
    assert seconds == "| seconds | 60 | 110 |"
    assert kills.endswith("| 0 | 10 |")
    assert said == "| writes that gave up and said so | 0 | 4 |"
    assert "8 processes that write" in about


def speed(**more) -> dict:
    of_a_way = {"median_ms": 2.26, "p95_ms": 11.0}
    found = {way: of_a_way for way in ("words", "meaning", "both")}
    hnsw = [{"ef": 100, "recall": 0.95, "median_ms": 3.0}]
    server = {"search": found, "recall": 0.999, "questions": 100}
    server |= {"hnsw": hnsw, "hnsw_made_s": 20, "hnsw_bytes": 6e7}
    return {
        "of": "speed", "passages": 50_000, "files": 200, "questions": 300, "local_build_s": 6.0,
        "load_s": 3.25, "share_s": 2.0, "first_s": 6.4, "without_vectors_s": 5.0, "changed_files": 2,
        "search": {"local": found, "replica": found}, "change_s": 0.1, "change_share_s": 1.5,
        "catch_up_s": 0.4, "database_bytes": 4e7, "vector_bytes": 2e7, "replica_bytes": 3e7, "faults": 0,
        "server": server, **ABOUT, **more,
    }  # fmt: skip


def test_speed_is_of_the_newest_row() -> None:
    table = postgres.speed([speed(load_s=9.0), speed()])
    assert "| written to the database | 3.2 s |" in table
    assert "| a replica made from it, with vectors and without | 6.4 s, 5.0 s |" in table
    assert "| on disk: database, of it vectors, replica | 40 MB, 20 MB, 30 MB |" in table
    assert "50,000 passages" in table


def test_searches_stand_by_place_and_way() -> None:
    table = postgres.search([speed()])
    assert "|  | by words | by meaning | by both |" in table
    assert "| the server, `replica=none` | 2.3 ms, 11.0 | 2.3 ms, 11.0 | 2.3 ms, 11.0 |" in table
    assert "the server finds 0.999. An HNSW index would find 0.950 in 3.0 ms with ef_search 100" in table


def test_nothing_measured_is_said() -> None:
    assert postgres.speed([]) == postgres.search([]) == postgres.load([]) == "Not measured yet."
