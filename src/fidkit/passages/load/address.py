"""Where an object is: `s3://bucket/key`.

A key is no path: `//` and `..` are characters in it like any others. So it goes through nothing that would
tidy it up.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from fidkit.errors import UsageError

# One slash is what `pathlib` leaves of two.
_SCHEME = re.compile(r"s3:/{1,2}(?!/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ObjectAddress(os.PathLike[str]):
    """An object, or all objects whose keys begin with `key` and a slash.

    Attributes:
        bucket: where it is.
        key: in there; empty for all of the bucket.
    """

    bucket: str
    key: str

    def __fspath__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __str__(self) -> str:
        return self.__fspath__()

    @property
    def name(self) -> str:
        """The last part of the key, or the bucket."""
        return self.key.rpartition("/")[2] or self.bucket


def is_in_store(source: str | os.PathLike[str]) -> bool:
    """Whether this names objects of a store, and no file."""
    return re.match(r"s3:/", os.fspath(source), re.IGNORECASE) is not None


def source_of(source: str | os.PathLike[str]) -> Path | ObjectAddress:
    """A source as somebody gave it.

    Raises:
        UsageError: it says that it is in a store, and not where.
    """
    if not is_in_store(source):
        return Path(source).expanduser()
    given = os.fspath(source)
    scheme = _SCHEME.match(given)
    bucket, _, key = given[scheme.end() :].partition("/") if scheme else ("", "", "")
    if not bucket:
        raise UsageError(f"{given}: names no bucket; expected s3://BUCKET or s3://BUCKET/PREFIX")
    return ObjectAddress(bucket, key.removesuffix("/"))


def absolute(source: str | os.PathLike[str]) -> str:
    """A source as it is called from anywhere: the real path of a file or folder, the address of objects.

    Raises:
        UsageError: as of `source_of`.
    """
    found = source_of(source)
    return str(found) if isinstance(found, ObjectAddress) else os.path.realpath(found)
