"""Errors whose text is meant for the person who caused them.

Every message says what was given, what was expected and what to do next, on one line.
The command line prints the text and exits with `exit_code`; `--debug` shows the traceback.
"""

WITH_TORCH = "get it with: pip install 'fidkit[torch]'"
"""Said where PyTorch is needed and isn't there."""
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended: 128 + SIGINT, what a shell reports."""
UNREAD = 141
"""Exit code of a command whose output nobody reads any more: 128 + SIGPIPE, what a shell reports."""


class FidkitError(Exception):
    """Something failed that the caller can do something about (exit code 1)."""

    exit_code = 1


class UsageError(FidkitError):
    """The call itself was wrong: a bad option, an empty question, an unknown name (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration or recipe has an unknown key or an impossible combination."""


class CheckpointError(FidkitError):
    """A reader directory is missing parts, has parts too many, or parts of the wrong shape."""


class CorpusError(FidkitError):
    """A corpus can't be opened, built or searched."""


class MemoryStoreError(FidkitError):
    """A memory can't be opened, read or written, or belongs to another reader."""


class ForeignMemoryError(MemoryStoreError):
    """The memory that is stored belongs to another reader, or was built for another one meanwhile."""


class DataError(FidkitError):
    """A file of passages or questions is malformed; the message names file and line."""


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust failed within; that is no `Exception` in Python."""
    return type(error).__name__ == "PanicException"
