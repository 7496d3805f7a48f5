"""The server as an application of Ray Serve, on as many replicas as are needed (extra `ray`).

    serve run fidkit.server.fleet:application corpus=postgresql://db.example/team?corpus=contracts

A replica is a process with readers and a scheduler of its own, behind the same guard and routes as
`fidkit serve`. None of them keeps anything that the others lack: the corpus was built before, so nothing is
added by callers, and what changes in a database is followed by every replica.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.types import ASGIApp

from fidkit.cluster import require_ray
from fidkit.config import refusals
from fidkit.errors import FidkitError, UsageError
from fidkit.passages.engines import engine_of
from fidkit.passages.local.layout import is_corpus
from fidkit.server.guard import Access, host_names
from fidkit.server.keys import Keys
from fidkit.server.readers import by_name
from fidkit.server.scaling import SECONDS_AHEAD, TARGET_SECONDS, BySecondsAhead

NAME = "fidkit"
"""Of the deployment."""
_ONGOING = 1_000  # beyond what a replica lets wait, so that it says 503 with Retry-After itself
_SHUTDOWN_SECONDS = 70.0  # longer than a question may take
_UPSCALE_SECONDS = 5.0  # of work that waits; a question may wait for a minute
_SURGE_PERCENT = 25  # at least one replica more than usual while they are replaced


class Fleet(BaseModel):
    """What is served, by how many, and who may ask.

    Attributes:
        corpus: `postgresql://…`, or a built corpus at a path that every machine has.
        readers: as `fidkit serve --reader` takes them, also `s3://bucket/prefix`; the first is the default.
        keys: file of keys, at the same path everywhere; None where only this machine may ask.
        allow_host: names by which callers call the fleet.
        replicas, max_replicas: at least and at most.
        target_seconds: of work that may wait in a replica before there are more of them.
        cpus: cores of a replica, and threads that read.
        device, precision: as `fidkit serve` takes them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    readers: list[str] = Field(default=["pocket"], min_length=1)
    keys: str | None = None
    allow_host: list[str] = []
    replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_seconds: float = Field(default=TARGET_SECONDS, gt=0)
    cpus: float = Field(default=1.0, gt=0)
    device: str = "auto"
    precision: str = "auto"

    @field_validator("readers", "allow_host", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """On the command line of `serve run`, several are given with commas between."""
        return given.split(",") if isinstance(given, str) else given

    def check(self) -> Fleet:
        """Itself, if it can be served.

        Raises:
            UsageError: documents that replicas wouldn't share, others without a key, names that are none.
        """
        if engine_of(self.corpus) is None and not is_corpus(Path(self.corpus)):
            raise UsageError(
                f"corpus={self.corpus}: no built corpus is there; a fleet serves postgresql://…, or what "
                f"`fidkit corpus build {self.corpus} --to DIR` made at a path that all machines have"
            )
        if self.allow_host and self.keys is None:
            raise UsageError(
                f"allow_host={','.join(self.allow_host)} lets other machines ask; give keys=FILE, with a key "
                "of `fidkit keys add NAME --to FILE`, or leave allow_host out"
            )
        by_name(self.readers)
        host_names(self.allow_host)
        return self


class Replica:
    """One of the fleet, as Ray Serve runs it.

    Args:
        fleet: what is served.
    """

    def __init__(self, fleet: Fleet) -> None:
        from fidkit.server.library import Library
        from fidkit.server.service import Service

        self._fleet = fleet
        self._library = Library([fleet.corpus])
        self._service = Service(
            self._library.corpus, by_name(fleet.readers), device=fleet.device,
            precision=fleet.precision, notes=self._library.notes,  # type: ignore[arg-type]
        )  # fmt: skip
        self._service.measure()  # what is laid out at first use is laid out before anybody asks

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application, for Ray."""
        from fidkit.server.app import application as served

        keys = None if self._fleet.keys is None else Keys(Path(self._fleet.keys))
        access = Access(keys, frozenset(host_names(self._fleet.allow_host)))
        return served(self._service, access, self._library)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the number of replicas is decided by."""
        return {SECONDS_AHEAD: self._service.scheduler.seconds_ahead}

    def check_health(self) -> None:
        """Say so where nothing can be read any more: Ray puts another replica in its place."""
        from fidkit.server.routes.state import STUCK_SECONDS

        if self._service.scheduler.busy_seconds > STUCK_SECONDS:
            raise FidkitError(f"one batch has been read for more than {STUCK_SECONDS:.0f} seconds")

    def __del__(self) -> None:
        if hasattr(self, "_service"):
            self._service.close()


def application(given: dict[str, Any] | Fleet) -> Any:
    """The application, as `serve run` and a configuration file of Ray Serve name it.

    Where reader or corpus change, Ray starts replicas with the new ones, and ends old ones once these answer
    and what had begun is answered.

    Args:
        given: fields of `Fleet`.

    Returns:
        Ray Serve's `Application`.

    Raises:
        UsageError: fields that are none, or can't be served; Ray isn't installed.
    """
    fleet = (given if isinstance(given, Fleet) else _parsed(given)).check()
    serve = _ray_serve()
    made = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        ray_actor_options={"num_cpus": fleet.cpus},
        max_ongoing_requests=_ONGOING,
        max_surge_percent=_SURGE_PERCENT,
        graceful_shutdown_timeout_s=_SHUTDOWN_SECONDS,
        autoscaling_config={
            "min_replicas": fleet.replicas,
            "max_replicas": max(fleet.replicas, fleet.max_replicas),
            "upscale_delay_s": _UPSCALE_SECONDS,
            "policy": {
                "policy_function": f"{BySecondsAhead.__module__}:{BySecondsAhead.__name__}",
                "policy_kwargs": {"target_seconds": fleet.target_seconds},
            },
        },
    )
    return made.bind(fleet)


def _parsed(given: dict[str, Any]) -> Fleet:
    try:
        return Fleet.model_validate(given)
    except ValidationError as error:
        found = refusals(error.errors(), given, Fleet)
        known = ", ".join(Fleet.model_fields)
        raise UsageError(f"{'; '.join(one.why for one in found)}; a fleet takes {known}") from error


def _ray_serve() -> Any:
    require_ray()
    try:
        from ray import serve
    except ImportError as error:
        raise UsageError(
            "a fleet needs Ray Serve, which is not installed; get it with: pip install 'fidkit[ray,serve]'"
        ) from error
    return serve
