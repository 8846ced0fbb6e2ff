"""Which references to passwords are followed at all."""

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.azure.secrets import VaultSecrets
from shared.errors import SecretUnavailableError


def no_identity() -> NoReturn:
    raise AssertionError("the identity is asked for though nothing may be read")


SECRETS = VaultSecrets(frozenset({"shop.vault.azure.net"}), no_identity)


@pytest.mark.parametrize(
    "reference",
    [
        "https://other.vault.azure.net/secrets/p",
        "https://shop.vault.azure.net.evil.example/secrets/p",
        "https://shop.vault.azure.net@evil.example/secrets/p",
        "https://169.254.169.254/secrets/p",
    ],
)
async def test_a_vault_that_is_not_named_is_not_asked(reference: str) -> None:
    with pytest.raises(SecretUnavailableError, match="CERTCAST_KEY_VAULTS does not name"):
        await SECRETS.resolve(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "secrets/p",
        "http://shop.vault.azure.net/secrets/p",
        "https://shop.vault.azure.net",
        "https://shop.vault.azure.net/secrets/",
        "https://shop.vault.azure.net/secrets//v1",
        "https://shop.vault.azure.net/keys/p",
        "https://shop.vault.azure.net/secrets/p/v1/x",
        "https://shop.vault.azure.net/x/secrets/p",
        "https://[shop/secrets/p",
        "https://shop.vault.azure.net:port/secrets/p",
        "https://evil.example/secrets/p#shop.vault.azure.net",
        "https://shop.vault.azure.net/secrets/p?api-version=1",
    ],
)
async def test_what_is_no_secret_uri_is_refused(reference: str) -> None:
    with pytest.raises(SecretUnavailableError, match="is not a Key Vault secret URI"):
        await SECRETS.resolve(reference)


async def test_a_port_other_than_the_vaults_is_refused() -> None:
    with pytest.raises(SecretUnavailableError):
        await SECRETS.resolve("https://shop.vault.azure.net:8443/secrets/p")


@given(st.one_of(st.text(), st.text().map(lambda text: f"https://{text}/secrets/p")))
async def test_whatever_is_written_there_is_refused_in_a_sentence(reference: str) -> None:
    with pytest.raises(SecretUnavailableError):
        await SECRETS.resolve(reference)
