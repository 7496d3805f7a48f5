"""Builds a corpus of a folder and of the same files in an object store, by this machine and by Ray.

    python benchmarks/object_store.py [--files 2000] [--without-ray]

The store is moto's server in a process of its own on this machine, so there is no network between, and one
process answers all that is asked. Each build is followed by one of which nothing changed. Ray is started
before it is timed, as a cluster that runs would be. All four corpora have to have the same passages, or this
fails. Appends a row to benchmarks/results/corpora.jsonl.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import corpora
import rows

from fidkit.cluster import By, joined
from fidkit.passages import Corpus

_BUCKET = "documents"
_TRUSTED_SECONDS = 2.5  # files written later than that before a build are looked at again by the next
_STARTS_WITHIN = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--without-ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, store():
        work = Path(folder)
        corpora.folder(work / "in", options.files, random.Random(0))
        bytes_of_all = put(work / "in")
        time.sleep(_TRUSTED_SECONDS)
        sources = {"folder": str(work / "in"), "store": f"s3://{_BUCKET}"}
        seconds = {f"{name}-local": timed(source, work / f"{name}-local", "local")
                   for name, source in sources.items()}  # fmt: skip
        if not options.without_ray:
            with joined():
                timed(sources["folder"], work / "first", "ray")  # tasks' processes are started by it
                seconds |= {f"{name}-ray": timed(source, work / f"{name}-ray", "ray")
                            for name, source in sources.items()}  # fmt: skip
        same = {contents(work / name) for name in seconds}
    if len(same) > 1:
        sys.exit("corpora differ")
    command = f"python benchmarks/object_store.py --files {options.files}"
    command += " --without-ray" if options.without_ray else ""
    found = {"files": options.files, "bytes": bytes_of_all, "seconds": seconds, "command": command}
    rows.append(rows.RESULTS / "corpora.jsonl", rows.row("object-store", **found))


@contextmanager
def store() -> Iterator[None]:
    """A store of its own process, with an empty bucket, that the environment leads to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _STARTS_WITHIN
        while not listens(port):
            if server.poll() is not None or time.monotonic() > until:
                sys.exit("the store doesn't start; it needs `pip install 'moto[server]'`")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def put(folder: Path) -> int:
    """All files of a folder into the bucket; their bytes."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=_BUCKET)
    files = [path for path in folder.rglob("*") if path.is_file()]

    def one(path: Path) -> int:
        packed = path.read_bytes()
        client.put_object(Bucket=_BUCKET, Key=path.relative_to(folder).as_posix(), Body=packed)
        return len(packed)

    with ThreadPoolExecutor(4) as threads:
        return sum(threads.map(one, files))


def timed(source: str, to: Path, by: By) -> dict[str, float]:
    """Seconds of a build, and of another one after which nothing has changed."""
    began = time.monotonic()
    Corpus.build(source, to, by=by).close()
    built = time.monotonic()
    with Corpus.build(source, to, by=by) as corpus:
        looked = time.monotonic()
        assert corpus.report is not None
        if corpus.report.files_read:
            sys.exit(f"{source}: read again, though nothing changed")
    return {"build": round(built - began, 2), "unchanged": round(looked - built, 2)}


def contents(directory: Path) -> str:
    """What is equal for equal passages."""
    with Corpus.open(directory) as corpus:
        return corpus.fingerprint


if __name__ == "__main__":
    main()
