"""The target that answers a probe's first message: whatever it is, the handshake ends in a way that is known."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from random import Random

from instance_agent.installing.handshake import EndlessError, Handshake, is_refusal, told
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.key_loading import load_bundle

_NAME = "www.example.com"


@cache
def _flights() -> tuple[bytes, ...]:
    """What a sound server answers, in each version that is spoken."""
    bundle = self_made_fallback(datetime.now(UTC))
    found = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = version
        load_bundle(context, bundle)
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        server, client = context.wrap_bio(received, to_send, server_side=True), Handshake(_NAME)
        client.go_on()
        received.write(client.to_send())
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        found.append(to_send.read())
    return tuple(found)


def seeds() -> Iterator[bytes]:
    yield from _flights()
    yield b"\x15\x03\x03\x00\x02\x02\x28"
    yield b"HTTP/1.0 400 Bad Request\r\n\r\n"


def mutate(data: bytes, random: Random) -> bytes | None:
    """Cut the flight into other records, which noise would not."""
    flight = random.choice(_flights()) if not data or random.random() < 0.1 else data
    size = random.choice((1, 7, 60, 1000))
    begin = random.randrange(len(flight))
    piece = flight[begin : begin + size]
    return flight[:begin] + b"\x16\x03\x03" + len(piece).to_bytes(2) + piece + flight[begin + size :]


def run(data: bytes) -> None:
    client = Handshake(_NAME)
    client.go_on()
    try:
        for begin in range(0, len(data), 1000):
            client.take(data[begin : begin + 1000])
            client.go_on()
        client.take(b"")
        client.go_on()
    except ssl.SSLError as error:
        if not told(error):
            raise AssertionError("there is no reason to tell") from error
        is_refusal(error)
    except EndlessError:
        pass
    else:
        raise AssertionError("a handshake was finished by what was said to another client")
    leaf = client.leaf()
    assert leaf is None or ssl.DER_cert_to_PEM_cert(leaf)
