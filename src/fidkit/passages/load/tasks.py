"""Documents read on a cluster, with Ray Data: each task reads some of them, as a build on one machine would.

What tasks have read comes back in the order of the files, so the corpus is the same to the byte. Passages are
cut on the cluster; the catalogue and the indexes are written here. A folder has to be on a file system that
all machines share, and every machine needs fidkit, and credentials of its own for a store.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import pickle
from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any, cast

from fidkit.cluster import joined, sentence_of
from fidkit.disk import shown
from fidkit.errors import CorpusError, FidkitError
from fidkit.passages.load.apart import read_apart
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.fetched import Fetcher
from fidkit.passages.load.found import SourceFile
from fidkit.passages.load.workers import Limits, Read, Workers

_FILES = 16
"""Of a task, at least: it is worth its start then."""
_TASKS = 2000
"""At most; with more, Ray is slowed by their number."""


def read_on_cluster(files: Sequence[SourceFile], limits: Limits | None, cutting: Cutting) -> Generator[Read]:
    """What is in each document, in their order.

    Raises:
        UsageError: Ray isn't installed.
        CorpusError: Ray lost a task, or a machine of it doesn't see a file.
        FidkitError: what a task failed of.
    """
    with joined() as ray:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it says how it works, at length
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        each = max(_FILES, math.ceil(len(files) / _TASKS))
        data = ray.data.from_items(
            [{"file": pickle.dumps(file)} for file in files], override_num_blocks=math.ceil(len(files) / each)
        ).map_batches(
            read_batch,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"limits": limits, "cutting": cutting},
        )
        came = 0
        try:
            for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                for packed in batch["read"]:
                    # Of a task that runs this same code; what a document may have taken over is its worker.
                    read = cast("Read | FidkitError", pickle.loads(packed.as_py()))
                    if isinstance(read, FidkitError):
                        raise read
                    _refuse_unseen(files[came], read)
                    came += 1
                    yield read
        except ray.exceptions.RayTaskError as error:
            raise CorpusError(
                f"a task of Ray failed ({sentence_of(error)}); see Ray's log, and run the build again: what "
                "was committed before is whole"
            ) from error
        except ray.exceptions.RayError as error:
            raise CorpusError(
                f"Ray lost a task ({sentence_of(error)}); run the build again, what was committed "
                "before is whole"
            ) from error


def read_batch(batch: Any, limits: Limits | None, cutting: Cutting) -> Any:
    """What a task does: a table of files in, a table of what is in them out."""
    import pyarrow

    files = [cast(SourceFile, pickle.loads(packed.as_py())) for packed in batch["file"]]
    fetcher = Fetcher()
    read: list[bytes] = []
    try:
        read += (pickle.dumps(one) for one in read_apart(files, _workers(limits), fetcher, cutting))
    except FidkitError as error:  # told as it is: Ray would wrap it in pages
        read.append(pickle.dumps(error))
    finally:
        fetcher.close()
    return pyarrow.table({"read": pyarrow.array(read, pyarrow.large_binary())})


@lru_cache(maxsize=1)
def _workers(limits: Limits | None) -> Workers:
    """One worker for all tasks of a process of Ray, which has a processor for it."""
    return Workers(limits, count=1)


def _refuse_unseen(file: SourceFile, read: Read) -> None:
    """A file that is here, and not where it should be read, is no deleted one."""
    if read.number == errno.ENOENT and os.path.exists(file.path):
        raise CorpusError(
            f"{shown(file.path)}: a machine of the cluster doesn't see it; sources have to be in an object "
            "store or in a folder that all machines share under the same path"
        )
