import errno
import fcntl
import mmap
import os
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disks import mounted
from fidkit.memory.direct import DirectFile
from memory.toy import largest_file, open_files
from oracles import quick

PAGE = mmap.PAGESIZE
STAGE = 4 * PAGE
SIZES = st.integers(1, PAGE) | st.integers(1, 9 * PAGE) | st.sampled_from([PAGE, STAGE, 2 * STAGE])


def file_at(path):
    return DirectFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), STAGE)


@contextmanager
def opened(path):
    file = file_at(path)
    try:
        yield file
    finally:
        file.close()


def noise(size, seed=0):
    return memoryview(bytes((seed + at * 7 + at // 251) % 256 for at in range(size)))


def write_all(file, *writes):
    for packed, offset in writes:
        file.write(packed, offset)
    file.sync()


def is_direct(descriptor):
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)


def takes_direct_writes(folder):
    try:
        os.close(os.open(folder / "trial", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", params=["here", "a system without", "a file system without"])
def folder(request, tmp_path_factory):
    """Where direct writes may or may not be possible."""
    directory = tmp_path_factory.mktemp("direct")
    if request.param == "a file system without":
        with mounted(directory / "disk", "ramfs") as disk:
            assert not takes_direct_writes(disk)
            yield disk
        return
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "a system without":
            patch.delattr(os, "O_DIRECT")
        yield directory


@pytest.fixture
def direct_folder(tmp_path):
    if not takes_direct_writes(tmp_path):
        pytest.skip("no direct writes here")
    return tmp_path


@pytest.fixture
def pwrites(monkeypatch):
    """Replaces `os.pwrite` by a function that gets the real one first."""
    real = os.pwrite
    return lambda replaced: monkeypatch.setattr(os, "pwrite", lambda *given: replaced(real, *given))


@st.composite
def places(draw):
    """(offset, size) of writes that don't overlap: runs of neighbours, the runs in any order."""
    runs, offset = [], 0
    for sizes in draw(st.lists(st.lists(SIZES, min_size=1, max_size=6), min_size=1, max_size=6)):
        offset += draw(st.just(0) | SIZES)
        runs.append([])
        for size in sizes:
            runs[-1].append((offset, size))
            offset += size
    return [place for run in draw(st.permutations(runs)) for place in run]


AGAIN = st.lists(st.tuples(st.integers(0, 9 * PAGE), SIZES), max_size=4)


@quick
@given(places(), AGAIN)
def test_bytes_are_those_of_a_plain_file(folder, written, again):
    packed = [noise(size, seed) for seed, (_, size) in enumerate(written + again)]
    with opened(folder / "direct") as file, (folder / "plain").open("wb") as plain:
        for part, (offset, _) in zip(packed, written + again, strict=True):
            file.write(part, offset)
            plain.seek(offset)
            plain.write(part)
        file.sync()
    assert (folder / "direct").read_bytes() == (folder / "plain").read_bytes()


@quick
@given(places())
def test_whole_pages_go_past_the_cache_and_no_page_goes_both_ways(tmp_path_factory, written):
    folder, direct, cached = tmp_path_factory.mktemp("direct"), [], []
    if not takes_direct_writes(folder):
        pytest.skip("no direct writes here")
    real = os.pwrite

    def pwrite(descriptor, packed, offset):
        pages = range(offset // PAGE, -(-(offset + len(packed)) // PAGE))
        (direct if is_direct(descriptor) else cached).extend(pages)
        return real(descriptor, packed, offset)

    with pytest.MonkeyPatch.context() as patch, opened(folder / "file") as file:
        patch.setattr(os, "pwrite", pwrite)
        for offset, size in written:
            file.write(noise(size), offset)
        file.sync()
    # Whole pages of each run of writes that follow one another.
    whole, begin, end = [], 0, 0
    for offset, size in [*written, (-1, 0)]:
        if offset != end:
            whole += range(-(-begin // PAGE), end // PAGE)
            begin = offset
        end = offset + size
    assert sorted(direct) == sorted(whole)
    assert not set(direct) & set(cached)


@quick
@given(places(), st.randoms(use_true_random=False))
def test_writes_that_the_system_cuts_short_go_on(tmp_path_factory, written, random):
    path, real = tmp_path_factory.mktemp("direct") / "file", os.pwrite

    def pwrite(descriptor, packed, offset):
        unit = 512 if is_direct(descriptor) else 1
        return real(descriptor, packed[: unit * random.randint(1, max(1, len(packed) // unit))], offset)

    expected = bytearray(max(offset + size for offset, size in written))
    with pytest.MonkeyPatch.context() as patch, opened(path) as file:
        patch.setattr(os, "pwrite", pwrite)
        for seed, (offset, size) in enumerate(written):
            file.write(noise(size, seed), offset)
            expected[offset : offset + size] = noise(size, seed)
        file.sync()
    assert path.read_bytes() == expected


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("after", range(3))
def test_a_file_system_that_refuses_in_the_middle_gets_all_the_same(direct_folder, pwrites, after, refusal):
    tries = []

    def pwrite(real, descriptor, packed, offset):
        if is_direct(descriptor):
            tries.append(offset)
            if len(tries) == after + 1:
                # As bad as may be: a part is written.
                real(descriptor, packed[:PAGE], offset)
                raise OSError(refusal, os.strerror(refusal))
        return real(descriptor, packed, offset)

    pwrites(pwrite)
    packed = noise(5 * STAGE + 99)
    with opened(direct_folder / "file") as file:
        for begin in range(0, len(packed), 1000):
            file.write(packed[begin : begin + 1000], begin)
        file.sync()
    assert (direct_folder / "file").read_bytes() == packed
    assert len(tries) == after + 1


def test_other_errors_are_raised_and_going_on_loses_nothing(direct_folder, pwrites):
    packed, breaks = noise(2 * STAGE + 99), [lambda _: True]

    def pwrite(real, descriptor, packed, offset):
        if breaks[0](descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, packed, offset)

    pwrites(pwrite)
    with opened(direct_folder / "file") as file:
        file.write(packed[:99], 0)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.sync()
        breaks[0] = is_direct
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.write(packed[99:], 99)
        breaks[0] = lambda _: False
        write_all(file, (packed[99:], 99))
    assert (direct_folder / "file").read_bytes() == packed


@pytest.mark.parametrize("limit", [PAGE, 2 * STAGE, 2 * STAGE + 99])
def test_a_file_that_grows_too_large_is_said_at_the_latest_by_sync(folder, limit):
    packed = noise(3 * STAGE - 5)
    with opened(folder / "file") as file:
        with largest_file(limit), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write_all(file, (packed, 0))
        write_all(file, (packed, 0))
    assert (folder / "file").read_bytes() == packed


def test_a_full_disk_is_said(small_disk):
    packed = memoryview(bytes(1 << 20))
    with opened(small_disk / "file") as file, pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_all(file, *((packed, number << 20) for number in range(5)))


def test_the_file_is_closed_once_however_it_ends(tmp_path, pwrites):
    before, path = open_files(), tmp_path / "file"
    with opened(path) as file:
        file.write(noise(STAGE + 1), 0)
        assert open_files() != before
    assert open_files() == before
    with path.open("rb") as other:
        file.close()
        assert other.read(1)
    failing = file_at(path)

    def pwrite(*_):
        raise OSError(errno.EIO, "no")

    pwrites(pwrite)
    with pytest.raises(OSError, match="no"):
        failing.write(noise(STAGE), 0)
    failing.close()
    assert open_files() == before


def test_what_can_not_go_past_the_cache_is_given_back(folder, monkeypatch):
    given_back = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: given_back.append(given[1:]))
    packed = memoryview(bytes(33 << 20))
    with opened(folder / "file") as file:
        file.write(packed, 0)
        assert given_back == [(0, 0, os.POSIX_FADV_DONTNEED)]
