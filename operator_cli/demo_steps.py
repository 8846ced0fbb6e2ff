"""The demo's six steps: what is done in each, and what must be seen from outside for it to count."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from operator_cli.demo_certificates import DEMO_PASSWORD, WRONG_PASSWORD, DemoAuthority
from operator_cli.demo_report import StepReport
from operator_cli.demo_watch import PATIENCE_S, Watch
from operator_cli.handshake import certificate_shown
from shared.state import UploadStatus
from shared.verdict import VerdictCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from operator_cli.demo_certificates import DemoCertificate
    from operator_cli.demo_watch import Listeners
    from shared.ports import UploadContainer
    from shared.state import State

SHOP = "shop.certcast.example"
LATE = "late.certcast.example"
LOCKED = "locked.certcast.example"
UNCOVERED = "elsewhere.certcast.example"
SHOP_BLOB, LATE_BLOB, LOCKED_BLOB, UNCOVERED_BLOB = "shop.pfx", "late.pfx", "locked.pfx", "uncovered.pfx"

METADATA_AFTER_S = 3.0
"""How long a person takes, in the demo, from Storage Explorer's upload to its Properties dialog."""


class Demo:
    """Plays the uploader and looks on from outside.

    Args:
        uploads: The container.
        state: The tables, for what `certcast status` reads.
        listeners: The instances' listeners.
        changed: Called with a step whenever something was seen in it.
    """

    STEPS: ClassVar[int] = 6

    def __init__(
        self,
        *,
        uploads: UploadContainer,
        state: State,
        listeners: Listeners,
        changed: Callable[[StepReport], None],
    ) -> None:
        self._uploads = uploads
        self._state = state
        self._listeners = listeners
        self._changed = changed
        self._authority = DemoAuthority()
        self._fallbacks: dict[str, str] = {}

    async def steps(self) -> AsyncIterator[StepReport]:
        """Run one step after the other; the first in which something was not seen is the last."""
        self._fallbacks = {name: await self._fallback(name) for name in self._listeners}
        first, renewed, late = self._authority.issue(SHOP), self._authority.issue(SHOP), self._authority.issue(LATE)
        plan: list[tuple[str, str, Callable[[Watch], Awaitable[None]]]] = [
            (
                "upload",
                "A PFX and its metadata are uploaded, as Storage Explorer does",
                lambda w: self._first(w, first),
            ),
            ("renewal", "A renewal is uploaded under the same name", lambda w: self._renewal(w, first, renewed)),
            ("wrong_password", "A PFX comes with the wrong password", self._wrong_password),
            ("host_not_covered", "A PFX is to be served for a host that it does not cover", self._not_covered),
            (
                "late_metadata",
                f"A PFX is uploaded alone, its metadata {METADATA_AFTER_S:.0f} s later",
                lambda w: self._late(w, late),
            ),
            ("removal", "An upload is deleted", lambda w: self._removal(w, renewed, late)),
        ]
        for name, title, act in plan:
            report = StepReport(name=name, title=title, changed=self._changed)
            watch = Watch(report, uploads=self._uploads, state=self._state, listeners=self._listeners)
            await act(watch)
            report.ms = watch.ms
            yield report
            if not report.ok:
                return

    async def _first(self, watch: Watch, certificate: DemoCertificate) -> None:
        etag = await self._upload(watch, SHOP_BLOB, certificate.pfx, _metadata(SHOP))
        await self._sees_live(watch, SHOP_BLOB, etag, SHOP, certificate, before=self._fallbacks)

    async def _renewal(self, watch: Watch, before: DemoCertificate, renewed: DemoCertificate) -> None:
        etag = await self._upload(watch, SHOP_BLOB, renewed.pfx, _metadata(SHOP))
        await self._sees_live(watch, SHOP_BLOB, etag, SHOP, renewed, before=self._all(before))

    async def _wrong_password(self, watch: Watch) -> None:
        pfx = self._authority.issue(LOCKED).pfx
        metadata = {**_metadata(LOCKED), "CertificatePassword": WRONG_PASSWORD}
        etag = await self._upload(watch, LOCKED_BLOB, pfx, metadata)
        await self._sees_rejected(watch, LOCKED_BLOB, etag, LOCKED, VerdictCode.UNREADABLE_BUNDLE)

    async def _not_covered(self, watch: Watch) -> None:
        etag = await self._upload(watch, UNCOVERED_BLOB, self._authority.issue(SHOP).pfx, _metadata(UNCOVERED))
        await self._sees_rejected(watch, UNCOVERED_BLOB, etag, UNCOVERED, VerdictCode.HOST_NOT_COVERED)

    async def _late(self, watch: Watch, certificate: DemoCertificate) -> None:
        etag = await self._upload(watch, LATE_BLOB, certificate.pfx, {})
        await watch.tags(LATE_BLOB, etag, UploadStatus.WAITING_FOR_METADATA)
        await asyncio.sleep(max(0.0, METADATA_AFTER_S - watch.ms / 1000))
        etag = await self._uploads.set_metadata(LATE_BLOB, _metadata(LATE), etag=etag)
        watch.happened("metadata")
        await self._sees_live(watch, LATE_BLOB, etag, LATE, certificate, before=self._fallbacks)

    async def _removal(self, watch: Watch, removed: DemoCertificate, kept: DemoCertificate) -> None:
        await self._uploads.delete(SHOP_BLOB)
        watch.happened("deleted")
        await asyncio.gather(
            watch.everywhere(
                "a TLS handshake shows the fallback again", SHOP, self._fallbacks, before=self._all(removed)
            ),
            watch.status(SHOP_BLOB, None, UploadStatus.REMOVED),
        )
        await watch.everywhere("the other certificate is served as before", LATE, self._all(kept))

    async def _sees_live(
        self,
        watch: Watch,
        name: str,
        etag: str,
        host: str,
        certificate: DemoCertificate,
        *,
        before: Mapping[str, str],
    ) -> None:
        await asyncio.gather(
            watch.way(name, etag),
            watch.everywhere("a TLS handshake shows the new certificate", host, self._all(certificate), before=before),
            watch.tags(name, etag, UploadStatus.LIVE),
            watch.status(name, etag, UploadStatus.LIVE),
            watch.password_gone(name),
        )

    async def _sees_rejected(self, watch: Watch, name: str, etag: str, host: str, code: VerdictCode) -> None:
        await asyncio.gather(
            watch.way(name, etag),
            watch.tags(name, etag, UploadStatus.REJECTED, code=code),
            watch.status(name, etag, UploadStatus.REJECTED, code=code),
        )
        await watch.everywhere("a TLS handshake shows the fallback", host, self._fallbacks)

    async def _upload(self, watch: Watch, name: str, content: bytes, metadata: dict[str, str]) -> str:
        etag = await self._uploads.write(name, content, metadata)
        watch.happened("uploaded")
        return etag

    async def _fallback(self, instance: str) -> str:
        """What an instance shows before anything is uploaded; it may still be starting to listen."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            shown = await certificate_shown(self._listeners[instance], None)
            if shown is not None or asyncio.get_running_loop().time() > deadline:
                return shown or ""
            await asyncio.sleep(0.1)

    def _all(self, certificate: DemoCertificate) -> dict[str, str]:
        return dict.fromkeys(self._listeners, certificate.fingerprint_sha256)


def _metadata(host: str) -> dict[str, str]:
    return {"HostHeader": host, "PortNumber": "443", "CertificatePassword": DEMO_PASSWORD}
