"""Where a corpus is in a database: `postgresql://USER@HOST:PORT/DATABASE?corpus=NAME`.

But for what is ours, it is an address of libpq, whatever that takes: several hosts, a folder with a socket,
or no host for the socket of this machine.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode

from fidkit.errors import UsageError
from fidkit.home import home

DEFAULT = "default"
EXTRA = "pip install 'fidkit[postgres]'"
_EXPECTED = (
    "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE?corpus=NAME, with %40 for an @ in a password, or "
    "postgresql:///DATABASE?corpus=NAME for a server of this machine"
)
_OURS = ("corpus", "replica")
# As libpq takes it apart: a question mark before an @ is of the user or the password.
_URL = re.compile(r"(?P<scheme>\w+)://(?P<place>(?:[^@/]*@)?[^?]*)\??(?P<query>.*)", re.DOTALL)
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
    parts = _URL.fullmatch(url)
    if parts is None:
        raise UsageError(f"the URL of the database can't be read; {_EXPECTED}")
    named = [(option.partition("=")[0], option) for option in parts["query"].split("&") if option]
    ours = {name: unquote_plus(option.partition("=")[2]) for name, option in named if name in _OURS}
    theirs = [option for name, option in named if name not in _OURS]
    corpus, replica = ours.get("corpus", DEFAULT), ours.get("replica", "own")
    try:
        known = conninfo_to_dict(f"{parts['scheme'].lower()}://{parts['place']}?{'&'.join(theirs)}")
    except (ValueError, ProgrammingError) as error:
        # What they say may quote a password.
        fault = _fault(theirs) or "can't be read"
        raise UsageError(f"the URL of the database {fault}; {_EXPECTED}") from error
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


def _fault(options: list[str]) -> str:
    """What is wrong with the options of a URL, without their values; empty where that isn't it."""
    from psycopg.pq import Conninfo

    taken = {default.keyword.decode() for default in Conninfo.get_defaults()} | {"ssl"}
    for option in options:
        name, has_value, _ = option.partition("=")
        if unquote(name) not in taken:
            return f"has an option {unquote(name)[:40]!r}, which neither PostgreSQL nor fidkit knows"
        if not has_value:
            return f"has an option {name!r} without a value"
    return ""


def _shown(known: dict[str, Any], corpus: str, replica: str) -> str:
    """An address that is read as this one, but for its password and options of libpq."""
    user = quote(str(known.get("user") or ""), safe="")
    hosts, ports = (str(known.get(name) or "").split(",") for name in ("host", "port"))
    options = {} if corpus == DEFAULT else {"corpus": corpus}
    options |= {} if replica == "own" else {"replica": replica}
    if any(host.startswith("/") for host in hosts):  # folders with sockets
        where = {"host": ",".join(hosts), "port": ",".join(ports)}
        options, hosts, ports = {name: value for name, value in where.items() if value} | options, [""], [""]
    if len(ports) < len(hosts):  # one for all
        ports = ports * len(hosts)
    places = [
        (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    ]
    query = urlencode(options, safe="/,", quote_via=quote)
    place = f"{user}{'@' if user else ''}{','.join(places)}"
    return f"postgresql://{place}/{quote(str(known.get('dbname') or ''))}{'?' if query else ''}{query}"
