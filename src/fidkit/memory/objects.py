"""Shards in an object store (S3 and what speaks like it), read by ranges. Needs the extra `s3`.

Credentials, region and endpoint come from the environment, by the names that all tools for S3 know:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, ...
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from fidkit.errors import UsageError
from fidkit.memory.layout import is_shard

T = TypeVar("T")

# A row is well below a megabyte; a part of an upload is 5.
READ_SECONDS, WRITE_SECONDS = 5.0, 60.0

_TRIES = 5
_PAUSE_SECONDS = 0.2
# All tries of a read together: by then a passage is better encoded afresh.
_MOST_WAITS = 3
_PART_BYTES = 8 << 20
_PARALLEL_PARTS = 4
_TRIES_OF_A_PART = 8


class Objects:
    """Shards as objects below a prefix. What fails or stalls is asked for again, with growing pauses."""

    # They only wait.
    threads = 32

    def __init__(
        self, where: str, *, read_seconds: float | None = None, write_seconds: float | None = None
    ) -> None:
        """Nothing is asked for yet.

        Args:
            where: URL, such as `s3://bucket/prefix`.
            read_seconds: that a read may take before it is tried again; by default `READ_SECONDS`.
            write_seconds: the same for a part of an upload.

        Raises:
            UsageError: the extra is not installed, or the URL is of no known kind.
        """
        try:
            import obstore
            from obstore import exceptions, store
        except ImportError as error:
            raise UsageError(
                f"shards at {where}: object stores need the extra `s3`; run `pip install 'fidkit[s3]'`"
            ) from error
        self.where = where
        self._read_seconds = read_seconds or READ_SECONDS
        self._write_seconds = write_seconds or WRITE_SECONDS
        self._obstore = obstore
        self._final = (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
            exceptions.InvalidPathError,
            exceptions.NotSupportedError,
        )
        self._errors = exceptions.BaseError
        try:
            # Tries are counted here, since those of the library don't cover answers that are cut off. But a
            # large upload should not fail with one of its parts.
            self._reading, self._writing = (
                store.from_url(
                    where,
                    client_options={
                        "timeout": timedelta(seconds=seconds),
                        "connect_timeout": timedelta(seconds=min(seconds, READ_SECONDS)),
                        # Who names an endpoint without TLS, such as one in the same rack, means it.
                        "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
                    },
                    retry_config={"max_retries": tries - 1},
                )
                for seconds, tries in ((self._read_seconds, 1), (self._write_seconds, _TRIES_OF_A_PART))
            )
        except (exceptions.BaseError, ValueError) as error:
            raise UsageError(
                f"shards at {where!r}: {_brief(error)}; expected a URL such as s3://bucket/prefix"
            ) from error

    def read(self, name: str, offset: int, into: memoryview) -> None:
        if not into:
            return
        end = offset + len(into)
        packed = memoryview(
            self._patiently(name, lambda: self._obstore.get_range(self._reading, name, start=offset, end=end))
        )
        if len(packed) < len(into):
            raise EOFError(f"{name} ends at byte {offset + len(packed)}")
        into[:] = packed

    def size(self, name: str) -> int:
        return int(self._patiently(name, lambda: self._obstore.head(self._reading, name)["size"]))

    def put(self, name: str, path: Path) -> None:
        def put() -> None:
            self._obstore.put(
                self._writing, name, path, chunk_size=_PART_BYTES, max_concurrency=_PARALLEL_PARTS
            )

        self._patiently(name, put, most_seconds=float("inf"))

    def delete(self, name: str) -> None:
        try:
            self._patiently(name, lambda: self._obstore.delete(self._reading, name))
        except FileNotFoundError:
            return

    def list(self) -> list[str]:
        def names() -> list[str]:
            listed = self._obstore.list(self._reading)
            return sorted(found["path"] for some in listed for found in some if is_shard(found["path"]))

        return self._patiently("", names)

    def forget(self, keep: Collection[str] = ()) -> None:
        """Nothing is held open."""

    def _patiently(self, name: str, ask: Callable[[], T], most_seconds: float | None = None) -> T:
        until = time.monotonic() + (most_seconds or _MOST_WAITS * self._read_seconds)
        for tried in range(_TRIES):
            try:
                return ask()
            except self._final as error:
                raise PermissionError(f"{self.where}/{name}: {_brief(error)}") from error
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{self.where}/{name}: {_brief(error)}") from error
            except (self._errors, OSError) as error:
                if tried == _TRIES - 1 or time.monotonic() > until:
                    raise ConnectionError(
                        f"{self.where}/{name}: failed {tried + 1} times ({_brief(error)})"
                    ) from error
            # Not all readers at the same moment.
            time.sleep(_PAUSE_SECONDS * 2**tried * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")


def _brief(error: BaseException) -> str:
    """The first line, cut: the library appends all that it knows."""
    return str(error).strip().splitlines()[0][:300]
