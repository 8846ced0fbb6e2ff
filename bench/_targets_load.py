"""Handshakes with one listener over many server names, in a process of its own, each one proved by its certificate.

Orders come on standard input and answers leave on standard output, one JSON object a line. No session is ever offered,
so that every handshake is a full one. Certificates are compared, not verified: that is the client's cost, not measured.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S = 30.0
_AT_ONCE = 4
_READ_BYTES = 65536


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    return context


def proved(context: ssl.SSLContext, address: tuple[str, int], looks: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """How many handshakes showed the certificate they should, and the first name that showed another."""
    good, other = 0, ""
    for host, fingerprint in looks:
        with socket.create_connection(address, timeout=_TIMEOUT_S) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname=host) as tls:
                leaf = tls.getpeercert(binary_form=True) or b""
                # The server reads our last flight and writes its tickets before it meets the end and hangs up.
                tls.shutdown(socket.SHUT_WR)
                while tls.recv(_READ_BYTES):
                    pass
        if hashlib.sha256(leaf).hexdigest() == fingerprint:
            good += 1
        else:
            other = other or host
    return good, other


def main() -> None:
    context = client_context()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for line in sys.stdin:
            _, (host, port), looks = json.loads(line)
            address = (host, port)
            began = time.monotonic()
            parts = [looks[number::_AT_ONCE] for number in range(_AT_ONCE)]
            done = list(threads.map(partial(proved, context, address), parts))
            seconds = time.monotonic() - began
            answer = {
                "seconds": seconds,
                "proved": sum(good for good, _ in done),
                "other": next((other for _, other in done if other), ""),
            }
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
