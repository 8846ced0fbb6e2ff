"""Counts what is asked of a storage account: which operation, by which part of the local cloud, with which outcome.

Parts are told apart by the User-Agent: azure-core appends to its own what `AZURE_HTTP_USER_AGENT` says
(https://learn.microsoft.com/python/api/azure-core/azure.core.pipeline.policies.useragentpolicy).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aiohttp import hdrs

from local_azure.proxy.operations import Service
from shared.state.records import INSTANCES_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_azure.proxy.operations import Asked

Outcome = Literal["ok", "conflict", "missing", "other"]

FUNCTION, RELAY, CLIENT = "function", "relay", "client"
_OUTSIDE = {RELAY, CLIENT}
_CALLER = re.compile(r"certcast-caller/([\w.-]+)")
_MISSING, _CONFLICTS, _FIRST_ERROR = 404, {409, 412}, 400


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Counted:
    """One kind of request.

    Attributes:
        service: Which service it went to.
        operation: Its name in the REST API.
        resource: The container, table or queue; `account` for what is asked of all.
        caller: `function`, `agent-0` ..., `relay` for what the Event Grid relay asks itself, `client` for all others.
        outcome: `conflict` for 409 and 412, `missing` for 404, `other` for other errors.
    """

    service: Service
    operation: str
    resource: str
    caller: str
    outcome: Outcome

    @property
    def is_poll(self) -> bool:
        """Whether it looks for messages: how often that is done depends on time, not on what there is to do."""
        return self.operation == "Get Messages"

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is an agent's way of saying that it is alive, which depends on time too."""
        return self.resource == INSTANCES_TABLE and self.caller != FUNCTION

    @property
    def is_useful(self) -> bool:
        """Whether certcast asked it because there was something to do."""
        return not (self.is_poll or self.is_heartbeat or self.caller in _OUTSIDE)


Counts = Counter[Counted]
"""How many requests there were of each kind."""


class RequestCounter:
    """Counts requests from the start of the local cloud on."""

    def __init__(self) -> None:
        self._counts = Counts()

    def count(self, asked: Asked, status: int) -> None:
        """Count one request, by its answer's status."""
        kind = Counted(
            service=asked.service,
            operation=asked.request.operation,
            resource=asked.request.resource.rpartition(" ")[2],
            caller=caller_of(asked.headers),
            outcome=_outcome(status),
        )
        self._counts[kind] += 1

    def mark(self) -> Counts:
        """All requests so far, for `since`."""
        return self._counts.copy()

    def since(self, mark: Counts) -> Counts:
        """The requests after a mark."""
        return self._counts - mark


def useful(counts: Counts) -> Counts:
    """What certcast asked because there was something to do: without polls, heartbeats, relay and clients."""
    return Counts({kind: count for kind, count in counts.items() if kind.is_useful})


def user_agent(caller: str) -> str:
    """What a part of the local cloud adds to its User-Agent, so that its requests are counted as its own."""
    return f"certcast-caller/{caller}"


def calling(caller: str) -> dict[str, str]:
    """The environment of a process whose requests are counted as this caller's."""
    return {"AZURE_HTTP_USER_AGENT": user_agent(caller)}


def caller_of(headers: Mapping[str, str]) -> str:
    """Who asks."""
    found = _CALLER.search(headers.get(hdrs.USER_AGENT, ""))
    return found[1] if found else CLIENT


def _outcome(status: int) -> Outcome:
    if status < _FIRST_ERROR:
        return "ok"
    if status in _CONFLICTS:
        return "conflict"
    return "missing" if status == _MISSING else "other"
