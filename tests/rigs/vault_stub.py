"""A Key Vault on this machine, as far as certcast uses one: secrets, and wrapping by an RSA key; it speaks HTTPS.

What it shows is that the SDK is called rightly and what becomes of the service's refusals; permissions and the
service's own behaviour are as its REST reference has them (learn.microsoft.com, "Key Vault REST API reference").
"""

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import aiohttp
import requests
from aiohttp.abc import AbstractResolver
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509 import DNSName, IPAddress

from tests.rigs.certificates import authority, new_key

VAULT = "shop.vault.azure.net"
_CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"'
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class Identity:
    """Gives the same token to all who ask, and remembers what it was asked for."""

    def __init__(self, **chosen: Any) -> None:
        self.asked_for: list[str] = []
        self.chosen = chosen

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked_for += scopes
        return AccessToken("the-token", int(time.time()) + 3600)

    def close(self) -> None:
        pass


class AsyncIdentity:
    """The same for asynchronous clients."""

    def __init__(self) -> None:
        self.asked_for: list[str] = []

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked_for += scopes
        return AccessToken("the-token", int(time.time()) + 3600)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@dataclass
class VaultStub:
    """A running stub.

    Attributes:
        ca: File of the authority that its certificate leads to.
        secrets: Values by name, or by `name/version`.
        answers_with: A status that every authorised request is answered with, where set.
        requests: Method and path of every authorised request.
        bundles: Secrets with everything that the service tells of one, by name; listed two on a page.
        keys: The versions of every key, the oldest first; they are named `version1`, `version2` and so on.
        disabled: Versions that may not be used.
        attributes: What the service tells of every version besides, such as `exp`.
        operations: What every version is for.
        refuses_as: The inner code of refusals, such as `ForbiddenByRbac`; where set, every request is refused.
        busy: So many of the next requests are answered with 429.
    """

    ca: Path
    port: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    answers_with: int | None = None
    requests: list[str] = field(default_factory=list)
    bundles: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=lambda: [new_key("rsa")])
    disabled: set[str] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    operations: tuple[str, ...] = ("wrapKey", "unwrapKey")
    refuses_as: str = ""
    busy: int = 0

    def answer(self, method: str, path: str, body: Mapping[str, str]) -> tuple[int, object]:
        """Answer an authorised request."""
        self.requests.append(f"{method} {path}")
        if (trouble := self._trouble()) is not None:
            return trouble
        kind, _, name = path.strip("/").partition("/")
        if kind == "secrets" and name in self.bundles:
            return 200, self.bundles[name]
        if kind == "secrets" and (not name or name.startswith("after-")):
            return 200, self._page(int(name.removeprefix("after-") or 0))
        if kind == "secrets" and name in self.secrets:
            key_id = f"https://{VAULT}/secrets/{name}"
            return 200, {"value": self.secrets[name], "id": key_id, "attributes": {"enabled": True}}
        if kind == "keys":
            key, version, operation = [*name.split("/"), "", ""][:3]
            return self._key(key, version, operation, body)
        return 404, {"error": {"code": "SecretNotFound", "message": name}}

    def _trouble(self) -> tuple[int, object] | None:
        if self.answers_with is not None:
            return self.answers_with, {"error": {"code": "Stubborn", "message": "the stub was told to answer so"}}
        if self.refuses_as:
            return 403, {"error": {"code": "Forbidden", "message": "no", "innererror": {"code": self.refuses_as}}}
        if self.busy:
            self.busy -= 1
            return 429, {"error": {"code": "Throttled", "message": "too many requests"}}
        return None

    def put(self, name: str, value: str, *, content_type: str = "application/x-pkcs12", **tags: str) -> None:
        """Keep a secret, and with it what listing and reading it tell."""
        known = self.bundles.get(name, {}).get("attributes", {}).get("updated", 1_700_000_000)
        self.bundles[name] = {
            "value": value,
            "id": f"https://{VAULT}/secrets/{name}/{len(value):032x}",
            "contentType": content_type,
            "attributes": {"enabled": True, "created": 1_700_000_000, "updated": known + 60},
            "tags": tags,
        }

    def _page(self, first: int) -> object:
        names = sorted(self.bundles)
        listed = [
            {key: value for key, value in self.bundles[name].items() if key != "value"}
            | {"id": f"https://{VAULT}/secrets/{name}"}
            for name in names[first : first + 2]
        ]
        more = f"https://{VAULT}/secrets/after-{first + 2}" if first + 2 < len(names) else None
        return {"value": listed, "nextLink": more}

    def rotate(self) -> None:
        """Make a new version of every key, which is current from now on."""
        self.keys.append(new_key("rsa"))

    def _key(self, name: str, version: str, operation: str, body: Mapping[str, str]) -> tuple[int, object]:
        version = version or f"version{len(self.keys)}"
        number = int(version.removeprefix("version"))
        if number > len(self.keys):
            return 404, {"error": {"code": "KeyNotFound", "message": version}}
        key = self.keys[number - 1]
        key_id = f"https://{VAULT}/keys/{name}/{version}"
        if not body:
            numbers = key.public_key().public_numbers()
            n, e = _encoded(numbers.n.to_bytes(256, "big")), _encoded(numbers.e.to_bytes(3, "big"))
            jwk = {"kid": key_id, "kty": "RSA", "key_ops": list(self.operations), "n": n, "e": e}
            return 200, {"key": jwk, "attributes": {"enabled": version not in self.disabled, **self.attributes}}
        if version in self.disabled:
            return 403, {"error": {"code": "Forbidden", "message": "not allowed on a disabled key"}}
        if body["alg"] != "RSA-OAEP-256" or operation != "unwrapkey":
            return 400, {"error": {"code": "BadParameter", "message": "not what certcast asks for"}}
        try:
            done = key.decrypt(base64.urlsafe_b64decode(body["value"] + "=="), _OAEP)
        except ValueError:
            return 400, {"error": {"code": "BadParameter", "message": "cannot decrypt"}}
        return 200, {"kid": key_id, "value": _encoded(done)}

    def async_transport(self) -> AioHttpTransport:
        """A transport for asynchronous clients that meets every host here."""
        connector = aiohttp.TCPConnector(resolver=_Here(self.port))
        return AioHttpTransport(session=aiohttp.ClientSession(connector=connector), connection_verify=str(self.ca))

    def transport(self) -> RequestsTransport:
        """A transport for synchronous clients that meets the vault here."""
        session = requests.Session()
        session.mount(f"https://{VAULT}", _ToHere(self.port))
        return RequestsTransport(session=session, connection_verify=str(self.ca))


