"""What Ray says of a failure, told in the failure's own words."""

import pytest

from fidkit.cluster import sentence_of
from fidkit.errors import CheckpointError

# As Ray 2.60 writes them.
TASK = """\x1b[36mray::MapBatches(read)()\x1b[39m (pid=1, ip=192.0.2.2)
OSError: [Errno 28] No space left on device

The above exception was the direct cause of the following exception:

\x1b[36mray::MapBatches(read)()\x1b[39m (pid=1, ip=192.0.2.2)
  File "tasks.py", line 15, in read
    except OSError as error: raise ValueError("outer") from error
                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
{raised}

The above exception was the direct cause of the following exception:

\x1b[36mray::MapBatches(read)()\x1b[39m (pid=1, ip=192.0.2.2)
ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s)."""
ACTOR = """The actor died because of an error raised in its creation task, ray::Worker.__init__() (pid=1)
  File "work.py", line 5, in __init__
    raise CheckpointError(...)
fidkit.errors.CheckpointError: /r: no weights; give a reader"""
DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n\tpid: 5893"


def of_ray(text: str, cause: BaseException | None = None) -> Exception:
    made = type("RayTaskError", (Exception,), {"__module__": "ray.exceptions", "cause": cause})
    return made(text)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (of_ray(TASK.format(raised="ValueError: no\nsuch page")), "ValueError: no such page"),
        (of_ray(TASK.format(raised="json.decoder.JSONDecodeError: no")), "JSONDecodeError: no"),
        (of_ray(TASK.format(raised="fidkit.errors.CorpusError: /x: no; go")), "/x: no; go"),
        (of_ray(ACTOR), "/r: no weights; give a reader"),
        (of_ray(DIED), "RayTaskError: The actor died unexpectedly before finishing this task."),
        (of_ray(ACTOR, ValueError("one\ntwo")), "ValueError: one two"),
        (of_ray("wrapped", of_ray("again", CheckpointError("/r: no; go"))), "/r: no; go"),
        (ValueError("x" * 600), "ValueError: " + "x" * 488),
    ],
)
def test_a_failure_is_told_in_its_own_words(error: Exception, said: str) -> None:
    assert sentence_of(error) == said


def test_with_what_was_raised_from_it() -> None:
    with pytest.raises(ValueError, match="outer") as error:
        raise ValueError("outer") from of_ray("wrapped", KeyError("inner"))
    assert sentence_of(error.value) == "KeyError: 'inner'"
