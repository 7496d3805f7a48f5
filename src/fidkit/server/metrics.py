"""Numbers for Prometheus: what waits, what runs, how long each stage takes, how requests end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

if TYPE_CHECKING:
    from fidkit.server.service import Service
    from fidkit.types import Answer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Of one server."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()

        def gauge(name: str, text: str, function: object) -> None:
            Gauge(name, text, registry=self._registry).set_function(function)  # type: ignore[arg-type]

        scheduler = service.scheduler
        gauge("fidkit_questions_waiting", "Questions that wait to be read.", lambda: scheduler.waiting)
        gauge("fidkit_questions_running", "Questions that are being read.", lambda: scheduler.running)
        gauge(
            "fidkit_seconds_ahead", "How long what waits, and what is being read, will take.",
            lambda: scheduler.seconds_ahead,
        )  # fmt: skip
        self._requests = Counter(
            "fidkit_requests", "Requests by route and status.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "fidkit_request_seconds", "From a request to the end of its response.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._stages = Histogram(
            "fidkit_stage_seconds", "Stages of an answer; all of a batch wait for it.", ("stage",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._answers = Counter(
            "fidkit_answers", "Answers, and those withheld.", ("kind",), registry=self._registry
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count an answer and its stages."""
        self._answers.labels("given" if answer.text else "withheld").inc()
        for stage, milliseconds in answer.timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def response(self) -> Response:
        """All of them, as Prometheus reads them."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