class _Here(AbstractResolver):
    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        del port
        return [{"hostname": host, "host": "127.0.0.1", "port": self._port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


class _ToHere(requests.adapters.HTTPAdapter):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = (request.url or "").replace(f"https://{VAULT}", f"https://127.0.0.1:{self._port}")
        return super().send(request, *args, **kwargs)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: ClassVar[VaultStub]

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}"))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, body: Mapping[str, str]) -> None:
        status, document = 401, cast("object", {})
        if self.headers["Authorization"] == "Bearer the-token":
            status, document = self.stub.answer(self.command, self.path.partition("?")[0], body)
        content = json.dumps(document).encode()
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", _CHALLENGE)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After-Ms", "10")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[None]:
    """Have a server answer, in a thread of its own, until the end of this context."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def vault_stub(folder: Path) -> Iterator[VaultStub]:
    """Run a stub on a free port."""
    root = authority()
    issued = root.issue(names=[DNSName(VAULT), IPAddress(IPv4Address("127.0.0.1"))])
    ca, chain = folder / "ca.pem", folder / "chain.pem"
    ca.write_bytes(root.root_pem)
    chain.write_bytes(issued.bundle().to_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    stub = VaultStub(ca=ca)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub})) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        stub.port = server.server_address[1]
        with answering(server):
            yield stub


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
