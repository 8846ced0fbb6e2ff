"""The HTTP server that Caddy asks for a certificate at each handshake; which one it gets is decided elsewhere.

Caddy's `get_certificate http` sends `GET <url>?server_name=…` and takes the answer's PEM
(https://caddyserver.com/docs/caddyfile/directives/tls#http). The answers are private keys, so every question must carry
the password that only Caddy's configuration has: other accounts of the machine can reach loopback too.
"""

from __future__ import annotations

import base64
import hmac
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from instance_agent.targets.parts.small_http import Request, Response
from instance_agent.targets.parts.small_server import SmallServer

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[str, int], bytes]

USER = "certcast"

_PATH = re.compile(r"/([0-9]{1,5})\Z")


class Manager:
    """Answers Caddy's questions from memory.

    Args:
        answer: The PEM of key and chain for a server name as the client sent it, empty for none, on a PortNumber.
        password: What Caddy must know.
    """

    def __init__(self, answer: Answer, password: str) -> None:
        self.asked: set[int] = set()
        """PortNumbers that Caddy has asked for."""
        self._answer = answer
        self._authorization = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())  # RFC 7617
        self._server = SmallServer(self._respond)

    def listen(self, address: str, port: int) -> None:
        """Answer at an address.

        Raises:
            OSError: It cannot be listened on.
        """
        self._server.listen(address, port)

    async def close(self) -> None:
        """Finish the answers in hand and stop listening."""
        await self._server.close()

    def _respond(self, request: Request) -> Response:
        if not hmac.compare_digest(request.field("Authorization"), self._authorization):
            # Closed, so that none waits in Caddy's place that does not know the password.
            return Response(status=HTTPStatus.UNAUTHORIZED, fields=(("WWW-Authenticate", "Basic"),), last=True)
        found = _PATH.match(request.path)
        if found is None:
            return Response(status=HTTPStatus.NOT_FOUND)
        port = int(found[1])
        self.asked.add(port)
        return Response(body=self._answer(request.asked("server_name"), port), kind="application/x-pem-file")
