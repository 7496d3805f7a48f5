"""How a memory is built, what that will take, and what was done: records without behaviour."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fidkit.cluster import By, require
from fidkit.devices import choose_device
from fidkit.engine.precision import Precision
from fidkit.errors import UsageError
from fidkit.precompute.codec import DEFAULT_PQ_CODES
from fidkit.precompute.unit import Identity

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Options:
    """How a memory is built.

    Attributes:
        codec: `float32`, `bf16`, `int8` or `pq`; None keeps that of the memory, and is bf16 for a new one.
        precision: that memory is computed with; `auto` keeps that of the memory, and is the fastest of this
            machine for a new one.
        shard_mb: MiB of a shard, about; None keeps that of a plan that is not finished, else 1024.
        workers: processes on this machine, or Ray's actors.
        by: `local`, or `ray`. Under torchrun its processes do the work.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`. Processes of torchrun and Ray's
            actors take a GPU each.
        replace: build anew what belongs to another reader, codec or precision.
        pq_codes: of each subspace of product quantisation, when it is trained.
        shards_at: where shards lie, if not in the memory's own folder; to be named each time, since what a
            memory's files say of places outside is not trusted.
    """

    codec: str | None = None
    precision: Precision = "auto"
    shard_mb: int | None = None
    workers: int = 1
    by: By = "local"
    device: str = "auto"
    replace: bool = False
    pq_codes: int = DEFAULT_PQ_CODES
    shards_at: str | None = None


@dataclass(frozen=True, slots=True)
class BuildForecast:
    """What a build will do, before anything is encoded.

    Attributes:
        passages: of the corpus.
        kept: contents whose memory is there; equal passages share one.
        encode: contents to encode.
        full: of these, as long as the reader takes, or cut.
        tokens: of what is to be encoded.
        bytes: that its shards will have, exactly.
        shards: to be made.
        seconds: that encoding takes, from a short trial.
        resumed: whether an earlier build goes on.
    """

    passages: int
    kept: int
    encode: int
    full: int
    tokens: int
    bytes: int
    shards: int
    seconds: float
    resumed: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What a build did.

    Attributes:
        passages, contents: of the corpus; equal passages share a row.
        encoded: contents that were encoded.
        removed: rows that no passage needed any more.
        compacted: shards that were rewritten because most of them was dead.
        shards, bytes, tokens: of what was encoded.
        encode_s: seconds from the first batch to the last commit.
        seconds: of everything.
        identity: fingerprint, codec and precision.
        corpus_changed: whether the corpus was changed meanwhile, so that the build has to be run again.
        together: contents whose memory was stored while their vector was made; not counted in `encoded`.
    """

    passages: int
    contents: int
    encoded: int
    removed: int
    compacted: int
    shards: int
    bytes: int
    tokens: int
    encode_s: float
    seconds: float
    identity: Identity
    corpus_changed: bool
    together: int = 0

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        return record | record.pop("identity")


def check(options: Options) -> None:
    """Refuse what can't be.

    Raises:
        UsageError: names the option, and what it takes.
    """
    require(options.by)
    if options.workers < 1:
        raise UsageError(f"--workers is {options.workers}; expected 1 or more")
    if options.shard_mb is not None and options.shard_mb < 1:
        raise UsageError(f"--shard-mb is {options.shard_mb}; expected 1 or more")
    if options.precision not in PRECISIONS:
        raise UsageError(f"--precision is {options.precision!r}; expected one of {', '.join(PRECISIONS)}")
    if choose_device(options.device).index is not None and options.by == "ray":
        raise UsageError(f"--device is {options.device}, but Ray gives its actors a GPU each; give cuda")
