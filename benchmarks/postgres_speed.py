"""How fast a corpus in PostgreSQL is: written, followed by replicas, searched; see `postgres.py speed`."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import psycopg

from fidkit.engine.meaning import minilm
from fidkit.passages import Corpus
from fidkit.passages.local.corpus import By
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.postgres.address import address_of
from fidkit.passages.postgres.build import build
from fidkit.passages.postgres.database import Database
from fidkit.passages.postgres.log import Log
from fidkit.passages.postgres.sharing import share
from fidkit.types import Hit, Passage

T = TypeVar("T")

WAYS: tuple[By, ...] = get_args(By)
_FILE = 250  # passages of a file
_HITS, _FEW = 20, 100


def speed(
    uri: str, data: Path, count: int, known: Path | None, scratch: Path
) -> tuple[dict[str, Any], list[str]]:
    folder, questions, encoder = scratch / "sources", _questions(data), _encoder(known)
    files = _written(folder, data, count)
    os.environ["FIDKIT_HOME"] = str(scratch / "one")
    record: dict[str, Any] = {"passages": count, "files": len(files), "questions": len(questions)}
    record["local_build_s"], local = _took(
        lambda: Corpus.build(folder, scratch / "local", encoder=encoder, vectors=True)
    )
    database = Database(address_of(uri))
    log = Log(database)
    record["load_s"], _ = _took(lambda: build(log, [folder], vectors=True))
    record["without_vectors_s"], without = _took(lambda: Corpus.open(uri))
    without.close()
    record["share_s"], _ = _took(lambda: share(log, None, encoder, None))
    os.environ["FIDKIT_HOME"] = str(scratch / "two")
    record["first_s"], replica = _took(lambda: Corpus.open(uri, encoder))
    faults = _compared("a directory", local, replica, questions)
    record["search"] = {"local": _timed(local, questions), "replica": _timed(replica, questions)}
    changed = random.Random(0).sample(files, max(1, len(files) // 100))
    for file in changed:
        lines = file.read_text("utf-8").splitlines()
        file.write_text("\n".join(line.replace("the", "that", 1) for line in lines[1:]), "utf-8")
    record["change_s"], changes = _took(lambda: build(log, [folder]))
    record["changed_files"] = changes.files_read
    record["change_share_s"], _ = _took(
        lambda: share(log, replica._replica, encoder, None)  # type: ignore[attr-defined]
    )
    record["catch_up_s"], _ = _took(replica.refresh)
    replica._replica.settle()  # type: ignore[attr-defined]
    os.environ["FIDKIT_HOME"] = str(scratch / "three")
    second = Corpus.open(uri, encoder)
    faults += _compared("a second replica", second, replica, questions)
    record |= {
        "database_bytes": _bytes(database, "pg_database_size(current_database())"),
        "vector_bytes": _bytes(database, "pg_total_relation_size('fidkit.vectors')"),
        "replica_bytes": replica.info().bytes_on_disk,
        "faults": len(faults),
        "differences": list(faults),
    }
    record["server"] = _served(uri, folder, encoder, replica, database, questions[:_FEW])
    for corpus in (local, replica, second):
        corpus.close()
    database.close()
    return record, faults


def _served(
    uri: str, folder: Path, encoder: EncoderSource, replica: Corpus, database: Database, questions: list[str]
) -> dict[str, Any]:
    """How fast the server searches, and how much of what a replica finds by meaning it finds."""
    url = f"{uri}&replica=none"
    made_s, corpus = _took(lambda: Corpus.build(folder, url, encoder=encoder))
    found: dict[str, Any] = {"made_s": made_s, "search": _timed(corpus, questions)}
    wanted = [_ids(replica.search(question, _HITS, "meaning")) for question in questions]
    shares = [
        len(ids & _ids(corpus.search(question, _HITS, "meaning"))) / max(1, len(ids))
        for question, ids in zip(questions, wanted, strict=True)
    ]
    found |= {"questions": len(questions), "recall": statistics.mean(shares)}
    found["bytes"] = _bytes(database, "pg_total_relation_size('fidkit.by_meaning')")
    # What an index would bring, which isn't exact and knows no filters; fidkit makes none.
    width = replica.info().vectors["dimension"]  # type: ignore[index]
    index = (
        f"CREATE INDEX by_hnsw ON fidkit.by_meaning USING hnsw ((vector::halfvec({width})) halfvec_ip_ops)"
    )
    with psycopg.connect(database.address.conninfo, autocommit=True) as sql:
        sql.execute("SET maintenance_work_mem = '512MB'")
        found["hnsw_made_s"], _ = _took(lambda: sql.execute(index))
        found["hnsw_bytes"] = _bytes(database, "pg_relation_size('fidkit.by_hnsw')")
        found["hnsw"] = [_with_hnsw(sql, corpus, encoder, width, questions, n) for n in (100, 400)]
    corpus.close()
    return found


def _with_hnsw(
    sql: psycopg.Connection, corpus: Corpus, encoder: EncoderSource, width: int, questions: list[str], ef: int
) -> dict[str, float]:
    near = f"vector::halfvec({width}) <#> %s::halfvec({width})"
    exact = "SELECT row FROM fidkit.by_meaning ORDER BY vector <#> %s::halfvec, row LIMIT %s"
    sql.execute(f"SET hnsw.ef_search = {ef}")
    times, shares = [], []
    for vector in encoder().of_questions(questions).tolist():
        query = f"SELECT row FROM fidkit.by_meaning ORDER BY {near} LIMIT %s"
        took, rows = _took(partial(_rows, sql, query, str(vector)))
        wanted = set(sql.execute(exact, (str(vector), _HITS)).fetchall())
        times.append(1000 * took)
        shares.append(len(wanted & set(rows)) / _HITS)
    return {"ef": ef, "median_ms": statistics.median(times), "recall": statistics.mean(shares)}


def _rows(sql: psycopg.Connection, query: str, vector: str) -> list[Any]:
    return sql.execute(query, (vector, _HITS)).fetchall()


def _took(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    done = work()
    return time.perf_counter() - began, done


def _bytes(database: Database, what: str) -> int:
    found = database.run(lambda sql: sql.execute(f"SELECT {what}").fetchone())
    assert found is not None
    return int(found[0])


def _ids(hits: Sequence[Hit]) -> set[str]:
    return {hit.passage.id for hit in hits}


def _encoder(known: Path | None) -> EncoderSource:
    """MiniLM; with vectors that a corpus has already in the place of encoding them again."""
    if known is None:
        return minilm
    from fidkit.passages.local.catalogue import Catalogue
    from fidkit.passages.search.vector_writer import VectorMaker
    from fidkit.passages.search.vectors import Vectors, joined

    with closing(Catalogue.for_reading(known)) as catalogue:
        _, name = catalogue.names()
    found = Vectors(known / name)
    maker = VectorMaker(found.require(minilm()), found.shards)

    def apart(passages: Sequence[Passage]) -> Any:
        made = joined(maker.entries([(at, one.title, one.text) for at, one in enumerate(passages)]))
        return made.vectors * made.scales[:, None]

    encoder = replace(minilm(), apart=apart)
    return lambda: encoder


def _questions(data: Path, count: int = 300) -> list[str]:
    with gzip.open(data / "qa" / "dev.squad.jsonl.gz", "rt") as stream:
        return [json.loads(line)["question"] for line in itertools.islice(stream, count)]


def _written(folder: Path, data: Path, count: int) -> list[Path]:
    """Passages of the data, as files of a few hundred."""
    folder.mkdir()
    files: list[Path] = []
    with gzip.open(data / "corpus" / "passages-00.jsonl.gz", "rt") as stream:
        lines = itertools.islice(stream, count)
        while some := list(itertools.islice(lines, _FILE)):
            files.append(folder / f"{len(files):05}.jsonl")
            files[-1].write_text("".join(some), "utf-8")
    return files


def _timed(corpus: Corpus, questions: list[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for by in WAYS:
        for question in questions[:3]:
            corpus.search(question, _HITS, by)
        times = [1000 * _took(partial(corpus.search, question, _HITS, by))[0] for question in questions]
        found[by] = {"median_ms": statistics.median(times), "p95_ms": statistics.quantiles(times, n=20)[-1]}
    return found


def _compared(what: str, other: Corpus, replica: Corpus, questions: list[str]) -> list[str]:
    faults = [] if other.fingerprint == replica.fingerprint else [f"{what}: another fingerprint"]
    for by in WAYS:
        pairs = (
            (other.search(question, _HITS, by), replica.search(question, _HITS, by)) for question in questions
        )
        if different := sum(one != two for one, two in pairs):
            faults.append(f"{what}: {different} of {len(questions)} searches by {by} differ")
    return faults
