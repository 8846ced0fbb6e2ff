"""What an outsider sees of a running local cloud: handshakes, tags and rows; all it does to it is uploading."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import aiohttp

from instance_agent.installing.probe import ProbeError, served_fingerprint
from local_azure.eventgrid.schemas import EventSchema, notification
from local_azure.functions_host.eventgrid import WEBHOOK_PATH
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import PlatformSettings
from shared.azure.account import Account
from shared.config import StorageAccess
from shared.state.records import UploadRecord
from tests.rigs.certificates import Issued
from tests.rigs.some import some

T = TypeVar("T")

PATIENCE_S = 40.0
PASSWORD = "correct horse battery"

BLOB_CREATED = "Microsoft.Storage.BlobCreated"
BLOB_DELETED = "Microsoft.Storage.BlobDeleted"


class Witness:
    """A local cloud, and an account of one's own at it, as any client has.

    Attributes:
        platform: The local cloud.
        account: The storage account through the relay.
        lines: Every line its parts have printed, with who printed it.
    """

    def __init__(self, platform: LocalPlatform, account: Account, lines: list[tuple[str, str]]) -> None:
        self.platform = platform
        self.account = account
        self.lines = lines

    async def upload(self, name: str, content: bytes, **metadata: str) -> str:
        """Upload as any SDK would, and return the ETag."""
        return await self.account.uploads.write(name, content, {"CertificatePassword": PASSWORD, **metadata})

    async def record(self, name: str) -> UploadRecord:
        """The upload's row."""
        record = await self.account.state.uploads.get(name)
        assert record is not None, f"no row for {name}"
        return record

    async def becomes(self, name: str, status: str, *, live: int | None = None) -> UploadRecord:
        """Wait for a status in the upload's row."""

        async def seen() -> UploadRecord | None:
            record = await self.account.state.uploads.get(name)
            fits = record is not None and record.status == status and live in {None, record.live}
            return record if fits else None

        return some(await eventually(seen, f"{name} to become {status}"))

    async def goes_live(self, name: str, issued: Issued, *, live: int, **metadata: str) -> UploadRecord:
        """Upload a certificate, and wait until so many instances have proved it."""
        await self.upload(name, issued.pfx(PASSWORD), **metadata)
        return await self.becomes(name, "live", live=live)

    async def tagged(self, name: str, **expected: str) -> None:
        """Wait for blob tags; they are written a moment after the row."""

        async def seen() -> bool:
            tags = await self.account.uploads.tags(name) or {}
            return {key: tags.get(key) for key in expected} == expected

        await eventually(seen, f"{name} to be tagged {expected}")

    async def served(self, host: str, *, port: int = 443) -> list[str]:
        """What each running agent serves for a host; empty where it cannot be seen."""
        found = []
        for number in range(len(self.platform.agents)):
            address = self.platform.tls_address(number, port)
            try:
                found.append(await served_fingerprint(address, host, timeout_s=5))
            except ProbeError:
                found.append("")
        return found

    async def serves(self, host: str, fingerprint: str) -> None:
        """Wait until every agent serves a certificate for a host."""
        agents = len(self.platform.agents)

        async def everywhere() -> bool:
            return await self.served(host) == [fingerprint] * agents

        await eventually(everywhere, f"every agent to serve {fingerprint[:12]} for {host}")

    def installs(self, host: str) -> list[str]:
        """The lines in which agents say that they bound a host and saw it served."""
        return [f"{who}: {line}" for who, line in self.lines if f" {host}:443 generation" in line and "live" in line]

    async def sweep(self) -> None:
        """Have the Function sweep now, as an administrator can; it goes on while this returns."""
        url = f"{self.platform.functions_url}/admin/functions/sweep"
        headers = {"x-functions-key": self.platform.keys.master}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"input": ""}, headers=headers) as answer,
        ):
            assert answer.status == 202, await answer.text()

    async def post_event(self, name: str, *, etag: str = "", kind: str = BLOB_CREATED) -> int:
        """Deliver a blob's event to the Functions host as Event Grid does, and return the answer's status."""
        subject = f"/blobServices/default/containers/certificates/blobs/{name}"
        data = {"api": "PutBlob", "sequencer": "0"} | ({"eTag": etag} if kind == BLOB_CREATED else {})
        return await self.deliver("on_blob_event", kind, subject, data)

    async def deliver(
        self,
        function: str,
        kind: str,
        subject: str,
        data: Mapping[str, object],
        schema: EventSchema = EventSchema.EVENT_GRID,
    ) -> int:
        """Deliver an event to a function through the host's webhook, and return the answer's status."""
        event = {
            "id": str(uuid.uuid4()),
            "topic": "/subscriptions/local",
            "subject": subject,
            "eventType": kind,
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "data": data,
            "dataVersion": "",
            "metadataVersion": "1",
        }
        request = notification(schema, event, deliveries=0)
        return await self.post(function, request.body, request.headers)

    async def post(self, function: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a request to a function's Event Grid webhook, and return the answer's status."""
        query = {"functionName": function, "code": self.platform.keys.eventgrid_extension}
        url = f"{self.platform.functions_url}{WEBHOOK_PATH}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, params=query, data=body, headers=headers) as answer,
        ):
            return answer.status


async def eventually(
    look: Callable[[], Awaitable[T]], what: str, patience_s: float = PATIENCE_S, *, every_s: float = 0.1
) -> T:
    """Look again and again until something is seen.

    Raises:
        AssertionError: It was not seen in time.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        seen = await look()
        if seen:
            return seen
        await asyncio.sleep(every_s)
    raise AssertionError(f"waited {patience_s:.0f} s for {what}")


@contextlib.asynccontextmanager
async def witnessed(settings: PlatformSettings) -> AsyncIterator[Witness]:
    """Run a local cloud and watch it."""
    lines: list[tuple[str, str]] = []
    watched = replace(settings, on_line=lambda who, line: lines.append((who, line)))
    async with LocalPlatform(watched) as platform:
        access = StorageAccess(connection_string=platform.connection_string)
        async with Account(access) as account:
            yield Witness(platform, account, lines)
