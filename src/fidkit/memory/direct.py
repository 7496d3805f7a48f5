"""A file written past the page cache.

Whoever writes gigabytes through the page cache pays for a copy into fresh pages, and pushes everybody's files
out of memory. Direct writes cost almost no CPU, but are for whole blocks in whole pages only. So bytes are
staged here until they make whole blocks; what is left over at the edges goes the ordinary way.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

# No page is then written both ways, but where somebody writes the same bytes twice.
_BLOCK_BYTES = max(4096, mmap.PAGESIZE)
_STAGE_BYTES = 4 << 20
# Written and not yet on its way to the disk, at most about this much.
_UNSETTLED_BYTES = 32 << 20
# How file systems say that they have no direct writes, or that their blocks are larger than ours.
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def reserve(descriptor: int, size: int) -> None:
    """Make a new file as long as it will be, and have room for it, as far as the system can promise that.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS: nothing is promised, but what can't be is still said before hours of work.
    disk = os.fstatvfs(descriptor)
    if size > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, size)


class DirectFile:
    """Writes at places in any order, those that follow one another fast; for one thread at a time.

    A write may be on its way when it returns: what goes wrong then is raised by a later one, or by `sync`. It
    stays staged, so that to go on after an error loses nothing.
    """

    def __init__(self, descriptor: int, stage_bytes: int = _STAGE_BYTES) -> None:
        """Take over an open file.

        Args:
            descriptor: of the file, which may be written; closed by `close`.
            stage_bytes: that are kept and written together; a multiple of a page.
        """
        self._stage = memoryview(mmap.mmap(-1, stage_bytes))
        self._descriptor = descriptor
        self._flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        self._direct: int = getattr(os, "O_DIRECT", 0)  # 0 once we know better
        self._unsettled = 0
        self._stage_from(0)

    def write(self, packed: memoryview, offset: int) -> None:
        """Write bytes at a place of the file.

        Raises:
            OSError: these, or some before, can't be written.
        """
        if offset != self._base + self._end:
            self._flush()
            self._stage_from(offset)
        while packed:
            count = min(len(packed), len(self._stage) - self._end)
            self._stage[self._end : self._end + count] = packed[:count]
            self._end += count
            packed = packed[count:]
            if self._end == len(self._stage):
                self._flush()

    def sync(self) -> None:
        """Force all that was written to the disk.

        Raises:
            OSError: some can't be written.
        """
        self._flush()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file, if it is open. What was not synced may be lost."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _stage_from(self, offset: int) -> None:
        # Blocks of the stage are blocks of the file: the stage is as far into one as the file.
        self._begin = self._end = offset % _BLOCK_BYTES
        self._base = offset - self._begin

    def _flush(self) -> None:
        first = min(_round_down(self._begin + _BLOCK_BYTES - 1), self._end)
        last = max(_round_down(self._end), first)
        self._send(self._begin, first)
        self._send_blocks(first, last)
        self._send(last, self._end)
        self._stage_from(self._base + self._end)

    def _send_blocks(self, begin: int, end: int) -> None:
        if begin < end and not self._sent_directly(begin, end):
            self._direct = 0
            self._send(begin, end)

    def _sent_directly(self, begin: int, end: int) -> bool:
        """Whether the file system has direct writes, with which these blocks are then written."""
        if not self._direct:
            return False
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags | self._direct)
            self._send(begin, end)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            return False
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags)
        return True

    def _send(self, begin: int, end: int) -> None:
        while begin < end:
            count = os.pwrite(self._descriptor, self._stage[begin:end], self._base + begin)
            begin += count
            self._unsettled += count
        if self._unsettled >= _UNSETTLED_BYTES:
            self._settle()

    def _settle(self) -> None:
        """Have what is in the page cache go to the disk now, and its pages given back.

        Otherwise all would wait for it at the end.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self._unsettled = 0


def _round_down(size: int) -> int:
    return size - size % _BLOCK_BYTES
