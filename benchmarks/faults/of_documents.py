"""Faults of documents and of the corpus that they are in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from faults.clients import Known
from faults.servers import Given, right, served, under_load, until

Row = dict[str, Any]
_REFRESH = """
import sys
from fidkit import Corpus
Corpus.build(sys.argv[2:], sys.argv[1]).close()
"""
_COMPACT = """
import sys
from pathlib import Path
from fidkit.engine.meaning import runnable
from fidkit.passages.local.build import reindex
reindex(Path(sys.argv[1]), runnable())
"""
_NEW = b"The lighthouse of Skellan is kept by Nora Fahy, who came there from Ballycotton."


def worker_killed(given: Given) -> Row:
    """The process that reads an upload is killed; another document is added behind it."""
    answers = right(given, [str(given.folder)])
    with served(str(given.folder)) as server, under_load(given, server) as load:
        server.add("long.html", b"<p>" + b"A long page. " * 2_000_000)
        waited = until(lambda: _killed(server.process.pid), 30)
        took = until(lambda: server.added("long.html") not in ("", "waiting"))
        server.add("short.md", _NEW)
        until(lambda: server.added("short.md") == "indexed")
        answers = right(given, [str(given.folder)], answers)
        load.settle()
        said = {"upload": server.added("long.html"), "next_upload": server.added("short.md")}
        _take_out(server.url, "long.html", "short.md")
        until(lambda: not server.get("/v1/documents")["added"])
    return {**load.seen.record(answers), **said, "killed": waited < 30, "told_after_s": took}


def _killed(server: int) -> bool:
    """Whether a worker of the server was found at work and killed."""
    for child in psutil.Process(server).children(recursive=True):
        try:
            if "passages.load.worker" in " ".join(child.cmdline()) and child.cpu_times().user > 0.4:
                os.kill(child.pid, signal.SIGKILL)
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def document_changed(given: Given) -> Row:
    """A document is added, replaced and taken out."""
    answers = right(given, [str(given.folder)])
    with served(str(given.folder)) as server, under_load(given, server) as load:
        found_after = _found_after(server, _NEW, "Nora Fahy")
        answers = right(given, [str(given.folder)], answers)
        replaced_after = _found_after(server, _NEW.replace(b"Nora Fahy", b"Una Breen"), "Una Breen")
        _take_out(server.url, "light.md")
        gone_after = until(lambda: _keeper(server.url) not in ("Nora Fahy", "Una Breen"))
        load.settle()
    times = {"found_s": found_after, "replaced_s": replaced_after, "gone_s": gone_after}
    return {**load.seen.record(answers), **times}


def _found_after(server: Any, content: bytes, answer: str) -> float:
    server.add("light.md", content)
    return until(lambda: _keeper(server.url) == answer)


def _keeper(url: str) -> str:
    asked = {"question": "who keeps the lighthouse of Skellan?", "passages": 3}
    return str(httpx.post(f"{url}/v1/answer", json=asked, timeout=60).json().get("guess"))


def _take_out(url: str, *names: str) -> None:
    for name in names:
        httpx.delete(f"{url}/v1/documents/{name}", timeout=60)


def refreshed(given: Given) -> Row:
    """Another process builds the corpus that is served, with a source more and then without it."""
    source = str(given.folder / "passages.jsonl")
    more = given.scratch / "more"
    more.mkdir(exist_ok=True)
    (more / "light.md").write_bytes(_NEW)
    answers = right(given, [str(given.corpus)])
    with served(str(given.corpus)) as server, under_load(given, server) as load:
        before = _generation(server)
        _run(_REFRESH, given.corpus, source, str(more))
        load.settle()
        answers = right(given, [str(given.corpus)], answers)
        _run(_REFRESH, given.corpus, source)
        load.settle()
        answers = right(given, [str(given.corpus)], answers)
        after = _generation(server)
    return {**load.seen.record(answers), "generations": after - before}


def compacted(given: Given) -> Row:
    """Another process writes the index anew, from the catalogue."""
    answers = right(given, [str(given.corpus)])
    with served(str(given.corpus)) as server, under_load(given, server) as load:
        begun = time.monotonic()
        _run(_COMPACT, given.corpus)
        took = time.monotonic() - begun
        load.settle()
        answers = right(given, [str(given.corpus)], answers)
    return {**load.seen.record(answers), "compaction_s": took}


def _generation(server: Any) -> int:
    return int(server.get("/v1/corpora")[0]["generation"])


def _run(code: str, corpus: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, str(corpus), *arguments], check=True)


def deleted(given: Given) -> Row:
    """The corpus that is served is deleted, and put back."""
    copied = given.scratch / "deleted"
    shutil.copytree(given.corpus, copied)
    answers = right(given, [str(copied)])
    with served(str(copied)) as server, under_load(given, server) as load:
        shutil.rmtree(copied)
        load.settle(3 * 8)
        told = {"ready": httpx.get(f"{server.url}/readyz").status_code}
        shutil.copytree(given.corpus, copied)
        load.settle()
    return {**load.seen.record(answers), **told}


def disk_full(given: Given) -> Row:
    """Index, caches and uploads lie on a small disk, which is full for a while. Only root can mount it."""
    disk = given.scratch / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(disk)], check=True)
    try:
        answers = right(given, [str(given.folder)])
        shutil.copytree(Path(os.environ["FIDKIT_HOME"]) / "corpora", disk / "corpora")
        with served(str(given.folder), home=disk) as server, under_load(given, server) as load:
            before = server.add("first.md", _NEW)
            until(lambda: server.added("first.md") == "indexed")
            _fill(disk / "full")
            full = [server.add("large.txt", _NEW * 50_000), server.add("small.md", _NEW)]
            load.settle(3 * 8)
            stands = server.added("small.md")
            (disk / "full").unlink()
            again = server.add("later.md", _NEW.replace(b"Nora Fahy", b"Una Breen"))
            indexed = until(lambda: server.added("later.md") == "indexed")
            load.settle()
        answers = right_on(disk, given, answers)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    statuses = {"before": before, "full": full, "after": again}
    return {**load.seen.record(answers), "uploads": statuses, "small_upload": stands,
            "indexed_after_s": indexed}  # fmt: skip


def right_on(disk: Path, given: Given, answers: Known) -> Known:
    """What Python answers from documents whose index lies on the small disk, beside what it did before."""
    kept, os.environ["FIDKIT_HOME"] = os.environ["FIDKIT_HOME"], str(disk)
    try:
        return right(given, [str(given.folder)], answers)
    finally:
        os.environ["FIDKIT_HOME"] = kept


def _fill(file: Path) -> None:
    """Leave no room on a disk."""
    with file.open("wb", buffering=0) as out:
        for piece in (1 << 20, 1 << 12):
            try:
                while True:
                    out.write(bytes(piece))
            except OSError:
                continue
