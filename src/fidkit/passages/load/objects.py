"""Objects of a store that speaks like S3: listed, and read. Needs the extra `s3`.

Credentials, region and endpoint come from the environment and the files that all tools for S3 know:
`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`, ...

The library is boto3, since it takes any key as it is. obstore, which memory uses for names of its own, can
list no bucket in which a single key has `//`, `..` or a control character.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

from fidkit.disk import shown
from fidkit.errors import CorpusError, UsageError
from fidkit.passages.load.address import ObjectAddress, source_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

THREADS = 16
"""That ask at the same time; they only wait."""
_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_TRIES = 4
_PAUSE_SECONDS = 0.5
_PIECE = 1 << 20
# Of an account or a bucket, and not of one object: all others would be refused alike.
_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
    *(
        "RequestTimeTooSkewed",
        "InvalidClientTokenId",
        "AuthorizationHeaderMalformed",
        "ExpiredTokenException",
    ),
}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_NO_OBJECT = {"NoSuchKey", "404"}


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing has it.

    Attributes:
        key: in its bucket.
        size: bytes.
        mtime_ns: when it was written, in whole seconds; the digits below are those of its ETag. So this
            changes where either does.
        archived: the class of storage, where it has to be brought back before it can be read.
    """

    key: str
    size: int
    mtime_ns: int
    archived: str = ""


def listed(root: ObjectAddress) -> list[Listed]:
    """The objects below a prefix, in the order of their keys; for that of one object, this one.

    Raises:
        UsageError: the extra isn't installed.
        CorpusError: no such bucket, no rights, no way there.
    """
    with explained(root):
        below = list(_pages(root.bucket, f"{root.key}/" if root.key else ""))
        if below or not root.key:
            return below
        return [found for found in _pages(root.bucket, root.key, most=1) if found.key == root.key]


