"""A child of this process, for what ends or limits a process: nothing has to be imported anew."""

import os
import traceback
from collections.abc import Callable
from typing import NoReturn


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a child; its exit status, or the negative number of the signal that ended it.

    Not for what has threads of its own, such as a search index or a data loader: a child has none of them.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def die(*_: object, **__: object) -> NoReturn:
    """Stands for a crash at this very moment."""
    os.kill(os.getpid(), 9)
    raise AssertionError("still alive")
