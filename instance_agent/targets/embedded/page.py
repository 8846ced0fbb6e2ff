"""The page that names host and certificate fingerprint, and the little of HTTP/1.1 that one page takes."""

from __future__ import annotations

import asyncio
import html
import re
from email.utils import formatdate
from http import HTTPStatus

MAX_HEAD_BYTES = 16_384

_REQUEST = re.compile(rb"([A-Z]{1,32}) [!-~]+ HTTP/1\.([01])\r\n")
_LAST = re.compile(
    rb"^(?:connection:.*\bclose\b|transfer-encoding:|content-length:(?![ \t]*0+[ \t]*\r?$))",
    re.IGNORECASE | re.MULTILINE,
)
"""Fields after which nothing more is read: the client wants no more, or a body follows, and none is read here."""

_HEAD = """HTTP/1.1 {status.value} {status.phrase}
Server: certcast
Date: {date}
Content-Type: text/{kind}; charset=utf-8
Content-Length: {length}
Cache-Control: no-store
Content-Security-Policy: default-src 'none'
X-Content-Type-Options: nosniff
Allow: GET, HEAD
Connection: {connection}

"""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1>
<p>Served by certcast with the certificate whose SHA-256 fingerprint is<br><code>{fingerprint}</code></p>
</html>
"""


def page(host: str, fingerprint_sha256: str) -> bytes:
    """The HTML for one connection.

    Args:
        host: The name that the client asked for, escaped here; empty where nothing is bound for it.
        fingerprint_sha256: Of the certificate it was served.
    """
    title = html.escape(host) or "No certificate is bound for this name"
    return _PAGE.format(title=title, fingerprint=fingerprint_sha256).encode()


def answer_to(head: bytes, body: bytes) -> tuple[bytes, bool]:
    """What to answer, and whether the connection stays open for another request.

    Args:
        head: A request up to its empty line; empty for what was too long to be one.
        body: The page, whatever path is asked for.
    """
    request = _REQUEST.match(head)
    if request is None:
        return _response(HTTPStatus.BAD_REQUEST, b"HTTP/1.1, please\n", stays=False), False
    method, minor = request.groups()
    stays = minor == b"1" and not _LAST.search(head)
    if method not in {b"GET", b"HEAD"}:
        return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD, please\n", stays=stays), stays
    response = _response(HTTPStatus.OK, body, stays=stays, kind="html")
    return response[: -len(body)] if method == b"HEAD" else response, stays


async def answer_requests(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, *, idle_s: float
) -> None:
    """Answer one request after the other with the page, as long as the client goes on.

    Args:
        reader: From the client; its limit bounds a request's head.
        writer: To the client; left open.
        body: The page.
        idle_s: For each request, from the wait for it to the client's taking the answer.

    Raises:
        EOFError: The client ended.
        OSError: The client is gone, or took too long.
    """
    stays = True
    while stays:
        async with asyncio.timeout(idle_s):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                head = b""
            answer, stays = answer_to(head, body)
            writer.write(answer)
            await writer.drain()


def _response(status: HTTPStatus, body: bytes, *, stays: bool, kind: str = "plain") -> bytes:
    head = _HEAD.format(
        status=status,
        date=formatdate(usegmt=True),
        kind=kind,
        length=len(body),
        connection="keep-alive" if stays else "close",
    )
    return head.replace("\n", "\r\n").encode() + body
