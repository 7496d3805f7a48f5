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
