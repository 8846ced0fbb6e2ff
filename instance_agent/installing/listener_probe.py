"""The probe of a running agent: where it looks, and which PROXY protocol header it sends ahead, found out by itself.

https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt is the protocol's specification.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from instance_agent.installing.probe import ProbeError, served_fingerprint
from instance_agent.installing.probe_settings import ProxyProtocol
from shared.phrasing import logger

if TYPE_CHECKING:
    from instance_agent.installing.probe_settings import ProbeSettings

SEARCH_EVERY_S = 30
"""A listener that shows nothing, whatever is sent ahead, is not asked in other ways again before."""

_PLAIN = ProxyProtocol.OFF
# Section 2.2: the signature, version 2 and the command LOCAL, "established on purpose by the proxy without being
# relayed" as health checks are; the family that is to be sent with it, and no addresses. Section 2.1: with UNKNOWN a
# receiver takes the connection's own addresses. Seen to be taken by nginx 1.22 and HAProxy 2.6, both of them.
_HEADERS = {
    _PLAIN: b"",
    ProxyProtocol.V2: b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    ProxyProtocol.V1: b"PROXY UNKNOWN\r\n",
}

_TRIED = "headers of the PROXY protocol, versions 2 and 1, did not change that"

log = logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is known of one listener.

    Attributes:
        way: What was sent ahead when it last showed a certificate; None before it showed one.
        searched_at: When the other ways were last tried in vain.
        turn: One search at a time.
    """

    way: ProxyProtocol | None = None
    searched_at: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ListenerProbe:
    """Looks at listeners as the settings say.

    With `auto` it shakes hands as any client does. Where a listener then takes the connection and sends nothing, as one
    does that expects the PROXY protocol, it sends a header of version 2 ahead, then one of version 1, and remembers for
    each listener what it took. One that answers without a header, be it with an alert, is never sent one.
    """

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._known: dict[tuple[str, int], _Known] = {}

    async def __call__(self, address: tuple[str, int], sni: str | None, *, timeout_s: float) -> str:
        """See `served_fingerprint`; each way to ask has the time limit of its own."""
        look = _Look(self._settings.looked_at(address), sni, timeout_s)
        try:
            return await self._asked(look)
        except ProbeError as error:
            if not error.reached:
                raise error.advised("where the server listens elsewhere, set CERTCAST_PROBE_ADDRESS") from error
            raise

    async def _asked(self, look: _Look) -> str:
        """Ask in the one way there is to be, or find out which."""
        way = self._settings.proxy_protocol
        if way is ProxyProtocol.AUTO:
            return await self._found_out(look)
        try:
            return await look.by(way)
        except ProbeError as error:
            if not error.silent:
                raise
            expected = "the PROXY protocol" if way is _PLAIN else "no PROXY protocol, or another version of it"
            hint = f"it may expect {expected}, and CERTCAST_PROBE_PROXY_PROTOCOL is {way}"
            raise error.advised(hint) from error

    async def _found_out(self, look: _Look) -> str:
        """Ask in the way that worked before, and in others where the listener now shows nothing."""
        known = self._known.setdefault(look.address, _Known())
        way = known.way or _PLAIN
        try:
            seen = await look.by(way)
        except ProbeError as error:
            if not _may_want_another_way(error, known.way):
                raise
            return await self._searched(look, known, way, error)
        known.way = way
        return seen

    async def _searched(self, look: _Look, known: _Known, tried: ProxyProtocol, failure: ProbeError) -> str:
        """Ask in the other ways, unless that was done just now; another look may have found one while this waited."""
        async with known.turn:
            if known.way not in {None, tried}:
                return await look.by(known.way or _PLAIN)
            if time.monotonic() - known.searched_at < SEARCH_EVERY_S:
                raise failure.advised(_TRIED)
            for way in [each for each in _HEADERS if each is not tried]:
                try:
                    seen = await look.by(way)
                except ProbeError as error:
                    if error.silent or error.no_tls or not error.reached:
                        continue
                    raise
                log.info("%s:%d is looked at with the PROXY protocol %s", *look.address, way.value)
                known.way = way
                return seen
            known.searched_at = time.monotonic()
        raise failure.advised(_TRIED)


@dataclass(frozen=True, slots=True)
class _Look:
    """One question to one listener, to be asked in several ways."""

    address: tuple[str, int]
    sni: str | None
    timeout_s: float

    async def by(self, way: ProxyProtocol) -> str:
        return await served_fingerprint(self.address, self.sni, timeout_s=self.timeout_s, header=_HEADERS[way])


def _may_want_another_way(error: ProbeError, worked: ProxyProtocol | None) -> bool:
    """Whether a listener may show more to another header, or to none.

    One that speaks TLS is asked as it should be. One that answers a header with something else expects none any more.
    One that has shown a certificate before and only is slow now is waited for.
    """
    if error.timed_out and worked is not None:
        return False
    return error.silent or (error.no_tls and worked not in {None, _PLAIN})
