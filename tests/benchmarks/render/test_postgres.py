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


def test_speed_is_of_the_newest_row() -> None:
    found = {"median_ms": 2.26, "p95_ms": 11.0}
    row = {
        "of": "speed", "passages": 50_000, "files": 200, "questions": 300, "local_build_s": 6.0,
        "load_s": 3.25, "first_s": 6.4, "search": {"local": found, "replica": found}, "changed_files": 2,
        "change_s": 0.1, "catch_up_s": 0.4, "database_bytes": 4e7, "replica_bytes": 3e7, "faults": 0, **ABOUT,
    }  # fmt: skip
    table = postgres.speed([row | {"load_s": 9.0}, row])
    assert "| written to the database | 3.2 s |" in table
    assert "| search by words in the replica | 2.3 ms, 95 %: 11.0 ms |" in table
    assert "50,000 passages" in table


def test_nothing_measured_is_said() -> None:
    assert postgres.speed([]) == postgres.load([]) == "Not measured yet."
