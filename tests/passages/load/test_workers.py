"""What crashes, hangs or takes all memory is left out by name, and harms nothing else."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harm.old_workbook import beyond_memory, compound

from documents import packed
from fidkit.errors import CorpusError
from fidkit.passages.load import deadline
from fidkit.passages.load import workers as module
from fidkit.passages.load.packed import boxes_in, text_of
from fidkit.passages.load.workers import Job, Limits, Read, Workers

LIMITS = Limits(seconds=20, memory_bytes=1 << 30)
READ = "odd_loaders:read"


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], Job]:
    """A file for `odd_loaders`."""

    def make(content: str) -> Job:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.odd"
        path.write_text(content if " " in content else f"{content} ")
        return Job(path, path.name, READ, path.stat().st_size)

    return make


@pytest.fixture
def one() -> Iterator[Workers]:
    """A single worker."""
    workers = Workers(LIMITS, count=1)
    yield workers
    workers.close()


def texts(read: Read) -> list[str]:
    return [text_of(packed.text) for packed, _ in read.documents]


def test_documents_come_with_passages_and_their_map(one, job):
    text = "first page\fsecond page " + "with words " * 200
    (read,) = one.read([job(f"paged {text}")])
    ((packed, rows),) = read.documents
    assert (packed.title, packed.facts, packed.notes) == (
        "A report",
        {"author": "Ada"},
        ("page 9 has no text",),
    )
    whole = text_of(packed.text)
    assert [row.id for row in rows] == [f"0.odd#{n}" for n in range(1, len(rows) + 1)]
    assert len(rows) > 1
    assert all(row.text == whole[row.start : row.end] for row in rows)
    assert [box.page for box in boxes_in(packed.boxes, 0, 30)][:3] == [1, 1, 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("crash", "its loader crashed (SIGSEGV)"),
        ("allocate", "needs more than 1,074 MB of memory to be read"),
        ("fail", "can't be read (ZeroDivisionError: of nothing)"),
        ("leave", "can't be read (SystemExit: 3)"),
        ("end", "its loader ended the process (exit code 3)"),
        ("kill", "the process that read it was killed, perhaps for want of memory"),
        ("torn", "its loader contradicts itself: Box(start=3, end=99,"),
        ("missing", "can't be read (ModuleNotFoundError: No module named 'no_such_package')"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_file_is_read(one, job, content, reason):
    bad, good = one.read([job(content), job("noise good words")])
    assert bad.reason.startswith(reason)
    assert (bad.documents, texts(good), good.reason) == ((), ["good words"], "")
    # What is missing may be installed, and what was short be had, while the file stays the same.
    assert bool(bad.sha256) == (content not in ("missing", "kill"))
    assert bad.reason.endswith("; the next build tries again") == (content == "kill")


def test_a_file_whose_worker_somebody_killed_is_read_again(one, job, tmp_path):
    (read,) = one.read([job(f"once {tmp_path / 'told'} good words")])
    assert (texts(read), read.reason) == (["good words"], "")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hang", "took longer than 1 s to read; the next build tries again"),
        # Whoever looks first ends it: the one that waits, or the system, which counts whole seconds.
        ("spin", "took (longer than 1 s|too much processor time) to read"),
        ("drip", "took longer than 1 s to read; the next build tries again"),
    ],
)
def test_what_takes_too_long_is_ended(job, content, why):
    """What used up its processor time will do so again, and isn't read again until the file changes."""
    limits = Limits(seconds=1, whole=2 if content == "drip" else 60)
    workers, began = Workers(limits, count=1), time.monotonic()
    try:
        bad, good = workers.read([job(content), job("noise good words")])
    finally:
        workers.close()
    assert re.fullmatch(why, bad.reason)
    assert bool(bad.sha256) is (content == "spin")
    assert texts(good) == ["good words"]
    assert time.monotonic() - began < 15


def test_where_the_system_says_no_processor_time_the_clock_counts(job, monkeypatch):
    monkeypatch.setattr(deadline, "processor_seconds", lambda pid: None)
    workers = Workers(Limits(seconds=1), count=1)
    try:
        (bad,) = workers.read([job("hang")])
    finally:
        workers.close()
    assert (bad.reason, bool(bad.sha256)) == ("took longer than 1 s to read", True)


