"""File systems of their own for tests: small ones, and one that doesn't answer."""

import ctypes
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fidkit.disk import free_bytes


@contextmanager
def mounted(disk: Path, kind: str = "tmpfs", options: str = "defaults") -> Iterator[Path]:
    """A new file system at a directory, which is made if missing; skips where none may be mounted."""
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", kind, "-o", options, kind, str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        yield disk
    finally:
        unmount(disk)


def unmount(disk: Path) -> None:
    """Take a file system away, whoever has files of it open; one that is away already stays so."""
    subprocess.run(["umount", "--lazy", str(disk)], capture_output=True, check=False)


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Within the block, this thread can't write to a directory, as somebody else whose it isn't."""
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc, is_root = ctypes.CDLL(None), os.geteuid() == 0  # who may write everywhere, by a capability
    directory.chmod(0o555)
    if is_root:
        libc.capget(header, sets)
        sets[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE
        libc.capset(header, sets)
    try:
        yield
    finally:
        if is_root:
            sets[0] |= 1 << 1
            libc.capset(header, sets)
        directory.chmod(0o755)


@contextmanager
def unanswered(place: Path) -> Iterator[None]:
    """Within the block, a folder or a file is of a share whose server is gone: each call fails."""
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("there is no FUSE here")
    options = f"fd={server},rootmode={stat.S_IFMT(place.stat().st_mode):o},user_id=0,group_id=0".encode()
    failed = ctypes.CDLL(None).mount(b"share", bytes(place), b"fuse", 0, options)
    os.close(server)
    if failed:
        pytest.skip("may not mount a file system")
    try:
        yield
    finally:
        unmount(place)


def fill(disk: Path, leaves: int = 0) -> Path:
    """A file that takes all room of a file system but so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out, suppress(OSError):
        while free_bytes(disk) > leaves:
            out.write(bytes(4096))
    return filler
