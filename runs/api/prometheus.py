"""What Prometheus collects: the store's numbers, and how long this server takes to answer.

Owns the names of the metrics. No label comes from a request: of a route it is the template, never the address.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...storage.errors import FreshlineError
from ..composition import Freshline
from ..gauges import Gauges, Readings
from ..live.poller import Live
from .policies import Routes, read

routes = Routes(tags=["monitoring"])

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE = "none"
_THREADS = 4
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, freshline: Freshline, live: Live) -> None:
        self.registry = CollectorRegistry()
        self.threads = CapacityLimiter(_THREADS)
        """In which the numbers are read: those of the other routes may all wait for a database that hangs."""
        self._durations = Histogram(
            "freshline_http_request_duration_seconds",
            "Seconds from a request to the beginning of its answer",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        gauges = Gauges(freshline.database, tenant_id=freshline.settings.tenant_id)
        self.registry.register(_Numbers(gauges, live))
        ProcessCollector(registry=self.registry)
        self._templates: dict[Any, str] | None = None

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._durations.labels(method, self._template(scope), str(status)).observe(seconds)

    def _template(self, scope: Scope) -> str:
        """Return the template of the route that was asked, such as `/api/v1/runs/{run_id}`."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return _NO_ROUTE
        if self._templates is None:
            # The route that a request is given to does not know the prefix under which it is.
            known = iter_route_contexts(scope["app"].routes)
            self._templates = {route.endpoint: str(route.path_format) for route in known}
        return self._templates.get(endpoint, _NO_ROUTE)


class Timing:
    """The layer that measures every request."""

    def __init__(self, app: ASGIApp, *, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its answer when it begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._meter.answered(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_counted)


class _Numbers(Collector):
    """The store's numbers, read when they are collected."""

    def __init__(self, gauges: Gauges, live: Live) -> None:
        self._gauges, self._live = gauges, live

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every gauge; without those of the store while it cannot be reached, or does not answer."""
        try:
            readings = self._gauges.read()
        except (FreshlineError, sa.exc.DBAPIError):  # it may also be lost between two questions
            readings = None
        yield _gauge("freshline_store_up", "1 when the database of records answers", float(readings is not None))
        yield _gauge("freshline_streams", "Streams that are open", float(self._live.num_subscribers))
        if readings is not None:
            yield from _of_store(readings)


def _of_store(readings: Readings) -> Iterator[GaugeMetricFamily]:
    yield _by("freshline_runs_active", "Runs under way", "status", readings.active)
    yield _by(
        "freshline_runs_oldest_seconds",
        "Seconds since the oldest run under way was created",
        "status",
        {status: readings.oldest_s.get(status, 0.0) for status in readings.active},
    )
    yield _by("freshline_runs_ended_last_hour", "Runs that ended within the last hour", "status", readings.ended)
    yield _gauge("freshline_outbox_open", "Entries that have not left for Prefect", readings.open_entries)
    yield _gauge("freshline_outbox_oldest_seconds", "Seconds since the oldest of them was due", readings.oldest_entry_s)
    if readings.reconciler_s is not None:
        yield _gauge(
            "freshline_reconciler_age_seconds", "Seconds since a reconciler last came through", readings.reconciler_s
        )
    yield _by("freshline_deployments", "Deployments that are not retired", "freshness", readings.freshness)
    yield _by("freshline_deployments_activity", "Deployments that are not retired", "activity", readings.activity)


@routes.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
@read
async def get_metrics(request: Request) -> Response:
    """Return the store's numbers and this server's; those of the store are kept for some seconds.

    Answers within a few seconds: while the database does not, without its numbers, and `freshline_store_up` is 0.
    """
    meter: Meter = request.app.state.meter
    numbers = await to_thread.run_sync(generate_latest, meter.registry, limiter=meter.threads)
    return Response(numbers, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value=value)


def _by(name: str, help_: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for word, value in values.items():
        family.add_metric([str(word)], value)
    return family
