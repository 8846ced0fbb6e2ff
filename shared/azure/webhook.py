"""Webhooks that outgoing events are posted to, as CloudEvents 1.0 over HTTP, signed.

github.com/cloudevents/spec, "HTTP Protocol Binding", structured content mode, and "HTTP 1.1 Web Hooks for Event
Delivery", delivery response; github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, for headers,
signature and what an answer means. What a receiver answers is bounded in time; of its body nothing is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
from base64 import b64encode
from collections import Counter
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from shared import VERSION
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    RetiredError,
    ThrottledError,
    UnansweredError,
    UnavailableError,
)
from shared.state.cloud_event import cloud_event

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from datetime import datetime

    from shared.messages import OutgoingEvent

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
ANSWER_TIMEOUT_S = 15
"""For a request as a whole (Standard Webhooks, request timeouts: 15 to 30 s)."""

_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_UNFIT = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
_SUCCESSES, _REDIRECTS = range(200, 300), range(300, 400)
_MEANINGS: tuple[tuple[Container[int], tuple[type[CertcastError], str]], ...] = (
    ({HTTPStatus.GONE}, (RetiredError, ", and so wants no more events; take it out of the settings")),
    (_UNFIT, (CertcastError, ", and so cannot take this event")),
    (_REFUSALS, (AccessDeniedError, "; its address or the secret is not the one that it knows")),
    (_REDIRECTS, (UnavailableError, ", and redirects are not followed: set the address that it leads to")),
)
_DEFAULT_PAUSE_S = 60.0
"""Where 429 comes without Retry-After, which "HTTP 1.1 Web Hooks" asks for."""


def outlet_key(kind: str, address: str) -> str:
    """What stands for an outlet in rows and messages; an address may hold a secret, so it is hashed."""
    return f"{kind}-{hashlib.sha256(address.encode()).hexdigest()[:16]}"


def webhooks_at(
    urls: Sequence[str], *, secrets: Sequence[bytes], source: str, now: Callable[[], datetime]
) -> list[Webhook]:
    """The webhooks of some addresses, each with a name that tells it from the others and shows no more than a host."""
    hosts = [urlsplit(url).hostname or "" for url in urls]
    often = Counter(hosts)
    names = [
        f"webhook {host}" if often[host] == 1 else f"webhook {number} at {host}"
        for number, host in enumerate(hosts, start=1)
    ]
    return [
        Webhook(url, name=name, secrets=secrets, source=source, now=now) for url, name in zip(urls, names, strict=True)
    ]


class Webhook:
    """One webhook, as `shared.ports.Outlet`.

    Args:
        url: Its address, which may hold a secret.
        name: What people are told of it.
        secrets: What requests are signed with, by each of them, so that one can be replaced; none leaves them unsigned.
        source: What events name as their source.
        now: The clock, for the time in the signature.
    """

    at_once = False

    def __init__(
        self, url: str, *, name: str, secrets: Sequence[bytes], source: str, now: Callable[[], datetime]
    ) -> None:
        self.key = outlet_key("webhook", url)
        self.name = name
        self._url = URL(url, encoded=True)
        self._secrets = tuple(secrets)
        self._source = source
        self._now = now

    async def send(self, event: OutgoingEvent) -> str:
        body = json.dumps(cloud_event(event, source=self._source), separators=(",", ":"), allow_nan=False).encode()
        headers = signed(event.event_id, body, self._secrets, self._now())
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                status, retry_after = await self._post(body, headers)
        except TimeoutError:
            raise UnansweredError(f"{self.name}: no answer in {ANSWER_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # What it says may quote the address.
            raise UnansweredError(f"{self.name}: no answer ({_why_none(error)})") from None
        refusal = refused(self.name, status, retry_after, self._now())
        if refusal is not None:
            raise refusal
        return str(status)

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        # A connection for each: one that was kept open may be closed by the other side just then.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            answer.close()
            return answer.status, answer.headers.get("Retry-After", "")


def signed(event_id: str, body: bytes, secrets: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The headers of a request: what it is, and a signature by each secret (Standard Webhooks, webhook headers)."""
    timestamp = str(int(now.timestamp()))
    content = b".".join((event_id.encode(), timestamp.encode(), body))
    signatures = [b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets]
    headers = {
        "Content-Type": CONTENT_TYPE,
        "User-Agent": f"certcast/{VERSION}",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
    }
    if signatures:
        headers["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
    return headers


def refused(name: str, status: int, retry_after: str, now: datetime) -> CertcastError | None:
    """What an answer other than "taken" means.

    Of what refuses the event itself another try is in vain: 413, 415 and 422. A receiver that is set up wrongly answers
    401, 403, 404 or 400 too, and may be put right.
    """
    if status in _SUCCESSES:
        return None
    said, pause_s = f"{name} answered {status}", _pause(status, retry_after, now)
    if pause_s is not None:
        return ThrottledError(f"{said}, and asks for a pause of {pause_s:.0f} s", after_s=pause_s)
    kind, means = next((meaning for statuses, meaning in _MEANINGS if status in statuses), (UnavailableError, ""))
    return kind(f"{said}{means}")


def _pause(status: int, retry_after: str, now: datetime) -> float | None:
    """The pause that an answer asks for: 429 does, and 503 may, or another one that is worth another try."""
    if status in _UNFIT or status in _REDIRECTS or status == HTTPStatus.GONE:
        return None
    asked = pause_asked_for(retry_after, now)
    return _DEFAULT_PAUSE_S if asked is None and status == HTTPStatus.TOO_MANY_REQUESTS else asked


def pause_asked_for(retry_after: str, now: datetime) -> float | None:
    """The seconds that Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); None where it asks for none."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(min(int(text[:10]), 10**9))
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None  # there is none, or none that can be read; without an offset from UTC it is no date of HTTP


def _why_none(error: Exception) -> str:
    causes = (error, getattr(error, "os_error", None), error.__cause__)
    if any(isinstance(each, socket.gaierror) for each in causes) or isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known: check it, and this machine's DNS"
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return "its certificate is not trusted here, or it does not speak TLS"
    return type(error).__name__
