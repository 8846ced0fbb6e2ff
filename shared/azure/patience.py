"""How long the services are asked again within one call, and how often a request was sent in it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import ClientConnectionError, ClientConnectorError, ClientOSError, ServerDisconnectedError
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.policies import AsyncRetryPolicy, RetryPolicy
from azure.storage.blob.aio import ExponentialRetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from azure.core.pipeline import PipelineRequest, PipelineResponse

LONGEST_WAIT_S = 10.0
"""A service that asks for a longer wait (`Retry-After`, RFC 9110 section 10.2.3) is asked this often, and then later by
what wanted something of it: a function's whole run has few minutes."""
VAULT_TIMEOUTS: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 20}
"""Of a vault's client, in seconds. The SDK's own are 300 each (azure-core, `ConnectionConfiguration`): a vault behind a
firewall that drops what it does not let in would hold whatever asks it for longer than a function may run."""
VAULT_RETRIES = 2


class StoragePatience(ExponentialRetry):
    """Retries of a client of blobs or queues, whose own know no `Retry-After` and ask again without a token."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Seconds to wait before the next try: what the service asked for, else the SDK's own."""
        last = settings["history"][-1].http_response if settings["history"] else None
        asked = "" if last is None else last.headers.get("Retry-After", "")
        return min(float(asked), LONGEST_WAIT_S) if asked.isdecimal() else super().get_backoff_time(settings)

    def increment(
        self,
        settings: dict[str, Any],
        request: Any,  # noqa: ANN401 - as the SDK has it
        response: Any = None,  # noqa: ANN401
        error: AzureError | None = None,
    ) -> bool:
        """Whether to try again; without a token the credential itself has tried often enough."""
        if isinstance(error, ClientAuthenticationError):
            return False
        did_nothing = response is not None and response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        if settings["read"] == 0 and not did_nothing:
            return False
        again: bool = super().increment(settings, request, response, error)
        return again


class _Bounded:
    def get_retry_after(self, response: PipelineResponse[Any, Any]) -> float | None:
        """Seconds that the service asks to wait, within bounds."""
        asked: float | None = super().get_retry_after(response)  # type: ignore[misc]
        return None if asked is None else min(asked, LONGEST_WAIT_S)


class Patience(_Bounded, AsyncRetryPolicy[Any, Any]):
    """Retries of an asynchronous client of a vault or a topic."""


class BlockingPatience(_Bounded, RetryPolicy[Any, Any]):
    """Retries of a client of a vault that blocks."""


def bounded_wait(response: PipelineResponse[Any, Any]) -> None:
    """See that no answer of a table makes its client wait longer: the tables' own retries take no policy."""
    headers = response.http_response.headers
    asked = headers.get("Retry-After", "")
    if asked.isdecimal() and float(asked) > LONGEST_WAIT_S:
        headers["Retry-After"] = f"{LONGEST_WAIT_S:.0f}"


async def _left_to_the_sdk(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """Send a request so that aiohttp does not repeat it.

    By itself it repeats GET, PUT and DELETE once where a connection ends before the answer (ClientOSError,
    ServerDisconnectedError), below the SDK, which counts its tries and may have been told to make only one.
    """
    try:
        return await send(request)
    except ClientConnectorError:
        raise  # there was no connection yet, and nothing is repeated
    except (ClientOSError, ServerDisconnectedError) as error:
        raise ClientConnectionError(str(error)) from error


ONCE: dict[str, Any] = {"middlewares": (_left_to_the_sdk,)}
"""Options of a request whose every try must be known to the one who makes it."""
DONE_ONCE: dict[str, Any] = {**ONCE, "retry_read": 0}
"""Options of a request to blobs or queues that must not be done twice: tried again only where the service was busy."""


@dataclass(slots=True)
class Sent:
    """How often a request was sent.

    Attributes:
        times: More than once where an answer was lost or was a failure, though the work may have been done.
    """

    times: int = 0

    @property
    def again(self) -> bool:
        """Whether it was repeated."""
        return self.times > 1


_SENT: ContextVar[Sent | None] = ContextVar("sent", default=None)


@contextmanager
def sending() -> Iterator[Sent]:
    """Count how often the one request that is made within is sent, by a client with the hook `sent`."""
    counted = Sent()
    token = _SENT.set(counted)
    try:
        yield counted
    finally:
        _SENT.reset(token)


def sent(_: PipelineRequest[Any]) -> None:
    """A client's `raw_request_hook`, called for each try."""
    counted = _SENT.get()
    if counted is not None:
        counted.times += 1
