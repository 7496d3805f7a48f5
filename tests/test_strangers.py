"""A corpus, a checkpoint and a memory from a stranger: every file and field of them with hostile values.

Whatever they hold, nothing outside their directory changes, no code of theirs runs, nothing waits for ever or
takes all RAM, and what is raised is an error with a message.
"""

import json
import os
import resource
import shutil
import signal
import sqlite3
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fidkit import Answerer, Corpus, Reader
from fidkit.convert.foreign import load as convert
from fidkit.errors import FidkitError
from fidkit.memory import MemoryStore, MemoryWriter
from fidkit.passages.token_cache import TokenCache, passage_key
from fidkit.precompute import Options, build, repair
from fidkit.preset import named
from fidkit.tokens import Tokenizer
from fidkit.types import Passage

Choose = Callable[[int], Any]
"""Which value a field gets, by its number."""
SECONDS, BYTES = 60, 6 << 30
QUESTION = "where is the harbour lamp?"
OUTSIDE = "../../canary.txt"
VALUES = [OUTSIDE, 2**63 - 1, b"\xff\0"]
MORE_VALUES = ["/etc/passwd", "..", "", "a\0b", "x" * 5000, -1, 0, 1.5, None]


class World:
    """Somebody's folder with a canary, and in it what a stranger gave: `corpus` with a memory, `reader`.

    The reader that somebody asks is their own, and the same in all worlds.
    """

    def __init__(self, path: Path, own: Path, reading: Reader) -> None:
        self.path, self.own, self.reading = path, own, reading
        self.corpus, self.reader, self.docs = path / "corpus", path / "reader", path / "docs"
        self.memory = self.corpus / "memory"
        self.before = self.outside()

    def outside(self) -> dict[str, Any]:
        """All that isn't the stranger's: names, kinds and contents."""
        theirs = (self.corpus, self.reader)
        paths = [p for p in self.path.rglob("*") if not any(t == p or t in p.parents for t in theirs)]
        return {str(p): p.read_bytes() if p.is_file() else None for p in paths}

    # What people do with it; each is over in a moment.

    def search(self) -> None:
        with Corpus.open(self.corpus) as corpus:
            corpus.info()
            len(corpus)
            hits = corpus.search(QUESTION, 3)
            corpus.get([hit.passage.id for hit in hits])
            list(corpus)

    def rebuild(self) -> None:
        (self.docs / "new.txt").write_text("A new harbour.\n")
        try:
            Corpus.build(self.docs, self.corpus).close()
        finally:
            (self.docs / "new.txt").unlink()

    def cache(self) -> None:
        with Corpus.open(self.corpus) as corpus:
            found = list(corpus)
            cache = TokenCache(corpus.derived, "key")
            assert cache.get(found, lambda some: [[3]] * len(some), 10) == [[3]] * len(found)
            cache.close()

    def fetch(self) -> None:
        with MemoryStore.open(self.corpus) as store, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that rows are encoded afresh
            store.info.to_json()
            store.get(KEYS, torch.float32)
            store.check()

    def ask(self) -> None:
        with warnings.catch_warnings(), Answerer.open(self.corpus, self.reading, "cpu", "float32") as qa:
            warnings.simplefilter("ignore")
            qa.answer(QUESTION, 3, max_new_tokens=2)

    def change(self) -> None:
        with MemoryWriter.opened(self.corpus) as writer:
            writer.sweep()
            writer.keep_only(KEYS[:1])
            writer.compact()
            list(writer.missing(KEYS))

    def repair(self) -> None:
        repair(self.corpus)

    def build(self) -> None:
        with Corpus.open(self.corpus) as corpus:
            build(corpus, self.own, Options(device="cpu", precision="float32"))

    def load(self) -> None:
        with Answerer(Reader.from_pretrained(self.reader), device="cpu", precision="float32") as qa:
            qa.read(QUESTION, [Passage("1", "Title", "The harbour lamp.")], max_new_tokens=2)
        convert(self.reader)

    def save(self) -> None:
        self.reading.save_pretrained(self.reader)


CORPUS = (World.search, World.cache, World.ask, World.rebuild)
MEMORY = (World.fetch, World.ask, World.repair, World.change)
KEYS = [passage_key(Passage("", "", ""))]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reader]:
    """The reader that somebody asks, as a directory and loaded."""
    directory = tmp_path_factory.mktemp("own") / "reader"
    config = named("tiny-lumen")
    reader = Reader(config, Tokenizer.bundled(config)).eval()
    reader.reset_parameters(torch.Generator().manual_seed(0))
    reader.save_pretrained(directory)
    return directory, reader


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, own: tuple[Path, Reader]) -> Path:
    base = tmp_path_factory.mktemp("original")
    (base / "docs").mkdir()
    (base / "canary.txt").write_text("alive")
    for number, text in enumerate(("The harbour lamp is red.", "A market of salt.", "Copper in the garden.")):
        (base / "docs" / f"{number}.txt").write_text(text)
    with Corpus.build(base / "docs", base / "corpus") as corpus:
        KEYS[:] = [passage_key(passage) for passage in corpus]
        TokenCache(corpus.derived, "key").get(list(corpus), lambda some: [[3]] * len(some))
        build(corpus, own[0], Options(device="cpu", precision="float32"))
    return base


