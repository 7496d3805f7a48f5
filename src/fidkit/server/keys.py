"""Keys of callers. A file holds a name and a hash a line; a key itself is shown once, when it is made."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import threading
from pathlib import Path
from typing import BinaryIO

from fidkit.errors import UsageError

_PREFIX = "fk-"
_HASH = "sha256:"
_KEPT = re.compile(_HASH + "[0-9a-f]{64}")
_log = logging.getLogger(__name__)


class Keys:
    """The keys of a file, read again when it was written to: a line that is taken out is a key revoked.

    Args:
        path: of the file.

    Raises:
        UsageError: it can't be read, or has a line that is no key.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._hashes: dict[str, str] = {}
        self._fault = ""
        self._read()

    def owner(self, key: str) -> str | None:
        """The name of a key; None of one that isn't known, and of any while the file can't be read."""
        with self._lock:
            try:
                self._read()
                self._fault = ""
            except UsageError as error:
                if str(error) != self._fault:  # once, and not with every request
                    _log.error("%s; until then nobody's key is known", error)
                self._fault = str(error)
            hashes = list(self._hashes.items())
        digest, found = _digest(key), None
        for name, known in hashes:  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def __contains__(self, name: str) -> bool:
        """Whether there is a key of this name."""
        return name in self._hashes

    def _read(self) -> None:
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is no file")
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self._hashes, self._stamp = {}, None  # without its file nobody has a key
            raise UsageError(
                f"{self._path}: the keys can't be read ({error}); make one with "
                f"`fidkit keys add NAME --to {self._path}`"
            ) from error
        self._hashes, self._stamp = {}, None  # a file with a fault is looked at again with the next request
        self._hashes = dict(_key(self._path, n, line) for n, line in enumerate(lines, 1) if _is_key(line))
        self._stamp = stamp


def add(path: Path, name: str) -> str:
    """Make a key, write its hash to the file, and return it: it can't be read from there again.

    Raises:
        UsageError: the name is taken or no name, or the file can't be written.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"{name!r} is no name for a key; expected letters, digits, '-', '_' and '.'")
    if path.exists() and name in Keys(path):
        raise UsageError(f"{path} has a key of {name} already; take another name, or take its line out first")
    key = _PREFIX + secrets.token_urlsafe(32)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab+") as file:
            whole = _ends_a_line(file)
            file.write(f"{'' if whole else chr(10)}{name} {_HASH}{_digest(key)}\n".encode())
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror}); choose another place") from error
    return key


def _ends_a_line(file: BinaryIO) -> bool:
    """Whether what is written behind begins a line: editors may leave the last one open."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _is_key(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _key(path: Path, number: int, line: str) -> tuple[str, str]:
    name, *kept = line.split()
    if len(kept) != 1 or not _KEPT.fullmatch(kept[0]):
        raise UsageError(
            f"{path}, line {number}: no key; expected a name and {_HASH}HASH, as `keys add` writes"
        )
    return name, kept[0].removeprefix(_HASH)
