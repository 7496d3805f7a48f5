"""The command line: one file a verb. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # nothing is imported up here, as in `fidkit`
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """See `fidkit.cli.app.main`; Ctrl-C while its modules are imported ends it without a traceback, too."""
    try:
        from fidkit.cli.app import main as run

        run(arguments)
    except KeyboardInterrupt:
        from fidkit.errors import INTERRUPTED

        sys.exit(INTERRUPTED)