@pytest.fixture
def make(original: Path, own: tuple[Path, Reader], tmp_path: Path) -> Iterator[Callable[[], World]]:
    """A new world each time, in the place of the one before; a little room around it for `../..`."""
    path = tmp_path / "room" / "world"

    def made() -> World:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(original, path, symlinks=True)
        return World(path, *own)

    yield made
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def given_reader(make: Callable[[], World]) -> Callable[[], World]:
    """A new world in which the stranger gave a reader, too."""

    def made() -> World:
        world = make()
        shutil.copytree(world.own, world.reader)
        return world

    return made


@contextmanager
def bounded() -> Iterator[None]:
    """What takes too long, or too much RAM, fails here and not the machine."""

    def late(*_: object) -> None:
        raise AssertionError(f"took more than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limits, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def use(world: World, what: tuple[Callable[[World], None], ...], case: object) -> list[str]:
    """Do it all; what the errors said. Only fidkit's are good, and nothing outside may change."""
    said = []
    for act in what:
        try:
            with bounded():
                act(world)
        except FidkitError as error:
            said.append(str(error))
        except BaseException as error:
            raise AssertionError(f"{case}: {act.__name__} raised {type(error).__name__}: {error}") from error
        assert all(said), case
        assert world.outside() == world.before, f"{case}: {act.__name__} changed what lies outside"
    return said


# Files that are something else


def link(path: Path) -> None:
    path.symlink_to(path.parent / os.path.relpath(world_of(path) / "canary.txt", path.parent))


def dangling(path: Path) -> None:
    path.symlink_to(world_of(path) / "made.txt")


def link_to_folder(path: Path) -> None:
    path.symlink_to(world_of(path) / "docs")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inner").write_text("")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def world_of(path: Path) -> Path:
    return next(above for above in path.parents if above.name == "world")


INSTEAD: dict[str, Callable[[Path], Any]] = {
    "link": link,
    "dangling link": dangling,
    "link to a folder": link_to_folder,
    "folder": folder,
    "pipe": os.mkfifo,
    "device": device,
    "nothing in it": Path.touch,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "nested": lambda path: path.write_text("[" * 100_000),
    "huge header": lambda path: path.write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}" * 600),
}


EACH_KIND = pytest.mark.parametrize(
    ("kind", "some"),
    [
        *((kind, slice(number % 3, None, 3)) for number, kind in enumerate(INSTEAD)),
        *(pytest.param(kind, slice(None), marks=pytest.mark.slow) for kind in INSTEAD),
    ],
)
"""Every file is something else of a third of these kinds in turn; in slow tests, of each."""


