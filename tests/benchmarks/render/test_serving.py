"""Tables of a server."""

from render import serving

HARDWARE = {"cpu": "a CPU", "cores": 2}
TIMES = {"median": 1234.5, "p95": 2000.0, "p99": 3000.4}


def row(**values):
    return {"hardware": HARDWARE, "command": "the command", **values}


def under_load(way, clients, **more):
    values = {
        "questions_per_second": 6.25,
        "statuses": {"200": 5},
        "wrong": 0,
        "ms": TIMES,
        "http_ms": {"median": 2.8},
    }
    return row(of="load", way=way, clients=clients, passages=20, **{**values, **more})


def test_load():
    rows = [under_load("batched", 1, wrong=9), under_load("batched", 1), under_load("alone", 16)]
    rows[2]["statuses"] = {"200": 5, "503": 2, "ReadTimeout": 1}
    lines = serving.load(rows).splitlines()
    assert lines[2] == "| 1 | 6.2 | 1,234 | 2,000 | 3,000 | 2.8 | 0 | 0 |"
    assert lines[3].startswith("| 16, each question alone | 6.2 |")
    assert lines[3].endswith("| 0 | 3 |")
    assert serving.load([]) == serving.NOTHING


def test_overload():
    made = row(
        of="overload", times=10.0, asked_per_second=58.7, answered=204, wrong=1, without_retry_after=0,
        statuses={"200": 204, "503": 969, "ReadError": 3}, mb_before=480.0, peak_mb=506.9, recovered_s=0.24,
    )  # fmt: skip
    text = serving.overload([made, row(of="start", ready_s=1.51, mb=293.5)])
    for said in (
        "59, 10 times",
        "204, 1",
        "969, 0",
        "anything else | 3",
        "480 MB, 507 MB",
        "0.2 s",
        "1.5 s, 294 MB",
    ):
        assert said in text
    assert serving.overload([made]) == serving.NOTHING
