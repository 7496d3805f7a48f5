"""The command line: one file a verb. Results go to stdout, everything else to stderr."""

from fidkit.cli.app import main

__all__ = ["main"]
