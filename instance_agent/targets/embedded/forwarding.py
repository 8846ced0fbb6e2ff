"""What of a request and of a response passes the reverse proxy, as pure functions; nothing is sent here.

The rules are those for gateways in RFC 9110 (section 7) and RFC 9112: fields of one hop end here, framing is made anew,
and where a request came from is ours to say, never the client's.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from shared.hostnames import covers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from instance_agent.targets.embedded.served import Served

RawHeaders = tuple[tuple[bytes, bytes], ...]

MAX_HEAD_BYTES = 65_536
WEBSOCKET = "websocket"

_OF_ONE_HOP = frozenset({
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
})  # fmt: skip
_ORIGIN = re.compile(r"^(forwarded|x-forwarded(-.*)?|x-real-ip|x-client-ip|true-client-ip)$")
_NOT_OFFERED = frozenset({"CONNECT", "TRACE"})  # a tunnel to anywhere; an echo of cookies
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_TARGET = re.compile(r"[!-~]+")
_ABSOLUTE = re.compile(r"(https?)://([^/?]*)([/?].*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]{1,255})(?::[0-9]{0,5})?")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?")
_DECIMAL = re.compile(r"[0-9]{1,15}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request's head as the parser gave it.

    Attributes:
        method: The method, upper case.
        target: The request target as it was sent.
        version: Major and minor.
        fields: Names and values as they were sent.
        peer: The client's address; empty when it is not known.
    """

    method: str
    target: str
    version: tuple[int, int]
    fields: RawHeaders
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """An answer that is given without asking the upstream.

    Attributes:
        status: The status code.
        headers: Fields besides those of every answer.
    """

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A request as the upstream gets it.

    Attributes:
        method: The method.
        target: The target in origin-form.
        headers: All fields, with Host and with the body's length where it is known.
        has_body: Whether a body follows.
        expects_continue: Whether the client waits for 100 before it sends the body.
        upgrades: Whether the client asks for a WebSocket.
    """

    method: str
    target: str
    headers: CIMultiDict[str]
    has_body: bool
    expects_continue: bool
    upgrades: bool


def inquiry(received: Received, served: Served) -> Inquiry | Direct:
    """Judge a request and make the upstream's of it.

    A request must be for a host that the certificate of its own connection is valid for, else 421. RFC 9110 section 7.4
    demands just that of an https origin, and section 15.5.20 is its answer. To ask instead whether *some* binding of
    the port covers the Host would let a client that was shown one tenant's certificate, or none, talk to another
    tenant; to ask for Host to equal the server name would refuse what a client may do with a certificate of several
    names. What is bound *now* is not asked: connections opened before a removal end undisturbed.
    """
    fields = [(name.decode("latin-1").lower(), text_of(value)) for name, value in received.fields]
    refusal = _refusal(received, fields)
    place = _place(received, fields, served) if refusal is None else refusal
    if isinstance(place, HTTPStatus):
        return Direct(status=place)
    authority, target = place
    headers = _request_fields(received, fields, authority)
    if received.method == "OPTIONS":
        hops = [value for name, value in fields if name == "max-forwards"]
        if target == "*" or hops == ["0"]:
            # About this server and no resource of its (RFC 9110, section 9.3.7), or not to be passed on (7.6.2).
            return Direct(status=HTTPStatus.NO_CONTENT)
        if hops and _DECIMAL.fullmatch(hops[0]):
            headers["Max-Forwards"] = str(int(hops[0]) - 1)
    upgrades = _asks_for_websocket(fields)
    if upgrades:
        headers["Connection"], headers["Upgrade"] = "Upgrade", WEBSOCKET
    has_body = _has_body(fields)
    return Inquiry(
        method=received.method,
        target=target,
        headers=headers,
        has_body=has_body,
        expects_continue=has_body and received.version >= (1, 1) and bool(_tokens(fields, "expect")),
        upgrades=upgrades,
    )


def response_headers(fields: RawHeaders, *, switches: bool) -> CIMultiDict[str]:
    """The upstream's fields as the client gets them; the body's framing is left to whoever sends it.

    Args:
        fields: As the upstream sent them.
        switches: Whether this is the 101 that opens a WebSocket.

    Raises:
        ValueError: A field holds a control character, with which it could begin another one.
    """
    named = [(name.decode("latin-1"), text_of(value)) for name, value in fields]
    if any(_CONTROL.search(value) for _, value in named):
        raise ValueError("a control character in a field")
    ended = _OF_ONE_HOP | _tokens([(name.lower(), value) for name, value in named], "connection")
    chunked = any(name.lower() == "transfer-encoding" for name, _ in named)
    kept = CIMultiDict(
        (name, value)
        for name, value in named
        if name.lower() not in ended - {"content-length"} and not (chunked and name.lower() == "content-length")
    )
    if switches:
        kept["Connection"], kept["Upgrade"] = "Upgrade", WEBSOCKET
    return kept


def text_of(value: bytes) -> str:
    """A field's value as text, to be sent as UTF-8: what is not that is taken for Latin-1 (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _framed_soundly(version: tuple[int, int], fields: Sequence[tuple[str, str]]) -> bool:
    """Whether everybody on the way must find the body's end at the same place (RFC 9112, section 6).

    The parser refuses most of it already; smuggling is too dangerous to rely on one judge.
    """
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        return not lengths and version >= (1, 1) and [coding.lower() for coding in codings] == ["chunked"]
    return not lengths or (len(lengths) == 1 and _DECIMAL.fullmatch(lengths[0]) is not None)


