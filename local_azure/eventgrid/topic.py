"""A local Event Grid topic: takes CloudEvents as the service does, and hands each over.

learn.microsoft.com, "Publish events to Azure Event Grid custom topics using access keys", and "CloudEvents v1.0 schema
with Azure Event Grid". As with the service, a batch is taken whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from local_azure.processes.listening import LOOPBACK, listen
from shared.phrasing import logger, shown

if TYPE_CHECKING:
    from collections.abc import Callable

log = logger("certcast.topic")

EVENTS_PATH = "/api/events"
KEY_HEADER = "aeg-sas-key"

_BATCH_TYPE = "application/cloudevents-batch+json"
_EVENT_TYPE = "application/cloudevents+json"
_LIMIT_BYTES = 1024 * 1024
_REQUIRED = ("specversion", "id", "source", "type")
_SHUTDOWN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """One CloudEvent that was taken.

    Attributes:
        attributes: Its context attributes and extensions, by name.
        data: Its data.
    """

    attributes: Mapping[str, Any]
    data: Any

    def __str__(self) -> str:
        """The event on one line: its type, its subject, and what an upload's entry says of it."""
        parts = [str(self.attributes["type"]), shown(str(self.attributes.get("subject", "")))]
        if isinstance(self.data, dict):
            count = f" {self.data['live']}/{self.data.get('expected')}" if "live" in self.data else ""
            parts += [f"{self.data.get('status', '')}{count}"]
            reasons = [str(self.data.get("reason") or "")]
            reasons += [f"{each.get('code')}: {each.get('detail')}" for each in self.data.get("violations") or ()]
            parts += [reason for reason in reasons if reason]
        return " · ".join(parts)


class TopicReceiver:
    """A running local topic; made by `start`.

    Args:
        key: What publishers must send as `aeg-sas-key`.
        on_event: Called on the event loop with every event that was taken; doubled ones too.

    Attributes:
        key: As given.
    """

    def __init__(self, key: str, on_event: Callable[[ReceivedEvent], None] | None = None) -> None:
        self.key = key
        self._on_event = on_event
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> str:
        """What publishers are given as the topic's endpoint."""
        return f"http://{LOOPBACK}:{self._port}{EVENTS_PATH}"

    async def start(self, port: int = 0) -> Self:
        """Begin to accept events; the port is kept when it is stopped and started again.

        Args:
            port: Port to listen on; 0 is a free one.

        Raises:
            ConfigurationError: The port is taken or not allowed; the text names the cure.
        """
        app = web.Application(client_max_size=_LIMIT_BYTES)
        app.router.add_post(EVENTS_PATH, self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        self._port = await listen(runner, LOOPBACK, port or self._port, "the event topic")
        self._runner = runner
        return self

    async def stop(self) -> None:
        """Stop accepting events."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if not compare_digest(request.headers.get(KEY_HEADER, "").encode(), self.key.encode()):
            return _refusal(401, "Unauthorized", f"the header {KEY_HEADER} does not hold the topic's key")
        if request.content_type not in {_BATCH_TYPE, _EVENT_TYPE}:
            return _refusal(400, "BadRequest", f"CloudEvents are sent as {_BATCH_TYPE}")
        try:
            document = json.loads(await request.read())
        except ValueError:
            return _refusal(400, "BadRequest", "the body is not JSON")
        batch = document if request.content_type == _BATCH_TYPE else [document]
        if not isinstance(batch, list) or not all(_is_event(each) for each in batch):
            return _refusal(400, "BadRequest", f"a CloudEvent 1.0 has {', '.join(_REQUIRED)}")
        for each in batch:
            attributes = {name: value for name, value in each.items() if name != "data"}
            event = ReceivedEvent(attributes=attributes, data=each.get("data"))
            log.info("%s", event)
            if self._on_event is not None:
                self._on_event(event)
        return web.Response(status=200)


def _is_event(document: object) -> bool:
    if not isinstance(document, dict) or document.get("specversion") != "1.0":
        return False
    return all(isinstance(document.get(name), str) and document[name] for name in _REQUIRED)


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
