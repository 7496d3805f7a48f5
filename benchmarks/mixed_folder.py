"""Make a folder of documents of many kinds, and check that questions about it lead to the right place.

    python benchmarks/mixed_folder.py make FOLDER --data DATA [--seed 1]
    python benchmarks/mixed_folder.py check FOLDER [--reader pocket]

`make` writes some 300 files of 20 kinds with pandoc, LibreOffice, reportlab, python-docx, python-pptx and
openpyxl, out of public-domain prose of DATA/pretrain and the project's own files, and FOLDER.truth.json
beside them: 30 sentences, each of which stands in one place. Texts are the same for the same seed; files of
office programs have the time of their making.

`check` builds a corpus, sees that every file is in it or left out with its reason, asks all questions, and
compares where search and evidence say that a sentence stands with where it was put, to the character
(`fidkit show`). Appends a row to benchmarks/results/documents.jsonl; prints what is wrong, and fails if
anything is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import rows

from fidkit import Answerer
from fidkit.cli.app import run
from fidkit.passages import Corpus
from fidkit.passages.places import split

_PASSAGES = 20
_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
Truth = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    made, checked = commands.add_parser("make"), commands.add_parser("check")
    for command in (made, checked):
        command.add_argument("folder", type=Path)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--seed", type=int, default=1)
    checked.add_argument("--reader", default="pocket")
    checked.add_argument("--to", type=Path, default=rows.RESULTS / "documents.jsonl", help="rows go here")
    options = parser.parse_args()
    truth_file = options.folder.with_name(f"{options.folder.name}.truth.json")
    if options.command == "make":
        from mixed.folder import make

        truth = make(options.folder, options.data, options.seed)
        truth_file.write_text(json.dumps(truth, indent=1), encoding="utf-8")
        return
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        record, faults = check(options.folder, truth, Path(scratch) / "corpus", options.reader)
    rows.append(options.to, rows.row("mixed-folder", **record))
    print(*faults, sep="\n", file=sys.stderr)
    sys.exit(bool(faults))


def check(folder: Path, truth: list[Truth], corpus: Path, reader: str) -> tuple[dict[str, Any], list[str]]:
    """The figures of a row, and what is wrong, a line each."""
    record, faults = built(folder, corpus)
    searched = [search(corpus, fact) for fact in truth]
    asked = ask(corpus, truth, reader)
    faults += [fault for fault, _ in (*searched, *asked) if fault]
    ranks = [rank for _, rank in searched]
    record |= {"questions": len(truth), "reader": reader, "read": _PASSAGES}
    record |= {"search": {str(k): sum(0 < rank <= k for rank in ranks) for k in (1, 5, 20)}}
    record |= {"search_right": sum(not fault for fault, _ in searched)}
    record |= {"evidence_right": sum(not fault for fault, _ in asked), "answers": sum(a for _, a in asked)}
    record |= {"places": dict(Counter("+".join(fact["where"]) or "file" for fact in truth))}
    return record, faults


def built(folder: Path, to: Path) -> tuple[dict[str, Any], list[str]]:
    """Build a corpus; the memory of this process and of the largest worker up to here; files not heard of."""
    with Corpus.build([folder], to) as corpus:
        peaks = [1024 * resource.getrusage(who).ru_maxrss for who in _PROCESSES]
        report, info = corpus.report, corpus.info()
        assert report is not None
        read = {split(passage.source)[0] for passage in corpus}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    left_out = dict(info.skipped_files)
    # Of a document without a passage, such as pictures of pages, a note says why.
    reasons = {**dict(info.notes), **left_out}
    held = {name for name in names if any(f"{source}/".startswith(f"{name}/") for source in read)}
    silent = [name for name in names if name not in held and not reasons.get(name)]
    faults = [f"{name}: neither read nor left out with a reason" for name in silent]
    faults += [f"{name}: read, and left out: {left_out[name]}" for name in sorted(held & left_out.keys())]
    kinds = Counter(name.partition("/")[0] for name in names)
    record: dict[str, Any] = {"files": len(names), "kinds": len(kinds), "files_read": len(held)}
    record |= {"left_out": Counter(reasons[name] for name in names if name not in held and name in reasons)}
    record |= {"documents": info.documents, "passages": info.passages, "seconds": report.seconds}
    record |= {"megabytes": sum((folder / name).stat().st_size for name in names) / 1e6}
    record |= dict(zip(("peak_bytes", "worker_peak_bytes"), peaks, strict=True))
    return record | {"bytes_on_disk": info.bytes_on_disk, "notes": len(info.notes)}, faults


def search(directory: Path, fact: Truth) -> tuple[str, int]:
    """What is wrong with the passage that holds a fact, as it was found; and its rank, 0 where it wasn't."""
    with Corpus.open(directory) as corpus:
        for rank, hit in enumerate(corpus.search(fact["question"], _PASSAGES), start=1):
            if fact["sentence"] in _flat(hit.passage.text):
                where = corpus.place(hit.passage.source).labels()
                return said(directory, fact, hit.passage.source, where, "search"), rank
    return f"search, {fact['source']}: not among {_PASSAGES} passages: {fact['question']}", 0


