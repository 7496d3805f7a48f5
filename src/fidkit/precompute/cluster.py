"""Building units on a cluster, with Ray: one actor a worker, each of which loads the reader once.

Units and shards are files, so all machines must see the corpus' directory under the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fidkit.cluster import joined, sentence_of
from fidkit.errors import FidkitError, MemoryStoreError
from fidkit.precompute.local import Finished
from fidkit.precompute.unit import read_unit
from fidkit.precompute.work import Advance, Job, Worker


def build_with_ray(job: Job, count: int, units: Sequence[Path], finished: Finished, advance: Advance) -> None:
    """Build units with `count` actors.

    Raises:
        UsageError: Ray isn't installed.
        MemoryStoreError: an actor died, or Ray can't be started.
        FidkitError: what an actor failed of.
    """
    with joined(count) as ray:
        try:
            gpus = 1 if job.device.startswith("cuda") else 0
            actor = ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
            actors = [actor.remote(job) for _ in range(min(count, len(units)))]
            waiting = list(reversed(units))
            working = {each.build.remote(unit): (each, unit) for each in actors for unit in [waiting.pop()]}
            while working:
                [ready], _ = ray.wait(list(working), num_returns=1)
                each, unit = working.pop(ready)
                shard = ray.get(ready)
                advance(len(read_unit(unit).keys))
                finished(unit, shard)
                if waiting:
                    unit = waiting.pop()
                    working[each.build.remote(unit)] = each, unit
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise (
                cause
                if isinstance(cause, FidkitError)
                else MemoryStoreError(f"a worker failed: {sentence_of(error)}; see Ray's log")
            ) from error
        except ray.exceptions.RayError as error:
            raise MemoryStoreError(
                f"Ray lost a worker ({sentence_of(error)}); run the build again, it goes on where it stopped"
            ) from error
