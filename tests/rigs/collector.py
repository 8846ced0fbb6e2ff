"""An OTLP/HTTP collector: takes spans as OpenTelemetry's protocol has them, and keeps them to be asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local_azure.processes.listening import LOOPBACK, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A span as it came."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    failed: bool
    description: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    scope: str


class Collector:
    """Listens at one port, can go away and come back; `spans` are those that came so far."""

    def __init__(self) -> None:
        self.spans: list[Taken] = []
        self.requests = 0
        self.paths: set[str] = set()
        self.headers: dict[str, str] = {}
        self._port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def of(self, trace: str) -> list[Taken]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    def named(self, name: str, **attributes: object) -> list[Taken]:
        """The spans of one name with these attributes, of which an underscore stands for the dot."""
        wanted = {f"certcast.{key}": value for key, value in attributes.items()}
        return [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]

    async def _take(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.paths.add(request.path)
        self.headers.update(request.headers)
        self.spans += taken(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


def taken(request: ExportTraceServiceRequest) -> list[Taken]:
    """The spans of one request."""
    return [
        Taken(
            name=span.name,
            kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            links=tuple(link.span_id.hex() for link in span.links),
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            description=span.status.message,
            began_ns=span.start_time_unix_nano,
            ended_ns=span.end_time_unix_nano,
            attributes=_values(span.attributes),
            resource=_values(of_resource.resource.attributes),
            scope=of_scope.scope.name,
        )
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _values(pairs: Sequence[KeyValue]) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens until the block ends."""
    collector = Collector()
    await collector.start()
    try:
        yield collector
    finally:
        await collector.stop()
        await asyncio.sleep(0)