def ask(directory: Path, truth: list[Truth], reader: str) -> list[tuple[str, bool]]:
    """What is wrong with the evidence of each fact; whether the answer is right."""
    found = []
    with Answerer.open(str(directory), reader) as qa:
        for fact in truth:
            answer = qa.answer(fact["question"], _PASSAGES)
            right = _flat(answer.text or answer.guess) == fact["answer"]
            found.append((evidence(directory, fact, [piece.to_json() for piece in answer.evidence]), right))
    return found


def evidence(directory: Path, fact: Truth, pieces: list[dict[str, Any]]) -> str:
    """What is wrong with the piece of evidence that holds a fact."""
    for piece in pieces:
        if fact["sentence"] not in _flat(piece["text"]):
            continue
        fault = said(directory, fact, piece["source"], piece["where"], "evidence")
        if not fault and piece["sentence"] and piece["span"]:
            name, (start, end) = split(piece["source"])[0], piece["span"]
            quoted = shown(f"{name}:{start}-{end}", directory)["text"]
            if quoted not in piece["sentence"]:
                fault = f"evidence, {fact['source']}: characters {start}-{end} are {quoted!r}, not the answer"
        return fault
    return f"evidence, {fact['source']}: in none of {len(pieces)} passages: {fact['question']}"


def said(directory: Path, fact: Truth, source: str, where: dict[str, str], of: str) -> str:
    """What is wrong with the document, the place or the characters that are named."""
    name, _ = split(source)
    if name != fact["source"]:
        return f"{of}, {fact['source']}: found in {name}"
    text = shown(source, directory)["text"]
    if fact["sentence"] not in _flat(text):
        return f"{of}, {source}: its characters don't hold the sentence"
    if (place := exact(directory, fact, source, text)) and place != fact["where"]:
        return f"{of}, {source}: the sentence stands at {place}, expected {fact['where']}"
    wrong = {kind: label for kind, label in fact["where"].items() if not _holds(where.get(kind, ""), label)}
    return f"{of}, {source}: the place is {where}, expected {wrong}" if wrong else ""


def exact(directory: Path, fact: Truth, source: str, text: str) -> dict[str, str]:
    """The place of the sentence's own characters, of the kinds that are known."""
    _, span = split(source)
    assert span is not None
    found = re.search(r"\s+".join(map(re.escape, fact["sentence"].split())), text)
    assert found is not None
    start, end = (span[0] + at for at in found.span())
    where = shown(f"{split(source)[0]}:{start}-{end}", directory)["where"]
    return {kind: where.get(kind, "") for kind in fact["where"]}


def shown(source: str, directory: Path) -> dict[str, Any]:
    """What `fidkit show --json` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run(["show", source, "--in", str(directory), "--json"])
    if code:
        raise RuntimeError(f"fidkit show {source}: exit code {code}")
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def _holds(label: str, wanted: str) -> bool:
    """Whether a label is the one that is wanted, or a range that holds it: rows 3-9 of a passage."""
    if label == wanted:
        return True
    first, dash, last = label.partition("-")
    return (
        bool(dash)
        and all(map(str.isdecimal, (first, last, wanted)))
        and int(first) <= int(wanted) <= int(last)
    )


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
