"""The table of a folder of many kinds of documents."""

from render import mixed

ROW = {
    "kind": "mixed-folder", "files": 315, "kinds": 23, "files_read": 307, "left_out": {"a picture": 8},
    "documents": 1381, "passages": 5269, "seconds": 14.64, "megabytes": 6.93, "peak_bytes": 99_400_000,
    "worker_peak_bytes": 70_400_000, "bytes_on_disk": 6_700_000, "questions": 30,
    "search": {"1": 28, "5": 30}, "search_right": 29, "evidence_right": 27, "answers": 25,
    "hardware": {"cpu": "a CPU", "cores": 2}, "command": "python it",
}  # fmt: skip


def test_the_newest_row_of_the_folder():
    lines = mixed.table([{**ROW, "files": 1}, ROW, {"kind": "install"}]).splitlines()
    assert lines[2:] == [
        "| files with passages | 307 of 315, 6.9 MB |",
        "| files without, and why | 8: a picture |",
        "| documents, passages | 1,381, 5,269 |",
        "| read and indexed | 14.6 s, 6.7 MB on disk |",
        "| memory | 99 MB, and 70 MB a worker |",
        "| the passage is found | 28 of 30 among the first 1, 30 of 30 among the first 5 |",
        "| search names its place and characters | 29 of 30 |",
        "| evidence names its place and characters | 27 of 30 |",
        "| the answer is right | 25 of 30 |",
        "",
        "23 folders of one kind each; a CPU, cores: 2. `python it`",
    ]


def test_without_rows():
    assert mixed.table([{"kind": "install"}]) == mixed.NOTHING