@pytest.fixture
def busy() -> Iterator[Callable[[int], None]]:
    """Has four processes compute on the processor of another, and nowhere else."""
    others: list[subprocess.Popen[bytes]] = []

    def begin(pid: int) -> None:
        processor = min(os.sched_getaffinity(pid))
        os.sched_setaffinity(pid, {processor})
        code = f"import os; os.sched_setaffinity(0, {{{processor}}}); print(flush=True)\nwhile True: pass"
        for _ in range(4):
            others.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
            other.stdout.close()

    yield begin
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors can't be chosen here")
def test_a_busy_machine_leaves_nothing_out(job, busy):
    """What a document may take is processor time, of which this worker gets a fifth."""
    workers = Workers(Limits(seconds=0.6, whole=100), count=1)
    try:
        pid = int("".join(texts(next(workers.read([job("who")])))))
        busy(pid)
        began = time.monotonic()
        (read,) = workers.read([job("compute 0.4 good words")])
        assert (texts(read), read.reason) == (["good words"], "")
        assert time.monotonic() - began > 0.8  # else it had the processor for itself
    finally:
        workers.close()


def test_limits_are_kept_by_the_system(one, job):
    """That of processor time counts where nobody is there to end a worker by the clock."""
    (read,) = one.read([job("who")])
    lines = Path(f"/proc/{int(texts(read)[0])}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[0] for line in lines[1:]}
    assert 20 <= int(limits["Max cpu time"]) <= 40
    assert limits["Max address space"] == limits["Max data size"] == str(1 << 30)
    assert (limits["Max core file size"], limits["Max file size"]) == ("0", str(1 << 30))


def test_a_worker_is_used_again_and_replaced_only_when_it_ends(one, job):
    first, second, _, third = (
        "".join(texts(read)) for read in one.read([job("who"), job("who"), job("crash"), job("who")])
    )
    assert first == second != third
    assert int(first) != os.getpid() != int(third)


def test_a_worker_that_has_taken_much_memory_ends_and_harms_no_other_file(job):
    workers = Workers(Limits(seconds=20, memory_bytes=1 << 29), count=1)
    try:
        heavy, light = workers.read([job("heavy"), job("who")])
    finally:
        workers.close()
    assert (heavy.reason, light.reason) == ("", "")
    assert texts(heavy) != texts(light)


@pytest.mark.parametrize("content", ["large", "members a=large"])
def test_what_a_worker_holds_of_other_files_leaves_none_out(one, job, content):
    before, read, _ = one.read([job("hoard"), job(content), job("who")])
    assert (before.reason, read.reason) == ("", "")
    assert texts(read)[0] not in ("", texts(before)[0])


@pytest.mark.parametrize(
    ("limits", "content", "reason"),
    [
        (Limits(result_bytes=10_000), "big 100000", "holds more than a document may"),
        (Limits(result_bytes=10_000), "many 200", "holds more than a document may"),
        (Limits(characters=1000), "big 1000", "holds more than 1,000 characters"),
        (Limits(documents=5), "many 6", "holds more than 5 documents"),
    ],
)
def test_results_are_bounded(job, limits, content, reason):
    workers = Workers(limits, count=1)
    try:
        bad, good = workers.read([job(content), job("noise good words")])
    finally:
        workers.close()
    assert (bad.reason, bad.documents, texts(good)) == (reason, (), ["good words"])


def test_several_documents_of_a_file_have_names_of_their_own(one, job):
    (read,) = one.read([job("several a.txt=one|b/c.txt=two|a.txt=three|=four")])
    assert [packed.member for packed, _ in read.documents] == ["a.txt", "b/c.txt", "a.txt (2)", ""]
    ids = [row.id for _, rows in read.documents for row in rows]
    assert ids == ["0.odd/a.txt#1", "0.odd/b/c.txt#1", "0.odd/a.txt (2)#1", "0.odd#1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("crash ", "its loader crashed (SIGSEGV)"),
        ("hang ", "took longer than 2 s to read; the next build tries again"),
        ("allocate ", "needs more than 1,074 MB of memory to be read"),
        ("fail ", "expected a file that can be read, but it is broken (ZeroDivisionError: of nothing)"),
    ],
)
def test_a_member_that_ends_its_process_is_left_out_alone(job, content, reason):
    seconds = 2 if content == "hang " else 20
    workers = Workers(Limits(seconds=seconds, memory_bytes=1 << 30), count=1)
    try:
        whole, good = workers.read([
            job(f"members a=noise first|b={content}|c=noise last"), job("noise good words"),
        ])  # fmt: skip
    finally:
        workers.close()
    assert (whole.reason, texts(whole), texts(good)) == ("", ["first", "last", ""], ["good words"])
    assert whole.documents[-1][0].notes == (f"b can't be read: {reason}",)
    assert bool(whole.sha256) == (content != "hang ")


