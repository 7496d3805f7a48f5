"""Documents read apart, wherever their files are: fetched if they are objects, read by workers, in order.

It is the same for a build on one machine and for a task on a cluster (`fidkit.passages.load.tasks`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator

from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.fetched import Fetched, Fetcher
from fidkit.passages.load.found import SourceFile, loader_for
from fidkit.passages.load.workers import Job, Read, Workers


def read_apart(
    files: Iterable[SourceFile], workers: Workers, fetcher: Fetcher, cutting: Cutting
) -> Generator[Read]:
    """What is in each document, in their order; some are fetched and read ahead.

    What was fetched is dropped once it is read. What is left when this ends early goes with the fetcher.

    Raises:
        CorpusError: no worker can be started, or a store can't be reached.
    """
    given: deque[tuple[Fetched, Read | None]] = deque()  # to the workers, or not to be had

    def jobs() -> Iterator[Job]:
        for fetched in fetcher.keeping(files):
            try:
                path = fetched.path()
            except OSError as error:
                said = Read(not_opened=error.strerror or str(error), number=error.errno or 0)
                given.append((fetched, said))
                continue
            file = fetched.file
            given.append((fetched, None))
            yield Job(path, file.name, loader_for(file).read, file.size, cutting)

    for read in workers.read(jobs()):
        yield from _without(given)
        given.popleft()[0].drop()
        yield read
    yield from _without(given)


def _without(given: deque[tuple[Fetched, Read | None]]) -> Iterator[Read]:
    """What is said of files that no worker got, up to the next that one did."""
    while given and (said := given[0][1]) is not None:
        given.popleft()
        yield said
