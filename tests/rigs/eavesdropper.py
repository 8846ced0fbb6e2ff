"""Reads along everything that a running local cloud puts where others may see it, and looks for secrets in it."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from shared.azure.blobs import UPLOADS_CONTAINER
from shared.azure.bundles import BUNDLES_CONTAINER

EVERY_S = 0.05
_PEEK = 32
_PEM_LINE = 64


@dataclass
class Eavesdropper:
    """What was read, by where it was read.

    Attributes:
        heard: Each distinct text, with the places it was found in.
        uploads: The content of every blob that was uploaded.
    """

    connection_string: str
    heard: dict[bytes, str] = field(default_factory=dict, repr=False)
    uploads: set[bytes] = field(default_factory=set, repr=False)

    def hear(self, where: str, text: str | bytes) -> None:
        self.heard.setdefault(text.encode() if isinstance(text, str) else text, where)

    def places(self) -> set[str]:
        """The first word of every place."""
        return {where.split(" ", maxsplit=1)[0] for where in self.heard.values()}

    def hear_folder(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.hear(f"log {path.name}", path.read_bytes())

    def private_keys(self, password: str) -> list[ec.EllipticCurvePrivateKey]:
        """The keys of all uploads that open with this password."""
        keys = []
        for content in self.uploads:
            key, _, _ = pkcs12.load_key_and_certificates(content, password.encode())
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            keys.append(key)
        return keys

    def found(self, secrets: Iterator[bytes]) -> list[str]:
        """The places in which one of these was heard."""
        looked_for = list(secrets)
        return sorted({where for text, where in self.heard.items() if any(secret in text for secret in looked_for)})

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Read on and on in here."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        async with (
            BlobServiceClient.from_connection_string(self.connection_string, retry_total=0) as blobs,
            QueueServiceClient.from_connection_string(self.connection_string, retry_total=0) as queues,
            TableServiceClient.from_connection_string(self.connection_string, retry_total=0) as tables,
        ):
            await asyncio.gather(
                self._again_and_again(lambda: self._blobs(blobs)),
                self._again_and_again(lambda: self._queues(queues)),
                self._again_and_again(lambda: self._tables(tables)),
                self._again_and_again(lambda: asyncio.to_thread(self._processes)),
            )

    async def _again_and_again(self, read: Callable[[], Awaitable[None]]) -> None:
        while True:
            # The cloud comes to its end while this goes on, and blobs and queues come and go.
            with suppress(AzureError):
                await read()
            await asyncio.sleep(EVERY_S)

    async def _blobs(self, service: BlobServiceClient) -> None:
        uploads, bundles = (
            service.get_container_client(UPLOADS_CONTAINER),
            service.get_container_client(BUNDLES_CONTAINER),
        )
        async for blob in uploads.list_blobs(include=["tags"]):
            self.hear(f"tags of {blob.name}", repr(blob.tags))
            self.uploads.add(await (await uploads.download_blob(blob.name)).readall())
        async for blob in bundles.list_blobs(include=["metadata"]):
            self.hear(f"bundle {blob.name}", repr(blob.metadata))
            self.hear(f"bundle {blob.name}", await (await bundles.download_blob(blob.name)).readall())

    async def _queues(self, service: QueueServiceClient) -> None:
        names = [queue.name async for queue in service.list_queues()]
        await asyncio.gather(*(self._queue(service, name) for name in names))

    async def _queue(self, service: QueueServiceClient, name: str) -> None:
        for message in await service.get_queue_client(name).peek_messages(max_messages=_PEEK):
            self.hear(f"queue {name}", message.content)
            with suppress(binascii.Error):
                self.hear(f"queue {name}", base64.b64decode(message.content))

    async def _tables(self, service: TableServiceClient) -> None:
        async for table in service.list_tables():
            async for entity in service.get_table_client(table.name).list_entities():
                self.hear(f"table {table.name}", repr(dict(entity)))

    def _processes(self) -> None:
        for arguments in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.hear("process", arguments.read_bytes().replace(b"\0", b" "))


def forms_of_text(secret: str) -> Iterator[bytes]:
    """A password as it is, and as it may stand in URLs, JSON and base64."""
    yield secret.encode()
    yield quote(secret).encode()
    yield secret.replace(" ", "+").encode()
    yield base64.b64encode(secret.encode()).rstrip(b"=")[:-1]


def forms_of_bytes(secret: bytes) -> Iterator[bytes]:
    """A key as it is, in hex and in base64 at any offset."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for offset in range(3):
        # Without the letters that depend on what stands before and after.
        yield base64.b64encode(b"\0" * offset + secret)[offset and 4 : -4]


def forms_of_key(key: ec.EllipticCurvePrivateKey) -> Iterator[bytes]:
    """A private key's number, and its PEM form."""
    yield from forms_of_bytes(key.private_numbers().private_value.to_bytes(key.key_size // 8))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    yield from (line for line in pem.splitlines() if len(line) == _PEM_LINE and b"-----" not in line)
    yield b"PRIVATE KEY-----"