def test_a_file_of_many_such_members_is_given_up(one, job, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PASSED", 1)
    (read,) = one.read([job("members a=crash |b=noise good|c=crash ")])
    assert (read.documents, read.reason) == ((), "c: its loader crashed (SIGSEGV)")


def test_when_the_time_of_a_file_is_over_no_other_process_reads_on(job):
    workers = Workers(Limits(seconds=1, whole=1), count=1)
    try:
        _, bad = workers.read([job("noise first"), job("members a=hang |b=noise good")])
    finally:
        workers.close()
    assert (bad.documents, bad.reason) == ((), "a: took longer than 1 s to read; the next build tries again")


def test_what_computes_is_ended_when_the_time_of_its_file_is_over(job):
    """Which began before the worker was there, so that not all of its processor time is used up."""
    workers = Workers(Limits(seconds=1, whole=1), count=1)
    try:
        (bad,) = workers.read([job("spin")])
    finally:
        workers.close()
    assert bad.reason == "took longer than 1 s to read; the next build tries again"


def test_a_crash_outside_of_members_is_that_of_the_file(one, job):
    """What ends the process between two members is no member's fault, and nothing is tried again."""
    bad, good = one.read([job("members a=noise x"), job("crash")])
    assert texts(bad) == ["x", ""]
    assert good.reason == "its loader crashed (SIGSEGV)"


def test_a_workbook_that_ends_its_process_harms_no_other_file(one, tmp_path):
    """A library in Rust aborts; alone and in an archive in an archive, only that workbook is left out."""
    broken = compound(beyond_memory())
    jobs = []
    for name, data, loader in (
        ("a.xls", broken, "sheets:read_workbook"),
        ("b.zip", packed({"c.zip": packed({"d.xls": broken, "e.txt": "inner"}), "f.txt": "outer"}),
         "archive:read_archive"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        jobs.append(Job(tmp_path / name, name, f"fidkit.passages.load.{loader}", len(data)))
    alone, within = one.read(jobs)
    assert alone.reason.startswith("its loader crashed (SIG")
    assert texts(within) == ["inner", "", "outer"]
    (note,) = within.documents[1][0].notes
    assert note.startswith("d.xls can't be read: its loader crashed (SIG")


def test_results_come_in_the_order_of_files_and_no_more_is_read_ahead_than_wanted(job):
    workers = Workers(LIMITS, count=2)
    asked = []

    def jobs() -> Iterator[Job]:
        for number in range(20):
            asked.append(number)
            yield job(f"noise number {number}")

    try:
        reading = workers.read(jobs())
        assert texts(next(reading)) == ["number 0"]
        assert len(asked) <= 5
        assert [texts(read) for read in reading] == [[f"number {n}"] for n in range(1, 20)]
    finally:
        workers.close()


@pytest.mark.parametrize(("times", "left"), [(1, "changes left 0"), (9, "")])
def test_a_file_that_changes_while_it_is_read_is_read_again(one, job, times, left):
    some = job("growing ")
    some.path.write_text(f"growing {times} {some.path}")
    (read,) = one.read([some])
    assert "".join(texts(read)) == left
    assert read.reason == ("" if left else "changed again and again while it was read")


def test_a_file_that_cannot_be_opened_is_no_fault_of_its_loader(one, tmp_path):
    (read,) = one.read([Job(tmp_path / "gone.odd", "gone.odd", READ, 0)])
    assert (read.not_opened, read.reason) == ("No such file or directory", "")


def test_half_characters_cost_nothing_else(one, job):
    assert texts(next(one.read([job("half")]))) == ["a ? half"]


def test_a_machine_that_starts_no_worker_is_said(job, monkeypatch):
    monkeypatch.setattr(module, "_CODE", "import sys; sys.exit(4)")
    workers = Workers(LIMITS, count=1)
    try:
        with pytest.raises(CorpusError, match=r"can't be started \(.*exit code 4\)\); check that"):
            list(workers.read([job("who")]))
    finally:
        workers.close()


@pytest.mark.parametrize("content", ["hang", "spin", "noise idle"])
def test_workers_do_not_outlive_their_parent(job, content):
    """However it dies, and whatever they are at."""
    some, said = job(content), job("who")
    code = """
import sys, time
from pathlib import Path
from fidkit.passages.load.packed import text_of
from fidkit.passages.load.workers import Job, Limits, Workers
workers = Workers(Limits(), count=1)
said, some = (Job(Path(path), "x", "odd_loaders:read", 1) for path in sys.argv[1:])
print(text_of(next(workers.read([said])).documents[0][0].text), flush=True)
for _ in workers.read([some]): pass
time.sleep(600)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(said.path), str(some.path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it lived on")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_closing_ends_what_is_under_way(job):
    workers, began = Workers(LIMITS, count=2), time.monotonic()
    reading = workers.read([job("who"), job("hang"), job("hang"), job("hang")])
    pid = int(texts(next(reading))[0])
    workers.close()
    assert time.monotonic() - began < 15
    assert not alive(pid)
