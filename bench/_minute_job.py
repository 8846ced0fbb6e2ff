"""A job of the 2013 pattern: each minute it lists the blob container, and installs each PFX that is new or changed.

As its users wrote it: one look after the other with a fixed sleep between two, the password from the blob's metadata,
no validation, no probe, no word to the uploader.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import pkcs12

from instance_agent.targets.base import Install
from operator_cli.handshake import certificate_shown
from shared.bundle import CertificateBundle, PrivateKey
from shared.bundle.link import Link

if TYPE_CHECKING:
    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import ContainerClient

    from instance_agent.targets.embedded.target import EmbeddedTarget

_PORT = 443


class MinuteJob:
    """One instance's job.

    Args:
        container: The container of uploads.
        target: The web server.
        wait_s: How long it sleeps between two looks.

    Attributes:
        served_at: When each host was first seen served, by `time.perf_counter`.
        slept: From when until when it slept, each time.
    """

    def __init__(self, container: ContainerClient, target: EmbeddedTarget, *, wait_s: float) -> None:
        self.served_at: dict[str, float] = {}
        self.slept: list[tuple[float, float]] = []
        self._container = container
        self._target = target
        self._wait_s = wait_s
        self._installed: dict[str, str] = {}

    async def run(self, first_s: float) -> None:
        """Look again and again, for the first time after so many seconds."""
        await self._sleep(first_s)
        while True:
            async for blob in self._container.list_blobs(include=["metadata"]):
                if self._installed.get(blob.name) != blob.etag:
                    await self._install(blob)
                    self._installed[blob.name] = blob.etag
            await self._sleep(self._wait_s)

    def slept_between(self, began: float, ended: float) -> float:
        """How many seconds of a time it slept."""
        return sum(max(0.0, min(ended, until) - max(began, since)) for since, until in self.slept)

    async def _install(self, blob: BlobProperties) -> None:
        host, password = blob.metadata["HostHeader"], blob.metadata["CertificatePassword"]
        content = await (await self._container.download_blob(blob.name)).readall()
        bundle = await asyncio.to_thread(_opened, content, password.encode())
        await self._target.apply([Install(host=host, port=_PORT, bundle_id=blob.name, bundle=bundle)])
        # Not the job's: how it is known when its work was done.
        shown = await certificate_shown(self._target.endpoint(_PORT), host)
        if shown != bundle.fingerprint_sha256:
            raise RuntimeError(f"{host} was installed and is not served")
        self.served_at[host] = time.perf_counter()

    async def _sleep(self, seconds: float) -> None:
        since = time.perf_counter()
        await asyncio.sleep(seconds)
        self.slept.append((since, time.perf_counter()))


def _opened(content: bytes, password: bytes) -> CertificateBundle:
    found = pkcs12.load_pkcs12(content, password)
    assert found.cert is not None
    assert isinstance(found.key, PrivateKey)
    chain = tuple(Link.of(each.certificate) for each in found.additional_certs)
    return CertificateBundle(leaf=found.cert.certificate, chain=chain, key=found.key)
