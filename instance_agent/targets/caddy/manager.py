"""The HTTP server that Caddy asks for a certificate at each handshake; which one it gets is decided elsewhere.

Caddy's `get_certificate http` sends `GET <url>?server_name=…` and takes the answer's PEM
(https://caddyserver.com/docs/caddyfile/directives/tls#http). The answers are private keys, so every question must carry
the password that only Caddy's configuration has: other accounts of the machine can reach loopback too.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[str, int], bytes]

USER = "certcast"

_IDLE_S = 120.0  # longer than Go's 90 s, so that Caddy is the one to close an idle connection


class Manager:
    """Answers Caddy's questions from memory.

    Args:
        answer: The PEM of key and chain for a lower-case server name, empty for none, on a PortNumber.
        password: What Caddy must know.
    """

    def __init__(self, answer: Answer, password: str) -> None:
        self.asked: set[int] = set()
        """PortNumbers that Caddy has asked for."""
        self._answer = answer
        self._authorization = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())  # RFC 7617
        self._runner: web.AppRunner | None = None

    async def listen(self, address: str, port: int) -> None:
        """Answer at an address.

        Raises:
            OSError: It cannot be listened on.
        """
        app = web.Application()
        app.router.add_get(r"/{port:[0-9]{1,5}}", self._respond)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=_IDLE_S, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def close(self) -> None:
        """Finish the answers in hand and stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _respond(self, request: web.Request) -> web.Response:
        if not self._is_caddy(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        port = int(request.match_info["port"])
        self.asked.add(port)
        name = request.query.get("server_name", "").lower().rstrip(".")
        # Header and body leave in one segment: apart, the second would wait for Caddy's delayed acknowledgement.
        return web.Response(
            body=self._answer(name, port),
            content_type="application/x-pem-file",
            headers={"Cache-Control": "no-store"},
        )

    def _is_caddy(self, authorization: str) -> bool:
        return hmac.compare_digest(authorization.encode(), self._authorization)