def _refusal(received: Received, fields: Sequence[tuple[str, str]]) -> HTTPStatus | None:
    """Why a request passes to nobody, whatever it is for."""
    alone = received.method == "GET" and received.version >= (1, 1) and not _has_body(fields)
    too_large = sum(len(name) + len(value) for name, value in received.fields) > MAX_HEAD_BYTES
    rules = (
        (too_large, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (received.version not in {(1, 0), (1, 1)}, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (received.method in _NOT_OFFERED, HTTPStatus.NOT_IMPLEMENTED),
        (not _framed_soundly(received.version, fields), HTTPStatus.BAD_REQUEST),
        (_tokens(fields, "expect") - {"100-continue"}, HTTPStatus.EXPECTATION_FAILED),
        (_asks_for_websocket(fields) and not alone, HTTPStatus.BAD_REQUEST),
    )
    return next((status for holds, status in rules if holds), None)


def _has_body(fields: Sequence[tuple[str, str]]) -> bool:
    return any(name in _FRAMING and value != "0" for name, value in fields)


def _asks_for_websocket(fields: Sequence[tuple[str, str]]) -> bool:
    return "upgrade" in _tokens(fields, "connection") and WEBSOCKET in _tokens(fields, "upgrade")


def _place(received: Received, fields: Sequence[tuple[str, str]], served: Served) -> tuple[str, str] | HTTPStatus:
    """The authority and the target in origin-form, or why there is none here."""
    named = _named_place(received, fields, served)
    if named is None:
        return HTTPStatus.BAD_REQUEST
    scheme, authority, target = named
    plain = _AUTHORITY.fullmatch(authority)
    if plain is None and not _ADDRESS.fullmatch(authority):
        return HTTPStatus.BAD_REQUEST
    host = plain[1].lower().removesuffix(".") if plain else ""  # no certificate's dNSName covers an address
    if scheme != "https" or not any(covers(name, host) for name in served.names):
        return HTTPStatus.MISDIRECTED_REQUEST
    return authority, target


def _named_place(received: Received, fields: Sequence[tuple[str, str]], served: Served) -> tuple[str, str, str] | None:
    """Scheme, authority and target as they are named (RFC 9112, section 3.2); None where they are not."""
    hosts = [value for name, value in fields if name == "host"]
    known = len(hosts) == 1 or (not hosts and received.version < (1, 1))
    if not known or not _TARGET.fullmatch(received.target) or "#" in received.target:
        return None
    if absolute := _ABSOLUTE.fullmatch(received.target):
        rest = absolute[3] or ("*" if received.method == "OPTIONS" else "/")
        return absolute[1].lower(), absolute[2], f"/{rest}" if rest.startswith("?") else rest
    if received.target.startswith("/") or (received.target == "*" and received.method == "OPTIONS"):
        return "https", hosts[0] if hosts else served.host, received.target
    return None


def _request_fields(received: Received, fields: Sequence[tuple[str, str]], authority: str) -> CIMultiDict[str]:
    """End-to-end fields as they came; then ours."""
    ended = _OF_ONE_HOP | _tokens(fields, "connection") | {"host", "content-length", "expect", "via"}
    originals = [name.decode("latin-1") for name, _ in received.fields]
    kept = CIMultiDict(
        (original, value)
        for original, (name, value) in zip(originals, fields, strict=True)
        # CGI and WSGI read `X_Forwarded_For` as `X-Forwarded-For`.
        if name not in ended and not _ORIGIN.match(name.replace("_", "-"))
    )
    for name, value in fields:
        if name == "content-length":
            kept["Content-Length"] = value  # where there is none, the body is sent on in chunks
    kept["Host"] = authority
    came_by = [value for name, value in fields if name == "via"]
    kept["Via"] = ", ".join([*came_by, f"{received.version[0]}.{received.version[1]} certcast"])
    kept["X-Forwarded-Proto"] = "https"
    kept["X-Forwarded-Host"] = authority
    forwarded = [f'host="{authority}"', "proto=https"]
    if (client := _address(received.peer)) is not None:
        kept["X-Forwarded-For"] = str(client)
        shown = f"[{client}]" if client.version == 6 else str(client)  # noqa: PLR2004 - IPv6
        forwarded.insert(0, f'for="{shown}"')
    kept["Forwarded"] = ";".join(forwarded)
    return kept


def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The client's address, an IPv4 one as such where the socket speaks IPv6."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _tokens(fields: Iterable[tuple[str, str]], wanted: str) -> frozenset[str]:
    """The members of a list field, lower case."""
    return frozenset(
        token
        for name, value in fields
        if name == wanted
        for part in value.split(",")
        if (token := part.strip().lower())
    )
