"""The tables in the database, made and brought up to date by numbered steps.

    corpora     a collection by name: its identity, how far its log is, the numbers that come next
    files       as in the catalogue of a directory, each with the change that it came with
    documents   numbered within their file
    passages    numbered within their file; a file says which row its first passage is
    removed     numbers of files that are gone, each with the change that took it away
    encoders    whose vectors a corpus has
    vectors     those of up to 1,024 passages of a file; they go with the file

Nothing is changed in place but where a file was found: a file that is read again gets a new number.
"""

from __future__ import annotations

from psycopg import Connection, errors

from fidkit.errors import CorpusError
from fidkit.passages.postgres.address import Address

# Who may do something with passages may do it with what is made of them.
_RIGHTS = """DO $$ DECLARE may record; BEGIN
    FOR may IN SELECT one.grantee, one.privilege_type AS what
        FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) one
        WHERE c.oid = 'fidkit.passages'::regclass
    LOOP
        EXECUTE format('GRANT %s ON {} TO %s', may.what,
            CASE may.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(may.grantee)) END);
    END LOOP; END $$"""


def rights(*tables: str) -> str:
    """The statement that gives new tables the rights that `passages` has."""
    return _RIGHTS.format(", ".join(tables))


# The step at position n makes version n + 1 of the schema.
_STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE SEQUENCE fidkit.file_numbers",
        """CREATE TABLE fidkit.corpora (
            corpus integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
            identity uuid NOT NULL DEFAULT gen_random_uuid(), format integer NOT NULL,
            sequence bigint NOT NULL DEFAULT 0, next_row bigint NOT NULL DEFAULT 1,
            next_document bigint NOT NULL DEFAULT 1, passages bigint NOT NULL DEFAULT 0,
            fingerprint bytea NOT NULL DEFAULT '\\x00000000000000000000000000000000',
            facts jsonb NOT NULL DEFAULT '{}')""",
        """CREATE TABLE fidkit.files (
            file bigint PRIMARY KEY, corpus integer NOT NULL REFERENCES fidkit.corpora, name text NOT NULL,
            path text NOT NULL, kind text NOT NULL, note text NOT NULL, size bigint NOT NULL,
            mtime_ns bigint NOT NULL, sha256 text NOT NULL, position bigint NOT NULL,
            first_row bigint NOT NULL, passages bigint NOT NULL, sum bytea NOT NULL,
            first_document bigint NOT NULL, sequence bigint NOT NULL, UNIQUE (corpus, name))""",
        "CREATE INDEX files_by_sequence ON fidkit.files (corpus, sequence)",
        "CREATE INDEX files_by_row ON fidkit.files (corpus, first_row)",
        """CREATE TABLE fidkit.documents (
            file bigint NOT NULL, number integer NOT NULL, member text NOT NULL, title text NOT NULL,
            facts text NOT NULL, notes text NOT NULL, map bytea NOT NULL, boxes bytea NOT NULL,
            text bytea NOT NULL, PRIMARY KEY (file, number))""",
        """CREATE TABLE fidkit.passages (
            file bigint NOT NULL, number bigint NOT NULL, corpus integer NOT NULL, id text NOT NULL,
            title text NOT NULL, text text NOT NULL, document integer, start_at bigint, end_at bigint,
            PRIMARY KEY (file, number), UNIQUE (corpus, id))""",
        """CREATE TABLE fidkit.removed (
            corpus integer NOT NULL, file bigint NOT NULL, sequence bigint NOT NULL,
            PRIMARY KEY (corpus, file))""",
        "CREATE INDEX removed_by_sequence ON fidkit.removed (corpus, sequence)",
    ),
    (
        """CREATE TABLE fidkit.encoders (
            corpus integer PRIMARY KEY REFERENCES fidkit.corpora ON DELETE CASCADE, name text NOT NULL,
            fingerprint text NOT NULL, dimension integer NOT NULL)""",
        """CREATE TABLE fidkit.vectors (
            file bigint NOT NULL REFERENCES fidkit.files ON DELETE CASCADE, number bigint NOT NULL,
            keys bytea NOT NULL, scales bytea NOT NULL, vectors bytea NOT NULL,
            PRIMARY KEY (file, number))""",
        # They look like noise: what tries to compress them only takes time.
        "ALTER TABLE fidkit.vectors ALTER vectors SET STORAGE EXTERNAL",
        rights("fidkit.encoders", "fidkit.vectors"),
    ),
    # What a file system tells of files beside size and time, and how often reading them failed.
    tuple(
        f"ALTER TABLE fidkit.files ADD COLUMN {column} bigint NOT NULL DEFAULT 0"
        for column in ("inode", "changed_ns", "tries", "tried_ns")
    ),
)
VERSION = len(_STEPS)
# Of the lock that whoever changes the schema holds; any number that nobody else uses.
_LOCK = 0x666964_6B69_74


def version_of(connection: Connection) -> int:
    """Which version of the schema the database has; 0 for none.

    Raises:
        psycopg.errors.InsufficientPrivilege: it may not be looked at.
    """
    found = connection.execute("SELECT to_regclass('fidkit.schema_version') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return 0
    row = connection.execute("SELECT version FROM fidkit.schema_version").fetchone()
    return 0 if row is None else int(row[0])


def prepare(connection: Connection, address: Address, *, make: bool) -> None:
    """Make sure that the tables are there, in this version; in an open transaction.

    Args:
        connection: to the database.
        address: for messages.
        make: make tables where there are none.

    Raises:
        CorpusError: no tables and none to be made, no rights to make or change them, or a newer schema.
    """
    version = version_of(connection)
    if version == VERSION:
        return
    if version == 0 and not make:
        raise CorpusError(
            f"{address.shown}: this database has no corpus; run `fidkit corpus build SOURCE --to "
            f"'{address.shown}'`"
        )
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = version_of(connection)  # somebody else may have done it meanwhile
        _require_known(version, address)
        _migrate(connection, version)
    except errors.InsufficientPrivilege as error:
        what = "make tables" if version == 0 else f"change tables of schema version {version} to {VERSION}"
        raise CorpusError(
            f"{address.shown}: this user has no right to {what} ({address.clean(error)}); have the owner of "
            "the database run `fidkit corpus info` or `build` on it once, or be granted CREATE"
        ) from error


def _require_known(version: int, address: Address) -> None:
    if version > VERSION:
        raise CorpusError(
            f"{address.shown}: the database has schema version {version}, this fidkit knows up to {VERSION}; "
            "upgrade fidkit"
        )


def _migrate(connection: Connection, version: int) -> None:
    if version == 0:
        connection.execute("CREATE SCHEMA IF NOT EXISTS fidkit")
        connection.execute("CREATE TABLE IF NOT EXISTS fidkit.schema_version (version integer NOT NULL)")
        connection.execute("INSERT INTO fidkit.schema_version VALUES (0)")
    for number, statements in enumerate(_STEPS[version:], start=version + 1):
        for statement in statements:
            connection.execute(statement)
        connection.execute("UPDATE fidkit.schema_version SET version = %s", (number,))
