"""Where a corpus is in a database: `postgresql://USER@HOST:PORT/DATABASE?corpus=NAME`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from fidkit.errors import UsageError
from fidkit.home import home

DEFAULT = "default"
EXTRA = "pip install 'fidkit[postgres]'"
_EXPECTED = "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE?corpus=NAME"
_LONGEST_NAME = 200
_CONNECT_SECONDS = "10"


@dataclass(frozen=True)
class Address:
    """A corpus in a database.

    Attributes:
        conninfo: for libpq. It may hold a password and is never printed.
        corpus: its name in the database.
        replica: whether this machine keeps a copy to search in.
        shown: the URL without its password.
        password: to be kept out of messages; empty where the URL has none.
    """

    conninfo: str = field(repr=False)
    corpus: str
    replica: bool
    shown: str
    password: str = field(repr=False)

    @property
    def directory(self) -> Path:
        """Where the replica is kept, whoever connects."""
        from psycopg.conninfo import conninfo_to_dict

        known: dict[str, Any] = conninfo_to_dict(self.conninfo)
        names = (("host", "PGHOST"), ("port", "PGPORT"), ("dbname", "PGDATABASE"), ("service", "PGSERVICE"))
        where = [str(known.get(key) or os.environ.get(variable, "")) for key, variable in names]
        digest = hashlib.sha256("\0".join((*where, self.corpus)).encode()).hexdigest()
        return home() / "replicas" / digest[:16]

    def clean(self, said: object) -> str:
        """What libpq or the server said, on one line, without the password."""
        text = " ".join(str(said).split())
        for secret in {self.password, quote(self.password, safe="")} - {""}:
            text = text.replace(secret, "…")
        return text


def address_of(url: str) -> Address:
    """Read a URL.

    Raises:
        UsageError: it can't be read, or the extra isn't installed.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as error:
        raise UsageError(
            f"a corpus in PostgreSQL needs psycopg, which can't be imported ({error}); {EXTRA}"
        ) from error
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        corpus, replica = options.pop("corpus", DEFAULT), options.pop("replica", "own")
        known = conninfo_to_dict(urlunsplit(parts._replace(query=urlencode(options, quote_via=quote))))
    except (ValueError, ProgrammingError) as error:
        # What they say may quote a password.
        raise UsageError(f"the URL of the database can't be read; {_EXPECTED}") from error
    if not corpus.strip() or len(corpus) > _LONGEST_NAME or "\0" in corpus:
        raise UsageError(
            f"the name of the corpus is {corpus[:40]!r}; expected 1 to {_LONGEST_NAME} characters, as in "
            "?corpus=contracts"
        )
    if replica not in ("own", "none"):
        raise UsageError(f"replica is {replica[:40]!r}; expected none, or leave it out for one of your own")
    known.setdefault("connect_timeout", _CONNECT_SECONDS)
    known.setdefault("application_name", "fidkit")
    password = str(known.get("password") or "")
    return Address(
        make_conninfo("", **known), corpus, replica == "own", _shown(known, corpus, replica), password
    )


def _shown(known: dict[str, Any], corpus: str, replica: str) -> str:
    user = quote(str(known.get("user") or ""), safe="")
    host, port = str(known.get("host") or ""), str(known.get("port") or "")
    options = {} if corpus == DEFAULT else {"corpus": corpus}
    options |= {} if replica == "own" else {"replica": replica}
    if host.startswith("/"):
        options, host = {"host": host, **options}, ""
    place = f"{user}{'@' if user else ''}{host}{f':{port}' if port and host else ''}"
    query = urlencode(options, safe="/", quote_via=quote)
    return f"postgresql://{place}/{quote(str(known.get('dbname') or ''))}{'?' if query else ''}{query}"
