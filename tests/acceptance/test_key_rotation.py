"""Rotating the key-encryption key as docs/deploy.md has it: its loop runs in a shell, only the address is another."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from azure.storage.blob.aio import ContainerClient

from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from shared.azure.account import Account
from shared.azure.bundles import BUNDLES_CONTAINER
from shared.azure.envelope import Envelope
from shared.azure.key_encryption import FILE_PREFIX, make_key_file, read_key_file
from shared.bundle import BUNDLE_ID, bundle_id
from shared.config import StorageAccess
from shared.function.paging import DEFAULT_LIMIT
from shared.state.records import DELETED, UploadRecord, UploadStatus
from tests.rigs.certificates import authority
from tests.rigs.command_line import clean_environment
from tests.rigs.pages import OPERATIONS, blocks, section
from tests.rigs.programs import needs
from tests.rigs.some import some
from tests.rigs.witness import Witness, witnessed

pytestmark = [
    needs("bash", "curl", "jq"),
    pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell"),
    pytest.mark.timeout(300),
]

ADDRESS = "https://$APP.azurewebsites.net"
SETTING = "CERTCAST_KEY_ENCRYPTION_KEY"


def the_loop() -> str:
    """The block of the section that has uploads installed once more."""
    indented = section(OPERATIONS, "## Rotating the key-encryption key")
    [loop] = [block for block in blocks(indented.replace("\n   ", "\n"), "sh") if "/redeploy" in block]
    return loop


async def seal_more(account: Account, count: int) -> None:
    """Rejected uploads, each with a bundle from the time when it was accepted."""
    bundle = authority().issue("earlier.test").bundle()

    async def seal(number: int) -> None:
        name, identity = f"earlier {number:03}/größe%.pfx", bundle_id(bundle, str(number).encode())
        await account.bundles.seal(identity, bundle.to_pem())
        record = UploadRecord(name=name, revision=1, status=UploadStatus.REJECTED, etag=DELETED, bundle_id=identity)
        await account.state.uploads.write(name, record, None)

    for first in range(0, count, 20):
        await asyncio.gather(*(seal(number) for number in range(first, min(first + 20, count))))


async def sealed_under(cloud: Witness) -> dict[str, str]:
    """The key that each bundle names."""
    container = ContainerClient.from_connection_string(cloud.platform.connection_string, BUNDLES_CONTAINER)
    async with container:
        return {
            str(blob.name): some(Envelope.of(blob.metadata)).key_id
            async for blob in container.list_blobs(include=["metadata"])
            if BUNDLE_ID.match(str(blob.name).removesuffix(".pem"))
        }


async def run(script: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", script),
        env=clean_environment(**environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return some(process.returncode), output.decode()


async def test_the_documented_loop_seals_the_bundles_of_every_page_under_the_new_key(tmp_path: Path) -> None:
    old, new = (tmp_path / name for name in ("old.key", "new.key"))
    for path in (old, new):
        make_key_file(path)
    both = f"{FILE_PREFIX}{new};{FILE_PREFIX}{old}"
    of_function = {SETTING: f"{FILE_PREFIX}{old}"}
    settings = PlatformSettings(
        agents=1, ports=FREE_PORTS, function_environment=of_function, agent_environment={SETTING: both}
    )
    async with witnessed(settings) as cloud:
        issued = authority().issue("rotated.test")
        before = await cloud.goes_live("rotated.pfx", issued, live=1)
        access = StorageAccess(connection_string=cloud.platform.connection_string)
        async with Account(access, key_encryption_key=of_function[SETTING]) as account:
            await seal_more(account, DEFAULT_LIMIT + 5)
        names = await sealed_under(cloud)
        assert len(names) == DEFAULT_LIMIT + 6
        assert set(names.values()) == {read_key_file(old).get_kid()}

        await cloud.platform.functions.stop()
        of_function[SETTING] = both
        await cloud.platform.functions.start()
        assert ADDRESS in the_loop()
        script = the_loop().replace(ADDRESS, cloud.platform.functions_url)
        code, output = await run(script, KEY=cloud.platform.keys.function)

        assert (code, output.count("serves no host")) == (0, DEFAULT_LIMIT + 5), output[-2000:]
        assert await sealed_under(cloud) == dict.fromkeys(names, read_key_file(new).get_kid())
        after = await cloud.becomes("rotated.pfx", "live", live=1)
        assert after.counted_from != before.counted_from
        await cloud.serves("rotated.test", issued.fingerprint)
