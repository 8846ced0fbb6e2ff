"""What leads a process to the vault stub by nothing but its environment: an identity endpoint, and a proxy for HTTPS.

The process finds its identity as on App Service (learn.microsoft.com, "How to use managed identities for App Service",
REST endpoint reference), and the vault under its real name, by the proxy that the environment names (RFC 9110, section
9.3.6) and the authority that `SSL_CERT_FILE` names.
"""

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from tests.rigs.vault_stub import VAULT, VaultStub, answering

_IDENTITY_PATH = "/identity/token"
_PIECE = 65_536


@dataclass
class VaultWay:
    """A running way to a vault stub.

    Attributes:
        stub: The vault.
        port: Where identity endpoint and proxy listen.
        secret: What the identity endpoint asks for.
        refused: Hosts that the proxy was asked for, and does not lead to.
    """

    stub: VaultStub
    port: int = 0
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    refused: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be started with."""
        return {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{self.port}{_IDENTITY_PATH}",
            "IDENTITY_HEADER": self.secret,
            "HTTPS_PROXY": f"http://127.0.0.1:{self.port}",
            "SSL_CERT_FILE": str(self.stub.ca),
        }


class _Handler(BaseHTTPRequestHandler):
    way: ClassVar[VaultWay]

    def do_CONNECT(self) -> None:
        if self.path != f"{VAULT}:443":
            self.way.refused.append(self.path)
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        with socket.create_connection(("127.0.0.1", self.way.stub.port)) as vault:
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            back = threading.Thread(target=_pass_on, args=(vault, self.connection))
            back.start()
            _pass_on(self.connection, vault)
            back.join()
        self.close_connection = True

    def do_GET(self) -> None:
        allowed = self.path.startswith(_IDENTITY_PATH) and self.headers["X-IDENTITY-HEADER"] == self.way.secret
        token = {"access_token": "the-token", "expires_on": str(int(time.time()) + 86_400), "token_type": "Bearer"}
        content = json.dumps(token | {"resource": "https://vault.azure.net"} if allowed else {}).encode()
        self.send_response(HTTPStatus.OK if allowed else HTTPStatus.UNAUTHORIZED)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            to.sendall(piece)
    for each in (source, to):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def vault_way(stub: VaultStub) -> Iterator[VaultWay]:
    """Open a way on a free port."""
    way = VaultWay(stub)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"way": way})) as server:
        way.port = server.server_address[1]
        with answering(server):
            yield way
