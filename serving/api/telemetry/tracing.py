"""OpenTelemetry traces to an OTLP collector: a span for each request, with its time in the queue, computing, encoding.

On where OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set; the exporter is a package of its own
and reads the other OTEL_ variables. The sender's `traceparent` is the parent. Spans are made when a request ends.
"""

import os
import time
from typing import Any

from serving import __version__
from serving.api.http.context import RequestContext
from serving.api.telemetry.logs import PROBES

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingError(Exception):
    """Tracing is configured and cannot work; the message says what is missing."""


class Tracing:
    """Spans for the requests of this process. Raises TracingError where the exporter is not installed."""

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            name = next(name for name in ENDPOINTS if name in os.environ)
            raise TracingError(
                f"`{name}` is set: install opentelemetry-exporter-otlp-proto-http, or unset it."
            ) from None
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME", "ganymede")
        resource = Resource.create({"service.name": name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ganymede", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    def answered(self, context: RequestContext, route: str, seconds: float) -> None:
        """Record the spans of a request whose reply ends; an observer of `ContextMiddleware`."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        if context.path in PROBES:
            return
        ended = time.time_ns()
        began = ended - round(1e9 * seconds)
        attributes: dict[str, Any] = {
            "http.request.method": context.method,
            "http.route": route,
            "http.response.status_code": context.status,
            "client.address": context.client,
            "ganymede.request_id": context.request_id,
            "ganymede.images": context.images,
        }
        if context.problem is not None:
            attributes["error.type"] = context.problem.code
        parent = self._propagator.extract(context.headers)
        span = self._tracer.start_span(
            f"{context.method} {route}", parent, kind=self._kind, attributes=attributes, start_time=began
        )
        if context.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        times = context.times
        steps = [("queue", times.queue), ("compute", times.compute), ("encode", context.encode_seconds or 0.0)]
        step_began = ended - round(1e9 * sum(taken for _, taken in steps))  # they come last
        for name, taken in steps:
            if taken:
                step = self._tracer.start_span(name, set_span_in_context(span), start_time=step_began)
                step_began += round(1e9 * taken)
                step.end(step_began)
        span.end(ended)

    def close(self) -> None:
        """Send the spans that have not been sent."""
        self._provider.shutdown()


def configured() -> bool:
    return any(os.environ.get(name) for name in ENDPOINTS)
