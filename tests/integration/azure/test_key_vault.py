"""Passwords and key-encryption keys from Key Vault, by the SDK over HTTPS against a stub of the service."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.identity import CredentialUnavailableError
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import BlobServiceClient

from shared.azure import key_ring
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.azure.key_encryption import VaultKey, make_key_file
from shared.azure.secrets import VaultSecrets
from shared.config import StorageAccess
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    KeyUnusableError,
    RefusedForNowError,
    SecretUnavailableError,
    UnavailableError,
)
from tests.contracts.edges import own
from tests.rigs.emulator import Emulator
from tests.rigs.vault_stub import VAULT, AsyncIdentity, Identity, VaultStub, vault_stub

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
        monkeypatch.setattr("azure.keyvault.secrets.aio.SecretClient", here)
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

    async def test_a_disabled_secret_is_said_to_be_disabled(self, vault: VaultStub, secrets: VaultSecrets) -> None:
        vault.refuses_as = "SecretDisabled"
        with pytest.raises(SecretUnavailableError, match=r"refused \(SecretDisabled\); enable that version") as caught:
            await secrets.resolve(f"https://{VAULT}/secrets/p")
        assert "role" not in str(caught.value)

    async def test_an_identity_without_a_token_is_no_fault_of_the_password(
        self, secrets: VaultSecrets, identity: AsyncIdentity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def none(*_: object, **__: object) -> None:
            raise CredentialUnavailableError(message="the metadata service does not answer")

        monkeypatch.setattr(identity, "get_token", none)
        with pytest.raises(RefusedForNowError, match="got no token for its identity"):
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


class TestRotatingTheKey:
    """Bundles in the emulator, sealed under versions of a key in the vault."""

    @pytest.fixture(autouse=True)
    def identities(self, vault: VaultStub, monkeypatch: pytest.MonkeyPatch) -> list[Identity]:
        made: list[Identity] = []

        def identity(**chosen: Any) -> Identity:
            made.append(Identity(**chosen))
            return made[-1]

        def here(client: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: client(*args, transport=vault.transport(), retry_total=0, **kwargs)

        monkeypatch.setattr("azure.identity.DefaultAzureCredential", identity)
        monkeypatch.setattr("azure.keyvault.keys.KeyClient", here(KeyClient))
        monkeypatch.setattr("azure.keyvault.keys.crypto.CryptographyClient", here(CryptographyClient))
        return made

    @pytest.fixture
    def account(self, azurite: Emulator) -> Callable[..., Account]:
        def opened(key: str, *, client_id: str | None = None) -> Account:
            access = StorageAccess(connection_string=azurite.connection_string, client_id=client_id)
            return Account(access, key_encryption_key=key)

        return opened

    @pytest.fixture
    async def ids(self, account: Callable[..., Account]) -> tuple[str, str]:
        async with account(f"{KEY_URL}/version1") as function:
            await function.create_all()
        return f"{own('b')}/{own('c')}", f"{own('b')}/{own('c')}"

    async def sealed_under(self, azurite: Emulator, bundle_id: str) -> str:
        """What the line in docs/deploy.md shows."""
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            blob = service.get_blob_client(BUNDLES_CONTAINER, f"{bundle_id}.pem")
            metadata = (await blob.get_blob_properties()).metadata
        [key_id] = re.findall(r'"KeyId": *"([^"]*)"', metadata["encryptiondata"])
        return str(key_id)

    async def test_what_the_old_version_sealed_is_opened_by_it_and_new_bundles_get_the_new_one(
        self, azurite: Emulator, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str]
    ) -> None:
        old, new = ids
        async with account(f"{KEY_URL}/version1") as function:
            await function.bundles.seal(old, b"sealed before")
        vault.rotate()
        async with account(f"{KEY_URL}/version2") as function, account(f"{KEY_URL}/version1") as behind:
            await function.bundles.seal(new, b"sealed after")
            assert await self.sealed_under(azurite, old) == f"{KEY_URL}/version1"
            assert await self.sealed_under(azurite, new) == f"{KEY_URL}/version2"
            for reader in (function, behind):
                assert await reader.bundles.open(old) == b"sealed before"
                assert await reader.bundles.open(new) == b"sealed after"
            await function.bundles.seal(old, await function.bundles.open(old))
            assert await self.sealed_under(azurite, old) == f"{KEY_URL}/version2"

    async def test_without_a_version_the_current_one_seals_and_is_asked_for_again_after_an_hour(
        self,
        azurite: Emulator,
        vault: VaultStub,
        account: Callable[..., Account],
        ids: tuple[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        old, new = ids
        passed = 0.0
        monkeypatch.setattr(key_ring, "time", SimpleNamespace(monotonic=lambda: passed))
        async with account(KEY_URL) as function:
            await function.bundles.seal(old, b"1")
            vault.rotate()
            passed = key_ring.CURRENT_FOR_S - 1.0
            await function.bundles.seal(new, b"2")
            assert {await self.sealed_under(azurite, each) for each in ids} == {f"{KEY_URL}/version1"}
            passed = key_ring.CURRENT_FOR_S
            await asyncio.gather(*(function.bundles.seal(new, b"2") for _ in range(4)))
            assert await self.sealed_under(azurite, new) == f"{KEY_URL}/version2"
            assert [await function.bundles.open(each) for each in ids] == [b"1", b"2"]
        assert vault.requests.count("GET /keys/certcast/") == 2

    async def test_a_version_that_was_disabled_is_named_with_the_bundle_and_tried_again_later(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str]
    ) -> None:
        old, _ = ids
        async with account(KEY_URL) as function:
            await function.bundles.seal(old, b"1")
            vault.disabled.add("version1")
            with pytest.raises(KeyUnusableError, match=r"was disabled or deleted, enable or recover it") as caught:
                await function.bundles.open(old)
            assert f"bundle {old} cannot be opened" in str(caught.value)
            assert f"{KEY_URL}/version1" in str(caught.value)
            assert caught.value.retriable
            vault.disabled.clear()
            assert await function.bundles.open(old) == b"1"

    @pytest.mark.parametrize("key", [KEY_URL, f"{KEY_URL}/version1"])
    async def test_nothing_is_sealed_under_a_version_that_is_disabled(
        self,
        vault: VaultStub,
        account: Callable[..., Account],
        ids: tuple[str, str],
        monkeypatch: pytest.MonkeyPatch,
        key: str,
    ) -> None:
        passed = 0.0
        monkeypatch.setattr(key_ring, "time", SimpleNamespace(monotonic=lambda: passed))
        async with account(key) as function:
            await function.bundles.seal(ids[0], b"1")
            vault.disabled.add("version1")
            passed = key_ring.CURRENT_FOR_S
            with pytest.raises(KeyUnusableError, match=rf"sealed under key {KEY_URL}/version1, which is disabled") as e:
                await function.bundles.seal(ids[1], b"2")
            assert e.value.retriable
            vault.disabled.clear()
            await function.bundles.seal(ids[1], b"2")

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            ({"attributes": {"exp": 1_700_000_000}}, "expired on 2023-11-14"),
            ({"attributes": {"nbf": 4_000_000_000}}, "may not be used before 2096-10-02"),
            ({"operations": ("unwrapKey",)}, "does not allow the operation wrapKey"),
        ],
    )
    async def test_nothing_is_sealed_under_a_version_that_may_not_wrap(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str], given: dict[str, Any], why: str
    ) -> None:
        for name, value in given.items():
            setattr(vault, name, value)
        async with account(KEY_URL) as function:
            with pytest.raises(KeyUnusableError, match=rf"key {KEY_URL}/version1, which {why}: change that in the"):
                await function.bundles.seal(ids[0], b"1")

    async def test_a_vault_that_asks_for_patience_is_asked_again_for_a_key(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str]
    ) -> None:
        async with account(KEY_URL) as function:
            await function.bundles.seal(ids[0], b"1")
            vault.busy = 1
            assert await function.bundles.open(ids[0]) == b"1"
            assert vault.requests[-2:] == ["POST /keys/certcast/version1/unwrapkey"] * 2

    @pytest.mark.parametrize(
        ("inner", "said"), [("ForbiddenByRbac", "half an hour"), ("ForbiddenByFirewall", "network rules")]
    )
    async def test_a_refusal_says_whether_it_is_the_role_or_the_network(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str], inner: str, said: str
    ) -> None:
        async with account(KEY_URL) as function:
            await function.bundles.seal(ids[0], b"1")
            vault.refuses_as = inner
            with pytest.raises(KeyUnusableError, match=rf"refused \({inner}\); .*{said}") as caught:
                await function.bundles.open(ids[0])
            assert caught.value.retriable

    async def test_without_a_client_id_the_environment_names_the_identity(
        self, account: Callable[..., Account], ids: tuple[str, str], identities: list[Identity]
    ) -> None:
        identities.clear()
        async with account(KEY_URL) as agent:
            await agent.bundles.seal(ids[0], b"1")
        assert [identity.chosen for identity in identities] == [{}]

    async def test_a_version_that_was_deleted_is_not_taken_for_a_bundle_that_is_not_there(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str]
    ) -> None:
        old, _ = ids
        vault.rotate()
        async with account(KEY_URL) as function:
            await function.bundles.seal(old, b"1")
        del vault.keys[1]
        async with account(KEY_URL) as agent:
            with pytest.raises(KeyUnusableError, match=f"{KEY_URL}/version2: not there"):
                await agent.bundles.open(old)

    async def test_a_key_that_the_setting_does_not_name_is_said_with_the_bundle(
        self, account: Callable[..., Account], ids: tuple[str, str], tmp_path: Path
    ) -> None:
        old, new = ids
        make_key_file(tmp_path / "key")
        file = f"file:{tmp_path / 'key'}"
        async with account(KEY_URL) as function:
            await function.bundles.seal(old, b"1")
        async with account(file) as agent:
            with pytest.raises(CertcastError, match=f"bundle {old} .*{KEY_URL}/version1, which CERTCAST_KEY") as caught:
                await agent.bundles.open(old)
            assert not caught.value.retriable
            await agent.bundles.seal(new, b"2")
        async with account(f"{KEY_URL};{file}") as both:
            assert [await both.bundles.open(each) for each in ids] == [b"1", b"2"]

    async def test_a_vault_that_does_not_answer_is_to_be_asked_later(
        self, vault: VaultStub, account: Callable[..., Account], ids: tuple[str, str]
    ) -> None:
        vault.answers_with = 503
        async with account(KEY_URL) as function:
            with pytest.raises(UnavailableError):
                await function.bundles.seal(ids[0], b"1")
            vault.answers_with = None
            await function.bundles.seal(ids[0], b"1")
            assert await function.bundles.open(ids[0]) == b"1"

    async def test_the_chosen_identity_asks_the_vault_also_with_a_connection_string(
        self, account: Callable[..., Account], ids: tuple[str, str], identities: list[Identity]
    ) -> None:
        identities.clear()
        async with account(KEY_URL, client_id="the-agents") as agent:
            await asyncio.gather(*(agent.bundles.seal(each, b"1") for each in ids))
        assert [identity.chosen for identity in identities] == [{"managed_identity_client_id": "the-agents"}]
        assert set(identities[0].asked_for) == {"https://vault.azure.net/.default"}