def replace(path: Path, kind: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    INSTEAD[kind](path)


@EACH_KIND
def test_each_file_of_a_corpus_is_something_else(make, kind: str, some: slice) -> None:
    names = [
        "catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm", "catalogue.sqlite-journal",
        "tokens.sqlite", "tokens.sqlite-wal", "writer.lock", "lexical-1", "lexical-1/meta.json",
        "lexical-1/.managed.json", "lexical-1/.tantivy-meta.lock", "lexical-9",
    ]  # fmt: skip
    for name in names[some]:
        world = make()
        replace(world.corpus / name, kind)
        use(world, CORPUS, (name, kind))


@EACH_KIND
def test_each_file_of_a_memory_is_something_else(make, kind: str, some: slice) -> None:
    shard = next(make().memory.glob("shard-*")).name
    names = [
        "manifest.sqlite", "manifest.sqlite-wal", "manifest.sqlite-journal", shard, "codec.safetensors",
        "units", "units/plan.json", "units/unit-000001.safetensors", "writer.lock", "shard-x.part",
    ]  # fmt: skip
    for name in names[some]:
        world = make()
        (world.memory / name).parent.mkdir(exist_ok=True)
        replace(world.memory / name, kind)
        use(world, (*MEMORY, World.build) if "unit" in name else MEMORY, (name, kind))


@EACH_KIND
def test_each_file_of_a_checkpoint_is_something_else(given_reader, kind: str, some: slice) -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json", f".config.json.{os.getpid()}"]
    for name in names[some]:
        world = given_reader()
        replace(world.reader / name, kind)
        use(world, (World.load, World.save), (name, kind))


def test_a_memory_that_is_a_link_is_not_built_through_it(make) -> None:
    world = make()
    world.memory.rename(world.path / "elsewhere")
    (world.path / "elsewhere" / "shard-own.part").write_text("")
    world.memory.symlink_to(world.path / "elsewhere")
    world.before = world.outside()
    assert all("is a link" in said for said in use(world, (World.build, World.repair, World.change), "link"))


# Fields of databases


def all_of(values: list[Any], more: list[Any]) -> Any:
    """Every field gets one of `values` in turn; slow tests give every field each of these, and of `more`."""
    choices = [pytest.param(lambda number: values[number % len(values)], id="in turn")]
    for value in (*values, *more):
        always = pytest.param(lambda _, value=value: value, id=repr(value)[:20], marks=pytest.mark.slow)
        choices.append(always)
    return pytest.mark.parametrize("choose", choices)


def columns(file: Path) -> list[tuple[str, str, str]]:
    """(table, column, condition): each column, and each key's value where a table is of keys and values."""
    with sqlite3.connect(file) as sql:
        tables = [name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = [(t, row[1], "1") for t in tables for row in sql.execute(f"PRAGMA table_info({t})")]
        keys = [k for (k,) in sql.execute("SELECT key FROM meta")] if "meta" in tables else []
    sql.close()
    return [f for f in found if f[0] not in ("meta", "sqlite_sequence")] + [
        ("meta", "value", f"key = '{k}'") for k in keys
    ]


def put(file: Path, table: str, column: str, where: str, value: Any) -> bool:
    """Write a value where the schema lets anybody; whether it could be."""
    sql = sqlite3.connect(file, isolation_level=None)
    try:
        if table == "loose":
            sql.execute("INSERT INTO loose VALUES (?)", (value,))
        else:
            sql.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
    except sqlite3.Error:
        return False
    finally:
        sql.close()
    return True


FILES = {
    "catalogue.sqlite": CORPUS,
    "tokens.sqlite": (World.cache, World.ask),
    "memory/manifest.sqlite": MEMORY,
}


@pytest.mark.parametrize("name", FILES)
@all_of(VALUES, MORE_VALUES)
def test_each_field_of_a_database_is_hostile(make, original: Path, name: str, choose: Choose) -> None:
    tried = 0
    for number, (table, column, where) in enumerate(columns(original / "corpus" / name)):
        world, value = make(), choose(number)
        if put(world.corpus / name, table, column, where, value):
            use(world, FILES[name], (table, column, where, value))
            tried += 1
    assert tried or choose(0) is None or name == "tokens.sqlite"


def test_a_loose_row_deletes_nothing_elsewhere(make) -> None:
    world = make()
    put(world.memory / "manifest.sqlite", "loose", "name", "1", OUTSIDE)
    said = use(world, (World.change, World.build, World.repair), "loose")
    assert any("is not the name of a shard" in line for line in said)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END",
        "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT * FROM n",
        "CREATE INDEX i ON {table} (length({column}))",
        "CREATE TABLE other (x DEFAULT (randomblob(1000000)))",
    ],
)
def test_a_database_with_code_in_it_is_refused(make, name: str, sql: str) -> None:
    world = make()
    table, column, _ = columns(world.corpus / name)[0]
    with sqlite3.connect(world.corpus / name) as connection:
        connection.execute(sql.format(table=table, column=column))
    connection.close()
    said = use(world, FILES[name], sql)
    assert name == "tokens.sqlite" or all("is none of its own" in line for line in said)
    assert len(said) == (0 if name == "tokens.sqlite" else len(FILES[name]))


def journal_that_names(victim: Path, file: Path) -> bytes:
    """As a transaction over several files leaves one: SQLite rolls it back and deletes that file."""
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(victim).encode()
    (page,) = struct.unpack(">H", file.read_bytes()[16:18])
    header = magic + struct.pack(">5I", 0, 0, file.stat().st_size // page, 512, page)
    named = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">2I", len(name), sum(name))
    return header.ljust(512, b"\0") + named + magic


@pytest.mark.parametrize("name", FILES)
def test_a_journal_deletes_no_other_file(make, name: str) -> None:
    world = make()
    file = world.corpus / name
    journal = journal_that_names(world.path / "canary.txt", file)
    file.with_name(file.name + "-journal").write_bytes(journal)
    said = use(world, FILES[name], "journal")
    assert name == "tokens.sqlite" or all("names another file" in line for line in said)
    with sqlite3.connect(file) as sql:  # whoever trusts the file
        sql.execute("SELECT * FROM sqlite_master").fetchall()
    sql.close()
    assert not (world.path / "canary.txt").exists()


# Fields of JSON


def leaves(record: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def spoil(file: Path, path: tuple[Any, ...], value: Any) -> None:
    record = json.loads(file.read_bytes())
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(record))


