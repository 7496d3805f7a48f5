"""Make files that are meant to do harm, and see that reading them does none.

    python benchmarks/hostile.py make FOLDER [--only GROUP]
    python benchmarks/hostile.py check FOLDER [--each]

`make` writes some 240 hostile files into FOLDER/hostile, each in a folder of its own, and 50 good ones into
FOLDER/good. It takes 2 GB of disk.

`check` builds a corpus of all of them, while some are changed and deleted. It sees that every file is read
or named with its reason, that the good ones are there with their sentence, and that nothing is written
elsewhere, no worker and no temporary file left. With `--each`, every hostile file is read once more alone, by
a process of its own, for its seconds and its memory. Appends a row to benchmarks/results/documents.jsonl;
prints what is wrong, and fails if anything is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for `documents`, which makes files

from fidkit.disk import shown
from fidkit.errors import FidkitError
from fidkit.passages import Corpus
from fidkit.passages.places import split

_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
PLACES = "names and places"
_OUTSIDE = "outside"
"""What files are called that lead out of an archive or a mail."""
_MOST_SECONDS = 90
_MOST_BYTES = (1_500_000_000, 2_300_000_000)
"""What a file may take alone, in this process and in a worker."""
_FIGURES = ("files", "read", "seconds", "all_seconds", "peak_bytes", "worker_peak_bytes")
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("make", "check", "one"):
        commands.add_parser(name).add_argument("folder", type=Path)
    commands.choices["make"].add_argument("--only", help="make one group of them, such as archives")
    checked = commands.choices["check"]
    checked.add_argument("--each", action="store_true", help="read every hostile file alone as well")
    checked.add_argument(
        "--to", type=Path, default=rows.RESULTS / "documents.jsonl", help="the row goes here"
    )
    options = parser.parse_args()
    if options.command == "make":
        make(options.folder, options.only)
        return
    if options.command == "one":
        print(json.dumps(one(options.folder)))
        return
    record, faults = check(options.folder)
    if options.each:
        alone, worse = each(options.folder)
        record, faults = record | {"alone": alone}, faults + worse
    rows.append(options.to, rows.row("hostile", **record))
    print(*faults, sep="\n", file=sys.stderr)
    sys.exit(bool(faults))


def make(folder: Path, only: str | None = None) -> None:
    """Write all files, or the good ones and a group of hostile ones; the folder mustn't exist yet."""
    from harm import archives, good, markup, office, pdfs, places, texts

    for number, (name, data) in enumerate(good.files()):
        _write(folder / "good" / f"{number:02} {name}", data)
    groups = {"office files": office, "PDF": pdfs, "markup and mails": markup, "archives": archives}
    for group, module in {**groups, "texts and tables": texts, "empty files": good}.items():
        if only in (None, group):
            for name, data in good.empty() if group == "empty files" else module.files():
                _write(folder / "hostile" / group / name / name, data)
    if only in (None, PLACES):
        places.make(folder / "hostile" / PLACES)


def check(folder: Path) -> tuple[Found, list[str]]:
    """The figures of a row, and what is wrong, a line each."""
    from harm.places import changing

    before = dict(_tree(folder))
    with tempfile.TemporaryDirectory() as scratch, _temporary_files(Path(scratch, "temporary")) as temporary:
        with changing(folder / "hostile" / PLACES):
            record, told, texts = built([folder], Path(scratch, "corpus"))
        faults = [f"{name} is left" for name in os.listdir(temporary)]
    faults += [f"a process is left: {line}" for line in _children()]
    faults += [f"{name} was changed" for name, size in _tree(folder) if before.get(name, size) != size]
    faults += [f"{name} was written" for name, _ in _tree(folder) if name not in before]
    faults += [f"{where}/{name} was written" for where in ("/tmp", folder.parent, Path.cwd())
               for name in os.listdir(where) if name.startswith(_OUTSIDE)]  # fmt: skip
    for name in sorted(os.listdir(folder / "good")):
        if f"of harbour {name[:2]} is" not in texts.get(f"good/{name}", ""):
            faults.append(f"good/{name} isn't as it should be: {told.get(f'good/{name}', 'not there')}")
    files = [name for name in before if name.startswith("hostile/")]
    silent = [name for name in files if not told.get(name) and not _passed(name, told)]
    faults += [f"{name}: neither read nor left out with a reason" for name in silent]
    cases = {"/".join(name.split("/")[:3]) for name in files}
    groups = sorted({case.split("/")[1] for case in cases})
    record |= {"hostile": len(cases), "good": len(os.listdir(folder / "good")), "of": groups}
    return record, faults


