"""Addresses of corpora in a database, without a database."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from fidkit.errors import UsageError
from fidkit.passages.postgres.address import address_of


@pytest.mark.parametrize(
    ("url", "conninfo", "shown"),
    [
        ("postgresql:///d", "dbname=d", "postgresql:///d"),
        ("POSTGRES:///d?corpus=a", "dbname=d", "postgresql:///d?corpus=a"),
        ("postgresql://", "", "postgresql:///"),
        ("postgresql://u@/d?corpus=a", "user=u dbname=d", "postgresql://u@/d?corpus=a"),
        ("postgresql:///d?host=/run/pg&corpus=a", "dbname=d host=/run/pg",
         "postgresql:///d?host=/run/pg&corpus=a"),
        ("postgresql:///d?host=/a,/b&port=1,2", "dbname=d host=/a,/b port=1,2",
         "postgresql:///d?host=/a,/b&port=1,2"),
        ("postgresql://%2Frun%2Fpg:5/d", "dbname=d host=/run/pg port=5", "postgresql:///d?host=/run/pg&port=5"),
        ("postgresql://[::1]:5/d", "dbname=d host=::1 port=5", "postgresql://[::1]:5/d"),
        ("postgresql://a:1,b:2/d", "dbname=d host=a,b port=1,2", "postgresql://a:1,b:2/d"),
        ("postgresql:///d?host=a,b&port=5", "dbname=d host=a,b port=5", "postgresql://a:5,b:5/d"),
        ("postgresql://u:a?b#c@h/d?corpus=a+b", "user=u password=a?b#c dbname=d host=h",
         "postgresql://u@h/d?corpus=a%20b"),
        ("postgresql://h/d?options=-c%20a%3Db+c", "dbname=d host=h options='-c a=b+c'", "postgresql://h/d"),
    ],
)  # fmt: skip
def test_an_address_is_what_libpq_takes(url, conninfo, shown):
    address = address_of(url)
    own = {"connect_timeout": "10", "application_name": "fidkit"}
    assert conninfo_to_dict(address.conninfo) == conninfo_to_dict(conninfo) | own
    assert address.shown == shown
    assert address_of(shown).shown == shown


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql:/d", "can't be read; expected postgresql://USER"),
        ("postgresql://h/d?sslmode", "has an option 'sslmode' without a value"),
        ("postgresql://h/d?s%20l=s3cret", "has an option 's l', which neither PostgreSQL nor fidkit knows"),
        ("postgresql://u:s3cret%zz@h/d", "can't be read; .* with %40 for an @ in a password"),
    ],
)
def test_what_is_no_address_is_told_without_its_values(url, says):
    with pytest.raises(UsageError, match=says) as told:
        address_of(url)
    assert "s3cret" not in str(told.value)


def test_a_replica_is_of_one_corpus_whoever_connects(monkeypatch):
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    base = address_of("postgresql://h:5/d").directory
    assert (
        address_of("postgresql://u:secret@h:5/d?corpus=default&sslmode=prefer&replica=none").directory == base
    )
    others = ["g:5/d", "h:6/d", "h:5/e", "h:5/d?corpus=x", "h:5/d?service=s", "h:5"]
    assert len({base, *(address_of(f"postgresql://{other}").directory for other in others)}) == 7
    assert address_of("postgresql://").directory != base
    for name, value in (("PGHOST", "h"), ("PGPORT", "5"), ("PGDATABASE", "d")):
        monkeypatch.setenv(name, value)
    assert address_of("postgresql://").directory == base
    monkeypatch.setenv("PGSERVICE", "s")
    assert address_of("postgresql://").directory == address_of("postgresql://h:5/d?service=s").directory


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d",
        "postgresql://u%40x@h:5/d?corpus=a%20b",
        "postgresql://u@h/d?replica=none",
        "postgresql://u@h/d?corpus=x&replica=none",
        "postgresql:///d?host=/run/pg",
        "postgresql://u@/d?host=/run/pg&corpus=x",
    ],
)
def test_what_is_shown_leads_to_the_same_corpus(url):
    address = address_of(url)
    assert address.shown == url
    known = conninfo_to_dict(address.conninfo)
    assert (known.pop("connect_timeout"), known.pop("application_name")) == ("10", "fidkit")
    patient = conninfo_to_dict(address_of(f"{url}{'&' if '?' in url else '?'}connect_timeout=3").conninfo)
    assert patient == known | {"connect_timeout": "3", "application_name": "fidkit"}


def test_a_password_is_taken_out_as_it_is_and_as_it_stands_in_a_url():
    address = address_of("postgresql://u:s%20cret%2F@h/d")
    assert address.clean("s cret/ in\n s%20cret%2F") == "… in …"
    assert address_of("postgresql://u@h/d").clean("a  b") == "a b"


@pytest.mark.parametrize("name", ["", "%20", "x" * 201, "a%00b"])
def test_names_that_cannot_be(name):
    with pytest.raises(UsageError, match=r"the name of the corpus is .*; expected 1 to 200 characters"):
        address_of(f"postgresql://h/d?corpus={name}")
    assert address_of(f"postgresql://h/d?corpus={'x' * 200}").corpus == "x" * 200