def states_of(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of these objects, as `Listed` has them, of those that are there.

    Args:
        paths: their addresses as the catalogue keeps them, which is as `shown` writes them.

    Raises:
        UsageError, CorpusError: as of `listed`.
    """
    keys = defaultdict[str, list[str]](list)
    for path in paths:
        address = _address(path)
        keys[address.bucket].append(address.key)
    states = {}
    for bucket, wanted in keys.items():
        # A prefix of keys may end anywhere in a name, but not in what is written in another way there.
        prefix = os.path.commonprefix(wanted).partition("\\")[0]  # noqa: RUF071
        root, known = ObjectAddress(bucket, prefix), set(wanted)
        with explained(root):
            for found in _pages(bucket, root.key):
                if (key := shown(found.key)) in known:
                    states[str(ObjectAddress(bucket, key))] = found.size, found.mtime_ns
    return states


def holds_any(source: str) -> bool:
    """Whether there is an object below a prefix, or at it.

    Raises:
        UsageError, CorpusError: as of `listed`.
    """
    root = _address(source)
    with explained(root):
        return any(
            not root.key or found.key.removeprefix(root.key)[:1] in ("", "/")
            for found in _pages(root.bucket, root.key)
        )


def _address(path: str | ObjectAddress) -> ObjectAddress:
    found = source_of(path)
    assert isinstance(found, ObjectAddress)
    return found


def opened(path: str | ObjectAddress) -> BinaryIO:
    """An object to be read from its beginning, as far as somebody likes.

    Raises:
        OSError: it isn't there any more, or may not be read.
        CorpusError: as of `listed`.
    """
    address = _address(path)
    with explained(address):
        return io.BufferedReader(_Body(address, _got(address)), _PIECE)


def fetch(address: ObjectAddress, to: BinaryIO, ended: threading.Event) -> None:
    """Copy an object into a file, all of it in one version. What fails on the way is asked for again.

    Args:
        address: of the object.
        to: an empty file.
        ended: nobody waits for it any more.

    Raises:
        OSError: it isn't there any more, or may not be read; or the file can't be written.
        CorpusError: as of `listed`.
    """
    from botocore.exceptions import BotoCoreError

    with explained(address):
        for tried in range(_TRIES):
            body = _got(address)
            try:
                for piece in body.iter_chunks(_PIECE):
                    to.write(piece)
                    if ended.is_set():
                        return
                return
            except BotoCoreError:
                if tried == _TRIES - 1:
                    raise
            finally:
                body.close()
            to.seek(0)
            to.truncate()
            # Not all at the same moment.
            ended.wait(_PAUSE_SECONDS * 2**tried * random.uniform(0.5, 1.5))


class _Body(io.RawIOBase):
    """An object as a stream. Closing it ends the download."""

    def __init__(self, address: ObjectAddress, body: Any) -> None:
        self._address, self._body = address, body

    def readable(self) -> bool:
        return True

    def readinto(self, into: WriteableBuffer) -> int:
        view = memoryview(into)
        with explained(self._address):
            piece = self._body.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._body.close()
        super().close()


def _pages(bucket: str, prefix: str, most: int | None = None) -> Iterator[Listed]:
    pages = _client().get_paginator("list_objects_v2")
    limits = {} if most is None else {"PaginationConfig": {"MaxItems": most}}
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, **limits):
        for found in page.get("Contents", ()):
            seconds = int(found["LastModified"].timestamp())
            etag = hashlib.blake2b(found.get("ETag", "").encode(), digest_size=8).digest()
            written = seconds * 10**9 + int.from_bytes(etag, "big") % 10**9
            storage = found.get("StorageClass", "")
            archived = storage if storage in ("GLACIER", "DEEP_ARCHIVE") else ""
            yield Listed(found["Key"], int(found["Size"]), written, archived)


def _got(address: ObjectAddress) -> Any:
    """The body of an object.

    Raises:
        OSError: it isn't there, or may not be read.
    """
    from botocore.exceptions import ClientError

    try:
        return _client().get_object(Bucket=address.bucket, Key=address.key)["Body"]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _NO_OBJECT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(address)) from error
        if code in _DENIED:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(address)) from error
        raise


def _client() -> Any:
    """A client for what the environment says now; threads may share it."""
    settings = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
    with _making:  # once, however many threads ask
        return _made_client(settings)


_making = threading.Lock()


@lru_cache(maxsize=4)
def _made_client(_settings: frozenset[tuple[str, str]]) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=THREADS,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
    )
    return boto3.session.Session().client("s3", config=config)


@contextmanager
def explained(address: ObjectAddress) -> Iterator[None]:
    """Say in one line what keeps somebody from a bucket.

    Raises:
        CorpusError: instead of whatever boto3 raises.
    """
    try:
        import boto3  # noqa: F401 - whether it is there
        import botocore.exceptions as errors
    except ImportError as error:
        raise UsageError(
            f"{address}: what is in an object store needs the extra `s3`; run `pip install 'fidkit[s3]'`"
        ) from error
    try:
        yield
    except errors.ClientError as error:
        raise CorpusError(f"{address}: {_refused(error.response, address)}") from error
    except (
        errors.NoCredentialsError,
        errors.PartialCredentialsError,
        errors.CredentialRetrievalError,
        errors.ProfileNotFound,
        errors.SSOError,
    ) as error:
        raise CorpusError(
            f"{address}: no credentials ({_line(error)}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
        ) from error
    except errors.ParamValidationError as error:
        raise UsageError(
            f"{address}: can't be asked for ({_line(error)}); expected s3://BUCKET or s3://BUCKET/PREFIX"
        ) from error
    except (errors.BotoCoreError, ValueError) as error:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        at = f"AWS_ENDPOINT_URL, which is {endpoint}" if endpoint else "AWS_ENDPOINT_URL, which is not set"
        raise CorpusError(
            f"{address}: can't be reached ({_line(error)}); check the network and {at}, and try "
            "again; a build goes on from what was committed, which is whole"
        ) from error


def _refused(response: Any, address: ObjectAddress) -> str:
    """What a store says no for."""
    said = response.get("Error", {})
    code, message = str(said.get("Code", "")), " ".join(str(said.get("Message", "")).split())
    if code == "NoSuchBucket":
        return f"there is no bucket {address.bucket!r}; check its name, and AWS_ENDPOINT_URL"
    if code in _CREDENTIALS:
        return f"the credentials are refused ({code}: {message}); renew them, and run the build again"
    if code in _DENIED:
        return (
            f"permission denied ({message or code}); ask for the rights s3:ListBucket and s3:GetObject, or "
            "use other credentials"
        )
    return f"the store says {code}: {message}; check the bucket, its region and AWS_ENDPOINT_URL"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