JSON_VALUES = [OUTSIDE, -1, None]
MORE_JSON_VALUES = ["", "\ud800", 0, 2**63 - 1, 10**400, 1.5, True, [], {}, [[[]]]]


@all_of(JSON_VALUES, MORE_JSON_VALUES)
def test_each_field_of_a_config_is_hostile(given_reader, choose: Choose) -> None:
    world = given_reader()
    for number, path in enumerate(leaves(json.loads((world.own / "config.json").read_bytes()))):
        shutil.copyfile(world.own / "config.json", world.reader / "config.json")
        spoil(world.reader / "config.json", path, choose(number))
        use(world, (World.load,), (path, choose(number)))


@pytest.mark.parametrize("file", ["meta.json", ".managed.json"])
@all_of(JSON_VALUES, MORE_JSON_VALUES)
def test_each_field_of_an_index_is_hostile(make, original: Path, file: str, choose: Choose) -> None:
    given = json.loads((original / "corpus" / "lexical-1" / file).read_bytes())
    for number, path in enumerate(leaves(given)):
        world, value = make(), choose(number)
        spoil(world.corpus / "lexical-1" / file, path, value)
        use(world, (World.search, World.rebuild), (path, value))


def test_an_index_does_not_delete_what_it_lists(make) -> None:
    world = make()
    (world.corpus / "lexical-1" / ".managed.json").write_text(json.dumps(["meta.json", "../../canary.txt"]))
    said = use(world, (World.search, World.rebuild), "managed")
    assert any("names files elsewhere" in line for line in said)


# Work that is planned


def plan(world: World) -> Path:
    """A build that was ended before its first shard."""

    def stop(_: object) -> None:
        raise FidkitError("stopped")

    shutil.rmtree(world.memory)
    with pytest.raises(FidkitError, match="stopped"), Corpus.open(world.corpus) as corpus:
        build(corpus, world.own, Options(device="cpu", precision="float32"), agree=stop)
    return world.memory / "units"


@all_of([OUTSIDE], [-1, 2**63 - 1, None, []])
def test_each_field_of_a_plan_is_hostile(make, choose: Choose) -> None:
    world = make()
    units = plan(world)
    shutil.copytree(units, world.path / "kept")
    shutil.copyfile(units / "unit-000001.safetensors", world.path / "canary.safetensors")
    world.before = world.outside()
    for number, path in enumerate(leaves(json.loads((world.path / "kept" / "plan.json").read_bytes()))):
        value = choose(number)
        shutil.rmtree(world.memory)
        shutil.copytree(world.path / "kept", units)
        given = "../../../canary.safetensors" if value == OUTSIDE else value
        spoil(units / "plan.json", path, given)
        use(world, (World.build,), (path, value))


# Headers of tensors


def header(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    packed = file.read_bytes()
    (size,) = struct.unpack_from("<Q", packed)
    facts = json.loads(packed[8 : 8 + size])
    change(facts)
    text = json.dumps(facts, separators=(",", ":")).encode().ljust(size)
    file.write_bytes(struct.pack("<Q", len(text)) + text + packed[8 + size :])


TENSOR_VALUES: list[tuple[str, Any]] = [
    ("shape", [2**40, 2**40]), ("shape", [-1, -1]), ("shape", ["x"]), ("shape", []), ("shape", None),
    ("shape", [True]), ("data_offsets", [-5, 5]), ("data_offsets", [2**63, 2**63 + 8]),
    ("data_offsets", [8, 0]), ("dtype", "../x"), ("dtype", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), TENSOR_VALUES)
def test_headers_of_tensors_are_hostile(given_reader, field: str, value: Any) -> None:
    world = given_reader()
    shard = next(world.memory.glob("shard-*"))

    def change(facts: dict[str, Any]) -> None:
        name = next(name for name in facts if name != "__metadata__" and name != "checks")
        facts[name][field] = value

    header(world.reader / "model.safetensors", change)
    header(shard, change)
    assert use(world, (World.load,), (field, value))
    use(world, MEMORY, (field, value))


@pytest.mark.parametrize("field", ["format_version", "fingerprint", "codec", "codebooks", "check", "format"])
@all_of([OUTSIDE, "9" * 300], [-1, None, [], {}])
def test_facts_of_a_shard_are_hostile(make, field: str, choose: Choose) -> None:
    world, value = make(), choose(len(field))
    header(next(world.memory.glob("shard-*")), lambda facts: facts["__metadata__"].update({field: value}))
    use(world, MEMORY, (field, value))


def test_cached_tokens_beyond_the_vocabulary_are_not_taken(make) -> None:
    world = make()
    put(world.corpus / "tokens.sqlite", "tokens", "ids", "1", b"\x04\xff\xff\xff\xff")
    assert use(world, (World.cache,), "ids") == []
