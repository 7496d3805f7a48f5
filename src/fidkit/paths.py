"""Names and files that somebody else may have made: what of them may be opened, replaced or deleted.

A corpus, a checkpoint or a memory may come from a stranger. Whatever it holds, nothing outside its directory
is written or deleted because of it: a name that stands in a file has to be plain, and a link that stands in
the place of a file of ours isn't followed.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

_LONGEST_NAME = 255  # bytes, on all usual file systems


def is_plain_name(name: object) -> bool:
    """Whether what a file gave as the name of another is one of an entry in the same directory.

    Refused are paths of any kind, also those of other systems, `.` and `..`, what isn't text, and names that
    no file system takes.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\:\0"):
        return False
    with suppress(UnicodeEncodeError):
        return len(os.fsencode(name)) <= _LONGEST_NAME
    return False


def is_whole_number(value: object, least: int = 0, most: int = (1 << 62) - 1) -> bool:
    """Whether what a file gave as a number is a whole one between bounds; by default two fit into 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_own_file(path: Path) -> bool:
    """Whether a regular file is there, and no link to one elsewhere."""
    with suppress(OSError, ValueError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def foreign_entry(directory: Path) -> str | None:
    """The first name in a directory of files only that is something else: a link, a pipe, a device, a folder.

    Raises:
        OSError: the directory can't be read.
    """
    with os.scandir(directory) as entries:
        return min(
            (entry.name for entry in entries if not entry.is_file(follow_symlinks=False)), default=None
        )


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link and not what it leads to; never raises."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
