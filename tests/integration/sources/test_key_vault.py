"""Certificates in Key Vault as a source, by the SDK over HTTPS against a stub of listing and reading secrets."""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from azure.keyvault.secrets.aio import SecretClient

from shared.errors import AccessDeniedError, UnavailableError
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice
from shared.function.sweep import sweep
from shared.sources.key_vault import KeyVaultCertificates, vault_upload
from shared.upload import KEY_VAULT_SCHEME
from tests.fakes.edges import FakeStorage
from tests.fakes.storage import START
from tests.rigs.certificates import Issued, authority
from tests.rigs.some import some
from tests.rigs.vault_stub import VAULT, AsyncIdentity, VaultStub, vault_stub

NAME = "keyvault://shop/web"
CREATED = "Microsoft.KeyVault.CertificateNewVersionCreated"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultStub]:
    with vault_stub(tmp_path) as stub:
        yield stub


@pytest.fixture
async def source(vault: VaultStub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KeyVaultCertificates]:
    transport = vault.async_transport()
    monkeypatch.setattr("azure.keyvault.secrets.aio.SecretClient", partial(SecretClient, transport=transport))
    opened = KeyVaultCertificates(frozenset({VAULT}), AsyncIdentity)
    yield opened
    await opened.close()
    await transport.close()  # also where it was not used


@pytest.fixture
def cloud(source: KeyVaultCertificates) -> Cloud:
    return replace(FakeStorage().cloud(), sources={KEY_VAULT_SCHEME: source})


def issue(host: str) -> Issued:
    return authority(not_before=START).issue(host, not_before=START)


def content(issued: Issued) -> str:
    return base64.b64encode(issued.pfx(None)).decode()


async def test_a_tagged_certificate_is_read_with_its_tags_as_metadata(
    vault: VaultStub, source: KeyVaultCertificates
) -> None:
    pfx = issue("web.test").pfx(None)
    vault.put("web", base64.b64encode(pfx).decode(), HostHeader="web.test", PortNumber="8443")
    found = some(await source.read(NAME, max_bytes=1_000_000))
    assert found.content == pfx
    assert found.version.metadata == {"HostHeader": "web.test", "PortNumber": "8443"}
    assert [version.name async for version in source.each()] == [NAME]
    assert [version.etag async for version in source.each()] == [found.version.etag]


async def test_what_is_not_a_tagged_pfx_is_left_alone(vault: VaultStub, source: KeyVaultCertificates) -> None:
    vault.put("password", "hunter2", content_type="text/plain", HostHeader="web.test")
    vault.put("untagged", content(issue("web.test")), owner="mail team")
    vault.put("off", content(issue("web.test")), HostHeader="web.test")
    vault.bundles["off"]["attributes"]["enabled"] = False
    assert [version.name async for version in source.each()] == []
    for name in ("password", "untagged", "off", "missing"):
        assert await source.read(f"keyvault://shop/{name}", max_bytes=10) is None
        assert await source.version(f"keyvault://shop/{name}") is None


async def test_every_page_of_the_listing_is_read(vault: VaultStub, source: KeyVaultCertificates) -> None:
    for number in range(5):
        vault.put(f"c{number}", content(issue("web.test")), HostHeader="web.test")
    assert [version.name async for version in source.each()] == [f"keyvault://shop/c{number}" for number in range(5)]


async def test_a_new_version_and_an_edited_tag_change_the_version(
    vault: VaultStub, source: KeyVaultCertificates
) -> None:
    seen = set()
    for issued, tag in ((issue("a.test"), "a.test"), (issue("a.test"), "a.test"), (issue("a.test"), "b.test")):
        vault.put("web", content(issued), HostHeader=tag)
        seen.add(some(await source.version(NAME)).etag)
    assert len(seen) == 3


async def test_a_vault_that_is_not_named_is_never_asked(vault: VaultStub, source: KeyVaultCertificates) -> None:
    assert await source.read("keyvault://evil/web", max_bytes=10) is None
    assert await source.read("keyvault://shop.evil.test/web", max_bytes=10) is None
    assert vault.requests == []


async def test_a_refusal_names_the_vault_and_where_the_roles_are_described(
    vault: VaultStub, source: KeyVaultCertificates
) -> None:
    vault.answers_with = 403
    with pytest.raises(AccessDeniedError, match=rf"listing the certificates of {VAULT}: refused.*docs/deploy.md"):
        _ = [version async for version in source.each()]


async def test_a_vault_that_is_busy_is_asked_again_later(vault: VaultStub, source: KeyVaultCertificates) -> None:
    vault.answers_with = 503
    with pytest.raises(UnavailableError):
        await source.read(NAME, max_bytes=10)
    assert len(vault.requests) <= 4


async def test_the_event_of_a_new_version_brings_it_through_the_same_intake(vault: VaultStub, cloud: Cloud) -> None:
    issued = issue("web.test")
    vault.put("web", content(issued), HostHeader="web.test")
    name = vault_upload(CREATED, {"VaultName": "Shop", "ObjectName": "Web", "ObjectType": "Certificate"})
    assert name == NAME
    assert some(await handle_notice(cloud, Notice(name=name))).fingerprint_sha256 == issued.fingerprint
    renewed = issue("web.test")
    vault.put("web", content(renewed), HostHeader="web.test")
    assert some(await handle_notice(cloud, Notice(name=name))).fingerprint_sha256 == renewed.fingerprint


async def test_the_sweep_finds_what_no_event_told_of_and_what_is_gone(vault: VaultStub, cloud: Cloud) -> None:
    vault.put("web", content(issue("web.test")), HostHeader="web.test")
    assert (await sweep(cloud)).looked_at == [NAME]
    assert (await sweep(cloud)).looked_at == []
    del vault.bundles["web"]
    assert (await sweep(cloud)).looked_at == [NAME]
    assert some(await cloud.state.uploads.get(NAME)).status == "removed"


async def test_a_vault_that_does_not_answer_removes_nothing(vault: VaultStub, cloud: Cloud) -> None:
    vault.put("web", content(issue("web.test")), HostHeader="web.test")
    await sweep(cloud)
    vault.answers_with = 403
    report = await sweep(cloud)
    assert report.looked_at == []
    assert any("certificate source keyvault" in problem for problem in report.problems)
    assert some(await cloud.state.uploads.get(NAME)).status != "removed"


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("Microsoft.KeyVault.CertificateNearExpiry", {"VaultName": "shop", "ObjectName": "web"}),
        ("Microsoft.KeyVault.KeyNewVersionCreated", {"VaultName": "shop", "ObjectName": "web"}),
        (CREATED, {"VaultName": "shop"}),
        (CREATED, {"VaultName": None, "ObjectName": "web"}),
        (CREATED, {"VaultName": ["shop"], "ObjectName": "web"}),
        (CREATED, {"VaultName": "shop", "ObjectName": "../web"}),
        (CREATED, {"VaultName": "shop\ud800", "ObjectName": "web"}),
        (CREATED, {}),
    ],
)
def test_other_events_are_about_no_upload(event_type: str, data: dict[str, object]) -> None:
    assert vault_upload(event_type, data) is None
