"""What is served, kept up to date: documents, and readers in whose directories others come.

A directory is looked at every few seconds, as a file of keys is. What has come is opened and asked once
beside the reader before, which goes on until then, and for good where the new one can't be read. No question
fails meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fidkit.checkpoint.files import Stamp, stamp_of
from fidkit.server.library import Library
from fidkit.server.service import Service

_LOOK_SECONDS = 2.0
_State = tuple[Stamp, bool]
"""What is in a reader's directory, and whether another memory came than it was opened with."""
_log = logging.getLogger(__name__)


@asynccontextmanager
async def kept_up(service: Service, library: Library | None) -> AsyncIterator[None]:
    """Readers of a service, and its documents where there is a library, are kept up to date meanwhile."""
    if library is not None:
        library.start(service)
    task = asyncio.create_task(_renew(service))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if library is not None:
            await asyncio.to_thread(library.stop)


async def _renew(service: Service) -> None:
    seen: dict[str, _State] = {}
    refused: dict[str, _State] = {}
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for name, (place, served) in service.places().items():
            found = await asyncio.to_thread(stamp_of, place)
            remembered = await asyncio.to_thread(service.memory_is_another, name)
            # One that is still being written changes from look to look; one that is away is waited for.
            settled = (found, remembered) == seen.get(name)
            seen[name] = found, remembered
            is_another = bool(found) and found != served
            if not settled or not (is_another or remembered) or seen[name] == refused.get(name):
                continue
            try:
                await asyncio.to_thread(service.replace_reader, name, place)
            except Exception as error:  # whatever is wrong with it, the one before answers
                _log.warning("reader %s: %s; the one before goes on", name, error)
                refused[name] = found, remembered
            else:
                if is_another:
                    _log.warning("reader %s: another one is in %s, and answers from now on", name, place)
                elif not service.lacks_memory(name):  # of which it is said when it is opened
                    _log.warning("reader %s: a memory of the documents is stored, and used from now on", name)
