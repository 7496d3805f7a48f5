"""Faults of readers, of the database, of other servers and of clients."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from faults.servers import Given, Server, right, served, under_load, until
from fidkit import Corpus, assets

Row = dict[str, Any]
_AWAY_SECONDS = 10.0


def reader_swapped(given: Given) -> Row:
    """The directory of the reader is replaced by another, three times."""
    reader = shutil.copytree(assets.reader("pocket"), given.scratch / "reader")
    answers = right(given, [str(given.corpus)])
    with (
        served(str(given.corpus), "--reader", f"own={reader}") as server,
        under_load(given, server) as load,
    ):
        waited = []
        for number in range(3):
            other = shutil.copytree(assets.reader("pocket"), given.scratch / f"other-{number}")
            reader.rename(given.scratch / f"before-{number}")
            other.rename(reader)
            waited.append(until(partial(_has_taken_up, server, number + 1)))
            load.settle()
    return {**load.seen.record(answers), "taken_up_s": max(waited), "swaps": len(waited)}


def _has_taken_up(server: Server, times: int) -> bool:
    return server.says().count("answers from now on") == times


def database_gone(given: Given) -> Row:
    """PostgreSQL is gone for ten seconds; the server has a replica."""
    return _database_gone(given, "")


def database_gone_without_replica(given: Given) -> Row:
    """The same where the database is asked with every question."""
    return _database_gone(given, "&replica=none")


def _database_gone(given: Given, way: str) -> Row:
    import random

    import postgres

    with postgres.server() as database:
        url = f"{database.uri}{'&' if '?' in database.uri else '?'}corpus=faults{way}"
        Corpus.build([str(given.folder / "passages.jsonl")], to=url).close()
        with served(url) as server, under_load(given, server) as load:
            database.kill(random.Random(3))
            time.sleep(_AWAY_SECONDS)
            database.start()
            again = load.settle()
        answers = right(given, [url])
    return {**load.seen.record(answers), "away_s": _AWAY_SECONDS, "answered_again_s": again}


def two_servers(given: Given) -> Row:
    """A second server of the same folder, and one on the same port."""
    answers = right(given, [str(given.folder)])
    with served(str(given.folder)) as server, under_load(given, server) as load:
        port = str(urlsplit(server.url).port)
        refused = subprocess.run(
            [sys.executable, "-m", "fidkit", "serve", str(given.folder), "--port", port],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        with served(str(given.folder)) as other, under_load(given, other) as of_other:
            server.add("light.md", b"The lighthouse of Skellan is kept by Nora Fahy.")
            until(lambda: server.added("light.md") == "indexed")
            seen_there = until(lambda: other.added("light.md") == "indexed")
            answers = right(given, [str(given.folder)], answers)
            httpx.delete(f"{other.url}/v1/documents/light.md")
            until(lambda: not server.added("light.md"))
            load.settle()
    load.seen.add(of_other.seen)
    return {**load.seen.record(answers), "same_port": refused.returncode,
            "said": refused.stderr.strip().splitlines()[-1], "seen_by_the_other_s": seen_there}  # fmt: skip


def slow_clients(given: Given) -> Row:
    """Forty clients that read slowly, send slowly, or leave in the middle of a stream."""
    answers = right(given, [str(given.corpus)])
    with served(str(given.corpus)) as server, under_load(given, server) as load:
        before, over = server.memory_mb(), threading.Event()
        kinds = (_leave, _read_slowly, _send_slowly, _listen)
        threads = [
            threading.Thread(target=kinds[number % len(kinds)], args=(server, given.asked[0], over))
            for number in range(40)
        ]
        for thread in threads:
            thread.start()
        load.settle(10 * 8, 40)
        peak = server.memory_mb()
        over.set()
        for thread in threads:
            thread.join()
        load.settle()
        state = server.get("/readyz")
    most = state["waiting"] + state["running"]
    return {**load.seen.record(answers), "mb_before": before, "mb": peak, "under_way_after": most}


def _request(question: str) -> bytes:
    body = json.dumps({"question": question, "passages": 20, "stream": True}).encode()
    head = f"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def _connected(server: Server) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=30)


def _leave(server: Server, question: str, over: threading.Event) -> None:
    """Ask, read the first bytes of the stream, and go."""
    while not over.is_set():
        with _connected(server) as connection:
            connection.sendall(_request(question))
            connection.recv(100)
        over.wait(0.5)


def _read_slowly(server: Server, question: str, over: threading.Event) -> None:
    """Ask, and take a few bytes a second."""
    with _connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(_request(question))
        while not over.wait(1):
            try:
                connection.recv(16)
            except OSError:
                return


def _send_slowly(server: Server, question: str, over: threading.Event) -> None:
    """Send a byte a second."""
    with _connected(server) as connection:
        for byte in _request(question):
            if over.wait(1):
                return
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                return


def _listen(server: Server, _question: str, over: threading.Event) -> None:
    """Listen to events and never read them."""
    with _connected(server) as connection:
        connection.sendall(b"GET /v1/documents/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        over.wait()