@contextmanager
def _temporary_files(folder: Path) -> Iterator[Path]:
    """Within the block, temporary files of this process and those that it starts go into a folder."""
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    named, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        del os.environ["TMPDIR"]
        if named is not None:
            os.environ["TMPDIR"] = named


def built(sources: list[Path], to: Path) -> tuple[Found, dict[str, str], dict[str, str]]:
    """Build a corpus. What it took, what became of each file, and the texts of the good ones."""
    began = time.monotonic()
    with Corpus.build(sources, to) as corpus:
        seconds, info = time.monotonic() - began, corpus.info()
        read, texts = set[str](), defaultdict[str, str](str)
        for passage in corpus:
            names = list(_above(split(passage.source)[0]))
            read.update(names)
            if names[0] == "good":
                texts[names[1]] += f"{passage.text}\n"
    told = dict.fromkeys(read, "read")
    for name, note in [*info.notes, *info.skipped_files]:
        told[name] = note or "empty"
    left = Counter(reason for _, reason in info.skipped_files)
    record = {"seconds": seconds, "left_out": len(info.skipped_files), "reasons": len(left)}
    record |= {"documents": info.documents, "passages": info.passages}
    return record | _peaks(), told, texts


def each(folder: Path) -> tuple[dict[str, Found], list[str]]:
    """What each hostile file takes alone, by group; and what took too much, a line each."""
    groups: dict[str, Found] = {}
    faults = []
    for case in sorted((folder / "hostile").glob("*/*")):
        command = [sys.executable, __file__, "one", str(case)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20 * _MOST_SECONDS)
        if done.returncode:
            faults.append(f"{case.name}: ended with {done.returncode}: {done.stderr[-300:]}")
            continue
        took = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(took | {"case": case.name}), file=sys.stderr)
        group = groups.setdefault(case.parent.name, dict.fromkeys(_FIGURES, 0))
        group["files"] += 1
        group["read"] += not took["reason"]
        group["all_seconds"] += took["seconds"]
        if took["seconds"] > group["seconds"]:
            group["slowest"] = case.name
        for key in ("seconds", "peak_bytes", "worker_peak_bytes"):
            group[key] = max(group[key], took[key])
        peaks = (took["peak_bytes"], took["worker_peak_bytes"])
        if took["seconds"] > _MOST_SECONDS or any(map(int.__gt__, peaks, _MOST_BYTES)):
            faults.append(
                f"{case.name}: took {took['seconds']:.1f} s and {[peak // 10**6 for peak in peaks]} MB"
            )
    return groups, faults


def one(case: Path) -> Found:
    """What a folder takes alone, and why nothing of it was read; empty where something was."""
    began, reason, notes = time.monotonic(), "", []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            record, told, _ = built([case], Path(scratch, "corpus"))
            notes = sorted(set(told.values()))[:5]
        except FidkitError as error:
            record, reason = _peaks(), str(error)
    return {**record, "seconds": time.monotonic() - began, "reason": reason, "notes": notes}


def _peaks() -> Found:
    peaks = [1024 * resource.getrusage(who).ru_maxrss for who in _PROCESSES]
    return dict(zip(("peak_bytes", "worker_peak_bytes"), peaks, strict=True))


def _above(source: str) -> Iterator[str]:
    """A document's own name, and those of the files that it may lie in."""
    parts = source.split("/")
    return ("/".join(parts[: at + 1]) for at in range(len(parts)))


def _passed(name: str, told: dict[str, str]) -> bool:
    """Whether a folder above was passed over, or the file is one of those that vanish."""
    return any(f"{above}/" in told for above in _above(name)) or "files that vanish" in name


def _tree(folder: Path) -> Iterator[tuple[str, int]]:
    """Names of files as a corpus shows them, and their sizes; of those that are changed here, none."""
    ahead = [str(folder)]
    while ahead:
        here = ahead.pop()
        with suppress(OSError), os.scandir(here) as found:  # a path may be too long
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(entry.path)
                    continue
                said = shown(os.path.relpath(entry.path, folder))
                size = entry.stat(follow_symlinks=False).st_size
                yield said, -1 if "/files that " in said else size


def _children() -> Iterable[str]:
    """Processes that this one started and that run on."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(state[1]) == os.getpid():
            yield f"{status.parent.name} ({state[0]})"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main()
