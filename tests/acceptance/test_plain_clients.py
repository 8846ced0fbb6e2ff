"""Clients that are not ours: the Azure SDK in each of its ways of writing a blob, and OpenSSL's own TLS client."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from azure.storage.blob import BlobBlock, ContainerClient

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from tests.rigs.certificates import authority
from tests.rigs.programs import needs
from tests.rigs.witness import PASSWORD, Witness, eventually, witnessed

AGENTS = 3

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240), needs("openssl")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Witness]:
    async with witnessed(PlatformSettings(agents=AGENTS, ports=FREE_PORTS)) as witness:
        yield witness


async def shown_by_openssl(address: tuple[str, int], host: str) -> str:
    """The hex SHA-256 of the leaf that `openssl s_client -servername` is shown."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-servername", host),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    if begin not in output:
        return ""
    pem = begin + output.partition(begin)[2].partition(end)[0] + end
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


async def served_by_all(cloud: Witness, host: str, fingerprint: str) -> None:
    async def everywhere() -> bool:
        addresses = [cloud.platform.tls_address(number) for number in range(AGENTS)]
        return {await shown_by_openssl(address, host) for address in addresses} == {fingerprint}

    await eventually(everywhere, f"openssl to be shown {fingerprint[:12]} for {host} by every agent")


def put_blob(container: ContainerClient, name: str, content: bytes, metadata: dict[str, str]) -> None:
    container.upload_blob(name, content, metadata=metadata)


def put_block_list(container: ContainerClient, name: str, content: bytes, metadata: dict[str, str]) -> None:
    blob = container.get_blob_client(name)
    half = len(content) // 2
    ids = [base64.b64encode(f"{number:04}".encode()).decode() for number in range(2)]
    for block_id, part in zip(ids, (content[:half], content[half:]), strict=True):
        blob.stage_block(block_id, part)
    blob.commit_block_list([BlobBlock(block_id) for block_id in ids], metadata=metadata)


def copy_blob(container: ContainerClient, name: str, content: bytes, metadata: dict[str, str]) -> None:
    # The name of the first is not a certificate's, so that only the copy is taken up.
    source = container.upload_blob(f"{name}.draft", content)
    container.get_blob_client(name).start_copy_from_url(source.url, metadata=metadata)


@pytest.mark.parametrize("write", [put_blob, put_block_list, copy_blob])
async def test_what_the_azure_sdk_writes_is_shown_by_every_agent(
    cloud: Witness, write: Callable[[ContainerClient, str, bytes, dict[str, str]], None]
) -> None:
    host = f"{write.__name__.replace('_', '-')}.test"
    issued = authority().issue(host)
    with ContainerClient.from_connection_string(cloud.platform.connection_string, "certificates") as container:
        metadata = {"HostHeader": host, "PortNumber": "443", "CertificatePassword": PASSWORD}
        await asyncio.to_thread(write, container, f"{host}.pfx", issued.pfx(PASSWORD), metadata)
        await served_by_all(cloud, host, issued.fingerprint)
        await cloud.becomes(f"{host}.pfx", "live", live=AGENTS)
        await cloud.tagged(f"{host}.pfx", certcast_status="live", certcast_live=f"{AGENTS}/{AGENTS}")
        properties = await asyncio.to_thread(container.get_blob_client(f"{host}.pfx").get_blob_properties)
        assert PASSWORD not in str(properties.metadata)


async def test_what_is_no_certificate_is_ignored_without_a_word(cloud: Witness) -> None:
    before = len(cloud.lines)
    with ContainerClient.from_connection_string(cloud.platform.connection_string, "certificates") as container:
        for name in ("readme.txt", "folder/", "certificate.pem", ".pfx"):
            await asyncio.to_thread(container.upload_blob, name, b"nothing to see")
    issued = authority().issue("after.test")
    await cloud.goes_live("after.pfx", issued, live=AGENTS)
    said = [line for who, line in cloud.lines[before:] if who == "functions"]
    assert not [line for line in said if "readme" in line or "folder/" in line or "certificate.pem" in line], said


async def test_a_name_with_slashes_spaces_percent_signs_and_umlauts_goes_all_the_way(cloud: Witness) -> None:
    name = "tenants/größe 100%/#1 'büro'.PFX"
    issued = authority().issue("odd-name.test")
    await cloud.goes_live(name, issued, live=AGENTS)
    await served_by_all(cloud, "odd-name.test", issued.fingerprint)
    assert await cloud.account.uploads.delete(name)
    await cloud.becomes(name, "removed", live=0)
    assert issued.fingerprint not in await cloud.served("odd-name.test")
