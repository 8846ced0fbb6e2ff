"""Passwords and the key-encryption key from Key Vault, by the SDK over HTTPS against a stub of the service."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

import pytest
from azure.keyvault.keys.crypto import CryptographyClient
from azure.keyvault.secrets.aio import SecretClient

from shared import secrets as secrets_module
from shared.errors import AccessDeniedError, CertcastError, SecretUnavailableError, UnavailableError
from shared.key_encryption import VaultKey
from shared.secrets import VaultSecrets
from tests.vault_stub import VAULT, AsyncIdentity, Identity, VaultStub, vault_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KEY_URL = f"https://{VAULT}/keys/certcast"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultStub]:
    with vault_stub(tmp_path) as stub:
        yield stub


class TestPasswords:
    @pytest.fixture
    async def identity(self) -> AsyncIdentity:
        return AsyncIdentity()

    @pytest.fixture
    async def secrets(
        self, vault: VaultStub, identity: AsyncIdentity, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[VaultSecrets]:
        here = partial(SecretClient, transport=vault.async_transport())
        monkeypatch.setattr(secrets_module, "SecretClient", here)
        opened = VaultSecrets(frozenset({VAULT}), lambda: identity)
        yield opened
        await opened.close()

    async def test_a_secret_is_read_with_the_functions_identity(
        self, vault: VaultStub, secrets: VaultSecrets, identity: AsyncIdentity
    ) -> None:
        vault.secrets["pfx-password"] = "hunter2"
        assert await secrets.resolve(f"https://{VAULT}/secrets/pfx-password") == "hunter2"
        assert identity.asked_for == ["https://vault.azure.net/.default"]

    @pytest.mark.parametrize(
        "form", ["https://{}/secrets/p/v1", "https://{}:443/secrets/p/v1/", " https://{}/secrets/p/v1 "]
    )
    async def test_a_version_is_read_where_one_is_named(
        self, vault: VaultStub, secrets: VaultSecrets, form: str
    ) -> None:
        vault.secrets |= {"p": "new", "p/v1": "old"}
        assert await secrets.resolve(form.format(VAULT)) == "old"

    async def test_the_vaults_name_may_be_written_in_capitals(self, vault: VaultStub, secrets: VaultSecrets) -> None:
        vault.secrets["p"] = "hunter2"
        assert await secrets.resolve("https://SHOP.vault.azure.net/secrets/p") == "hunter2"

    async def test_many_secrets_need_one_connection_and_one_token(
        self, vault: VaultStub, secrets: VaultSecrets, identity: AsyncIdentity
    ) -> None:
        vault.secrets |= {f"p{number}": str(number) for number in range(20)}
        references = [f"https://{VAULT}/secrets/p{number}" for number in range(20)]
        for number, reference in enumerate(references):
            assert await secrets.resolve(reference) == str(number)
        assert len(identity.asked_for) == 1

    async def test_a_secret_that_is_not_there_is_said_with_the_role_to_grant(self, secrets: VaultSecrets) -> None:
        with pytest.raises(SecretUnavailableError, match=f"secret p of {VAULT}.*Key Vault Secrets User") as caught:
            await secrets.resolve(f"https://{VAULT}/secrets/p")
        assert not caught.value.retriable

    async def test_a_refusal_is_said_with_the_role_to_grant(self, vault: VaultStub, secrets: VaultSecrets) -> None:
        vault.answers_with = 403
        with pytest.raises(SecretUnavailableError, match=r"refused.*Key Vault Secrets User"):
            await secrets.resolve(f"https://{VAULT}/secrets/p")

    async def test_a_vault_that_is_busy_is_tried_a_few_times_and_then_later(
        self, vault: VaultStub, secrets: VaultSecrets
    ) -> None:
        vault.answers_with = 503
        with pytest.raises(UnavailableError) as caught:
            await secrets.resolve(f"https://{VAULT}/secrets/p")
        assert caught.value.retriable
        assert 1 < len(vault.requests) <= 4

    async def test_nothing_of_the_secret_is_logged(
        self, vault: VaultStub, secrets: VaultSecrets, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "azure")
        caplog.set_level(logging.DEBUG, "shared")
        vault.secrets["p"] = "hunter2"
        await secrets.resolve(f"https://{VAULT}/secrets/p")
        assert "hunter2" not in caplog.text
        assert "the-token" not in caplog.text


class TestTheKeyEncryptionKey:
    @pytest.fixture
    async def key(self, vault: VaultStub) -> AsyncIterator[VaultKey]:
        client = CryptographyClient(KEY_URL, Identity(), transport=vault.transport(), retry_total=1)
        yield VaultKey(client, KEY_URL)
        client.close()

    async def test_what_was_wrapped_is_unwrapped_by_the_vault(self, vault: VaultStub, key: VaultKey) -> None:
        wrapped = await asyncio.to_thread(key.wrap_key, b"k" * 32)
        assert b"kkkk" not in wrapped
        assert await asyncio.to_thread(key.unwrap_key, wrapped, "RSA-OAEP-256") == b"k" * 32
        assert vault.requests[-1] == "POST /keys/certcast/version1/unwrapkey"

    async def test_a_key_that_may_not_be_used_is_refused_by_name(self, vault: VaultStub, key: VaultKey) -> None:
        vault.answers_with = 403
        with pytest.raises(AccessDeniedError, match=f"unwrapping with key {KEY_URL}: refused"):
            await asyncio.to_thread(key.unwrap_key, b"w" * 256, "RSA-OAEP-256")

    async def test_what_another_key_wrapped_is_refused(self, key: VaultKey) -> None:
        with pytest.raises(CertcastError, match=f"unwrapping with key {KEY_URL}: the service answered 400") as caught:
            await asyncio.to_thread(key.unwrap_key, b"w" * 256, "RSA-OAEP-256")
        assert not caught.value.retriable

    async def test_a_vault_that_is_busy_is_to_be_asked_later(self, vault: VaultStub, key: VaultKey) -> None:
        await asyncio.to_thread(key.wrap_key, b"k" * 32)
        vault.answers_with = 503
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(key.unwrap_key, b"w" * 256, "RSA-OAEP-256")
