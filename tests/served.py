"""A server that runs: on loopback, with the bundled reader and a few documents."""

import asyncio
import threading
from contextlib import contextmanager

import httpx
import uvicorn

from fidkit.server.app import application
from fidkit.server.guard import Access
from fidkit.server.library import Library
from fidkit.server.limits import Limits
from fidkit.server.listening import listening
from fidkit.server.patience import settings
from fidkit.server.service import Service

DOCUMENTS = {
    "harbour.txt": "The harbour master of Ringsend is Aoife Brennan. She has kept the ledger since 1911.",
    "tea.md": "# Tea\n\nTea is grown in Kenya. The largest garden belongs to Wanjiru Kamau.",
    "mill.txt": "The mill at Ardgath was built in 1843 by Tomas Quill. It grinds oats and barley.",
}


@contextmanager
def running(*sources, limits=None, access=None, readers=None):
    """A server in a thread of its own; gives a client, and the service behind it."""
    library = Library(list(map(str, sources)))
    service = Service(
        library.corpus, readers or {"pocket": "pocket"}, limits or Limits(), notes=library.notes
    )
    with listening("127.0.0.1", 0) as socket:
        app = application(service, access or Access(), library)
        server = uvicorn.Server(settings(app, service.limits, "error"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
        thread.start()
        try:
            base = f"http://127.0.0.1:{socket.getsockname()[1]}"
            with httpx.Client(base_url=base, timeout=30) as client:
                client.service, client.library = service, library
                yield client
        finally:
            server.should_exit = True
            thread.join()
            service.close()
