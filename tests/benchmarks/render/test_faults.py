"""The table of faults under load."""

from render import faults

ABOUT = {"hardware": {"cpu": "a CPU", "cores": 2}, "clients": 4, "command": "python it --only 'x'"}
SEEN = {"answered": 50, "wrong": 0, "lost": 0, "longest_pause_s": 1.25, "statuses": {"200": 50}}


def swapped(**more):
    return {"fault": "reader swapped", "swaps": 3, "taken_up_s": 4.4, **SEEN, **ABOUT, **more}


def test_a_line_a_fault_of_its_newest_row():
    statuses = {"200": 40, "503": 7, "ReadError": 2}
    gone = {"fault": "database gone", "away_s": 10.0, "answered_again_s": 0.5, **SEEN, **ABOUT}
    table = faults.table([swapped(wrong=9), swapped(), gone | {"statuses": statuses, "lost": 2}])
    _, _, first, second, _, about = table.splitlines()
    assert first == "| reader swapped | 50 | 0 | none | 0 | 1.2 s | 3 times, taken up within 4.4 s |"
    assert "| 503: 7 | 2 |" in second
    assert about.endswith("`python it`")
