"""Tables of a fleet."""

import rows
from render import fleet


def row(**values):
    return {"hardware": {"cpu": "a CPU", "cores": 2}, "command": "the command", **values}


def happened(of, **more):
    times = {"took_s": 0.0, "ms": {"median": 301.4, "p99": 1500.0}}
    counts = {"answered": 1234, "wrong": 0, "failed": 0, "answered_then": 0}
    return row(of=of, **{**times, **counts, **more})


def test_changes():
    started = row(of="start", ray_s=7.6, ready_s=5.2, replicas=2, clients=4, passages=20_000)
    rows = [
        started, happened("steady"),
        happened("update", took_s=12.4, wrong=9), happened("update", took_s=12.4),
        happened("kill", took_s=6.5, failed=3, answered_then=2),
    ]  # fmt: skip
    lines = fleet.changes(rows).splitlines()
    assert lines[2] == "| nothing |  | 1,234 | 301 | 1,500 | 0 | 0 | 0 |"
    assert lines[3].startswith("| all replicas are replaced, since a reader was added | 12 s |")
    assert lines[3].endswith("| 0 | 0 | 0 |")
    assert lines[4].endswith("| 0 | 3 | 2 |")
    assert lines[-1].startswith("2 replicas of 20,000 passages, and 4 clients. ")
    assert "Ray and Ray Serve start in 8 s, the replicas in 5 s. a CPU, 2 cores" in lines[-1]
    assert fleet.changes(rows[:-1]) == fleet.NOTHING


def test_image():
    sizes = {"fidkit": 60_400_000, "torch": 0}
    made = rows.row("container", of="image", extras="serve", bytes=412_000_000, sizes=sizes, healthy_s=3.14)
    text = fleet.image([made])
    assert "| `serve` | 412 MB | 60 MB | 3.1 s |" in text
    assert "PyTorch isn't among it." in text
    assert "PyTorch" not in fleet.image([{**made, "sizes": {**sizes, "torch": 5}}])
    assert fleet.image([]) == fleet.NOTHING
