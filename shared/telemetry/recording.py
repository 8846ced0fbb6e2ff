"""Recording spans by OpenTelemetry's SDK."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared import VERSION
from shared.telemetry.traceparents import ids_of, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.telemetry.names import Kind
    from shared.telemetry.now_and_then import NowAndThen
    from shared.telemetry.spans import Value

SCOPE = "certcast"
SENT_EVERY_MS = 1_000
"""So that a function's spans are sent soon after it, though a process of the Function may be stopped while idle."""

_NO_INSTRUMENTATION = ("azure_sdk", "django", "fastapi", "flask", "httpx", "psycopg2", "requests", "urllib", "urllib3")


def provider_of(service: str, instance: str, *, to_azure: bool) -> TracerProvider:
    """What spans are recorded with: one that the Functions worker made already, or ours.

    Args:
        service: The service's name where `OTEL_SERVICE_NAME` gives none.
        instance: The agent's id; empty for the Function.
        to_azure: Whether spans go to Azure Monitor, else to a collector.

    Raises:
        ImportError: What sends them is not installed.
        ValueError: A setting of it is wrong.
    """
    known = trace.get_tracer_provider()
    if isinstance(known, TracerProvider):
        return known
    resource = Resource.create(_about(service, instance))
    provider = _to_azure(resource, is_agent=instance != "") if to_azure else _to_collector(resource)
    atexit.unregister(provider.shutdown)  # which may take half a minute; ours is bounded
    return provider


def _about(service: str, instance: str) -> dict[str, str]:
    """What the process says of itself (semantic conventions, "Service"); what the environment says goes before it."""
    about = {"service.namespace": "certcast", "service.version": VERSION}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = service
    if instance:
        about["service.instance.id"] = instance
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {name: value for name, value in about.items() if f"{name}=" not in given}


def _to_collector(resource: Resource) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - slow to import

    sampler = None if os.environ.get("OTEL_TRACES_SAMPLER") else ALWAYS_ON
    provider = TracerProvider(resource=resource, sampler=sampler)
    often = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else SENT_EVERY_MS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=often))
    return provider


def _to_azure(resource: Resource, *, is_agent: bool) -> TracerProvider:
    """Set up Azure Monitor's distribution, which reads its connection and its identity from the environment.

    Of what it can do besides, an agent's log records alone are sent: those of the Function are sent by the host, and
    would be there twice.
    """
    usual = {
        "OTEL_TRACES_SAMPLER": "always_on",  # its own default keeps five traces a second, and no whole ones
        "OTEL_BSP_SCHEDULE_DELAY": str(SENT_EVERY_MS),
        "OTEL_METRICS_EXPORTER": "none",
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
        "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
        "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
        "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED": "true",
    }
    if not is_agent:
        usual["OTEL_LOGS_EXPORTER"] = "none"
    for name, value in usual.items():
        os.environ.setdefault(name, value)
    from azure.monitor.opentelemetry import configure_azure_monitor  # noqa: PLC0415 - slow to import

    configure_azure_monitor(
        resource=resource,
        disable_offline_storage=True,
        enable_live_metrics=False,
        enable_performance_counters=False,
        instrumentation_options={name: {"enabled": False} for name in _NO_INSTRUMENTATION},
    )
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider), "the distribution sets one up"  # noqa: S101 - narrows the type
    return provider


class RecordedSpan:
    """A span that the SDK records.

    Args:
        span: It.
    """

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token = context.attach(trace.set_span_in_context(span))
        own = span.get_span_context()
        self.traceparent = traceparent_of(own.trace_id, own.span_id, sampled=own.trace_flags.sampled)

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, description: str) -> None:
        """Say that the work failed."""
        self._span.set_status(Status(StatusCode.ERROR, description or None))

    def end(self, *, here: bool) -> None:
        """End it, as `shared.telemetry.spans.Recorded` says."""
        if here:
            context.detach(self._token)
        self._span.end()


class SpanRecorder:
    """Records spans by a provider.

    Args:
        provider: What they are recorded with.
        trouble: What the libraries that send them have to say.
    """

    def __init__(self, provider: TracerProvider, trouble: NowAndThen) -> None:
        self._tracer = provider.get_tracer(SCOPE)
        self._trouble = trouble

    def begin(
        self,
        name: str,
        *,
        kind: Kind,
        parent: str,
        links: Iterable[str],
        attributes: Mapping[str, Value],
        began_ns: int | None,
    ) -> RecordedSpan:
        """Begin a span, as `shared.telemetry.spans.Recorder` says."""
        self._trouble.say()
        above = _context_of(parent)
        under = (
            context.Context()
            if above is None
            else trace.set_span_in_context(NonRecordingSpan(above), context.Context())
        )
        return RecordedSpan(
            self._tracer.start_span(
                name,
                context=under,
                kind=SpanKind[kind.value],
                links=[Link(found) for link in dict.fromkeys(links) if (found := _context_of(link)) is not None],
                attributes=attributes,
                start_time=began_ns,
            )
        )


def _context_of(traceparent: str) -> SpanContext | None:
    ids = ids_of(traceparent)
    if ids is None:
        return None
    flags = TraceFlags(int(traceparent[-2:], 16))
    return SpanContext(trace_id=int(ids[0], 16), span_id=int(ids[1], 16), is_remote=True, trace_flags=flags)
