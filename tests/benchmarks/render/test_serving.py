"""Tables of a server."""

from render import serving

HARDWARE = {"cpu": "a CPU", "cores": 2}
TIMES = {"median": 1234.5, "p95": 2000.0, "p99": 3000.4}
PEER = {"readers": 2, "threads": 1, "dtype": "bfloat16"}


def row(**values):
    return {"hardware": HARDWARE, "command": "the command", **values}


def under_load(way, clients, **more):
    values = {
        "questions_per_second": 6.25,
        "times_transformers": 8.04,
        "times_unbatched": 1.07,
        "statuses": {"200": 5},
        "wrong": 0,
        "ms": TIMES,
        "cores": 1.5,
        "peak_mb": 480.0,
        "seconds": 60.0,
        "rounds": 3,
    }
    return row(of="load", way=way, clients=clients, passages=20, **{**values, **more})


def test_load():
    rows = [
        under_load("batched", 16, wrong=9),
        under_load("transformers", 16, wrong=9, peer=PEER, questions_per_second=0.78),
        under_load("batched", 16, wrong=2),
        under_load("unbatched", 1, statuses={"200": 5, "503": 2, "ReadTimeout": 1}),
        row(of="peer", **PEER, questions_per_second=0.5),
        row(of="peer", **{**PEER, "dtype": "float32"}, questions_per_second=0.25),
    ]
    lines = serving.load(rows).splitlines()
    assert lines[2] == "| 1 | fidkit, each question alone | 6.25 | 8.0 | 1,234 | 2,000 | 3,000 | 0 | 3 |"
    assert lines[3] == "| 16 | fidkit | 6.25 | 8.0 | 1,234 | 2,000 | 3,000 | 2 | 0 |"
    assert lines[4] == "| 16 | FiD on transformers | 0.78 | 8.0 | 1,234 | 2,000 | 3,000 |  | 0 |"
    assert "2 questions are read at once, in bfloat16 (threads of each: 1)" in lines[-1]
    assert "fastest of 2 ways: `the command`." in lines[-1]
    assert lines[-1].count("`the command`") == 2
    assert serving.load([]) == serving.NOTHING


def test_what_reading_together_gains():
    rows = [under_load("batched", 16), under_load("unbatched", 16, cores=1.25, questions_per_second=5.0)]
    said = serving.together(rows)
    assert "1.07 times" in said
    assert "1.50 of the 2 cores then, and on 1.25 when" in said
    assert "240 and 250 ms" in said
    assert serving.together(rows[:1]) == serving.NOTHING


def test_in_a_sentence():
    rows = [under_load("batched", 16), row(of="start", ready_s=1.51, mb=293.5)]
    said = serving.short(rows)
    assert "6.2 answers a second out of 20 passages each on 2 cores, 8.0 times" in said
    assert "ready 1.5 s after the command, with 294 MB" in said
    assert serving.short(rows[:1]) == serving.short(rows[1:]) == serving.NOTHING


def test_overload():
    made = row(
        of="overload", times=10.0, seconds=60.0, asked_per_second=58.7, answered=1204, wrong=1,
        without_retry_after=0, statuses={"200": 204, "503": 969, "ReadError": 3}, mb_before=480.0,
        peak_mb=506.9, recovered_s=0.24,
    )  # fmt: skip
    text = serving.overload([made])
    for said in ("59 for 60 s, 10 times", "1,204, 1", "969, 0", "else | 3", "480 MB, 507 MB", "0.2 s"):
        assert said in text
    assert serving.overload([]) == serving.NOTHING


def test_beginning():
    rows = [
        row(of="start", ready_s=1.51, mb=293.5),
        row(of="python", http_ms={"median": 160.2}, python_ms={"median": 157.9}, over_ms={"median": 2.34}),
        row(
            of="page",
            cold={"paint_ms": 90.4, "bytes": 71_400, "requests": 17},
            warm={"paint_ms": 40.2, "bytes": 2_600, "requests": 18},
        ),
        under_load("batched", 64, peak_mb=488.0),
        under_load("transformers", 64, peak_mb=988.0),
    ]
    text = serving.beginning(rows)
    for said in ("1.5 s", "294 MB, 488 MB", "160 ms, 158 ms, 2.3 ms", "90 ms, 40 ms", "71 kB in 17 requests"):
        assert said in text
    assert serving.beginning(rows[:2]) == serving.NOTHING


def test_tested_evidence():
    made = row(
        n=300, passages=20, changed_without_first=91.3, changed_without_largest_share=80.0,
        changed_without_last=0.3, ms_a_passage=12.34, answer_ms=160.2, threads=2,
    )  # fmt: skip
    lines = serving.tested([made]).splitlines()
    assert lines[2] == "| the piece that is listed first | 91.3 % |"
    assert lines[3] == "| the passage with the largest share | 80.0 % |"
    assert lines[4] == "| the piece that is listed last | 0.3 % |"
    assert "12.3 ms a passage beside 160 ms" in lines[-1]
    assert serving.tested([]) == serving.NOTHING
