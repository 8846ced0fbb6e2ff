"""A vault that takes connections and never answers: what asks it gets to know within seconds."""

import socket
import time
from collections.abc import Iterator

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError

from shared.azure import patience
from shared.azure.key_ring import VaultVersions
from shared.azure.secrets import SecretClients
from shared.azure.vault_url import VaultObject
from shared.errors import UnavailableError


class Token:
    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return AccessToken("token", int(time.time()) + 3600)


class TokenLater:
    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return Token().get_token()

    async def close(self) -> None:
        pass


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its host and port; patience is shorter than it is elsewhere."""
    for name in ("connection_timeout", "read_timeout"):
        monkeypatch.setitem(patience.VAULT_TIMEOUTS, name, 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_key_is_not_waited_for(silent: str) -> None:
    url = f"https://{silent}/keys/kek"
    versions = VaultVersions(url, VaultObject(vault=silent, name="kek", version=""), Token)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="no answer"):
        versions.current()
    assert time.monotonic() - began < 10


async def test_a_secret_is_not_waited_for(silent: str) -> None:
    clients = SecretClients(TokenLater, retries=1)  # type: ignore[arg-type]
    began = time.monotonic()
    with pytest.raises(AzureError):
        await clients.of(silent).get_secret("password")
    assert time.monotonic() - began < 10
    await clients.close()
