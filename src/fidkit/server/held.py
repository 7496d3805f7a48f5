"""What is served and may be replaced meanwhile: it is closed when nobody uses it any more."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """Something open that is closed when the last who uses it lets go; who makes it is the first."""

    def __init__(self, what: T) -> None:
        self.what = what
        self._users, self._lock = 1, threading.Lock()

    def __enter__(self) -> T:
        with self._lock:
            self._users += 1
        return self.what

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Close it, if nobody else uses it."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last and (close := getattr(self.what, "close", None)):
            close()
