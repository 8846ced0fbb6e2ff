"""The little of HTTP/1.1 that an agent needs as a server: GET and HEAD without a body, each answered at once.

Nothing that a client sends or does not send is read beyond a bound: a head has a size and a time.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    Respond = Callable[["Request"], "Response"]

MAX_HEAD_BYTES = 16_384

_MAX_FIELDS = 20
"""Of a query; Caddy sends a handful."""
_REQUEST = re.compile(rb"([A-Z]{1,32}) ([!-~]+) HTTP/1\.([01])\r\n")
_LAST = re.compile(
    rb"^(?:connection:.*\bclose\b|transfer-encoding:|content-length:(?![ \t]*0+[ \t]*\r?$))",
    re.IGNORECASE | re.MULTILINE,
)
"""Fields after which nothing more is read: the client wants no more, or a body follows, and none is read here."""

_HEAD = """HTTP/1.1 {status.value} {status.phrase}
Server: certcast
Date: {date}
Content-Type: {kind}
Content-Length: {length}
Cache-Control: no-store
X-Content-Type-Options: nosniff
Allow: GET, HEAD
Connection: {connection}
{more}
"""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is answered.

    Attributes:
        target: As the client wrote it: visible ASCII.
        head: Everything up to the empty line.
    """

    target: str
    head: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The target's path."""
        try:
            return urlsplit(self.target).path
        except ValueError:  # brackets that hold no address
            return ""

    def asked(self, name: str) -> str:
        """A field of the query; empty where there is none."""
        try:
            return parse_qs(urlsplit(self.target).query, max_num_fields=_MAX_FIELDS).get(name, [""])[0]
        except ValueError:
            return ""

    def field(self, name: str) -> bytes:
        """A header field's value as it came; empty where it is missing."""
        wanted = f"{name}:".lower().encode()
        lines = self.head.split(b"\r\n")
        return next((line[len(wanted) :].strip() for line in lines if line.lower().startswith(wanted)), b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is answered.

    Attributes:
        status: Its status.
        body: Its body.
        kind: The body's media type.
        fields: Further header fields.
        last: Whether the connection ends with it.
    """

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = field(default=b"", repr=False)
    kind: str = "text/plain; charset=utf-8"
    fields: tuple[tuple[str, str], ...] = ()
    last: bool = False


def answer_to(head: bytes, respond: Respond) -> tuple[bytes, bool]:
    """What to answer, and whether the connection stays open for another request.

    Args:
        head: A request up to its empty line; empty for what was too long to be one.
        respond: Answers a GET; for a HEAD its body is left out.
    """
    request = _REQUEST.match(head)
    if request is None:
        return _written(Response(status=HTTPStatus.BAD_REQUEST, body=b"HTTP/1.1, please\n"), stays=False), False
    method, target, minor = request.groups()
    stays = minor == b"1" and not _LAST.search(head)
    if method not in {b"GET", b"HEAD"}:
        refusal = Response(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"GET or HEAD, please\n")
        return _written(refusal, stays=stays), stays
    response = respond(Request(target.decode("ascii"), head))
    stays = stays and not response.last
    answer = _written(response, stays=stays)
    return answer[: len(answer) - len(response.body)] if method == b"HEAD" else answer, stays


async def answer_requests(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    respond: Respond,
    *,
    first_s: float,
    idle_s: float,
    answered: Callable[[], None] = lambda: None,
) -> None:
    """Answer one request after the other, as long as the client goes on.

    Args:
        reader: From the client; its limit bounds a request's head.
        writer: To the client; left open.
        respond: Answers a request.
        first_s: For the first request, from now to the client's taking the answer.
        idle_s: For each other one, from the wait for it on.
        answered: Called after each.

    Raises:
        EOFError: The client ended.
        OSError: The client is gone, or took too long.
    """
    stays, bound_s = True, first_s
    while stays:
        async with asyncio.timeout(bound_s):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                head = b""
            # Head and body leave in one segment: apart, the second would wait for a delayed acknowledgement.
            answer, stays = answer_to(head, respond)
            writer.write(answer)
            await writer.drain()
        answered()
        bound_s = idle_s


def _written(response: Response, *, stays: bool) -> bytes:
    head = _HEAD.format(
        status=response.status,
        date=formatdate(usegmt=True),
        kind=response.kind,
        length=len(response.body),
        connection="keep-alive" if stays else "close",
        more="".join(f"{name}: {value}\n" for name, value in response.fields),
    )
    return head.replace("\n", "\r\n").encode() + response.body
