"""Seeing from outside what becomes of an upload: TLS handshakes, tags, metadata, status."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from operator_cli.demo.report import Moment, Observation
from operator_cli.handshake import certificate_shown
from operator_cli.outcome import DECIDED
from shared.state.document import instance_document, is_gone, upload_document
from shared.state.records import UploadStatus
from shared.state.tags import LIVE_TAG, REASON_TAG, STATUS_TAG, VERSION_TAG

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from operator_cli.demo.report import StepReport
    from shared.ports import UploadContainer
    from shared.state.records import UploadRecord
    from shared.state.tables import State
    from shared.verdict import VerdictCode

    Look = Callable[[], Awaitable[str | None]]
    """Answers what is wrong, None when nothing is."""

Addresses = dict[str, tuple[str, int]]
"""Instance id to the address where it answers HTTPS."""

PATIENCE_S = 30.0
_HANDSHAKES_S = 0.04
_REQUESTS_S = 0.05
_SHORT = 12


class Watch:
    """Looks on during one step.

    Args:
        report: Where it is entered.
        uploads: The container.
        state: The tables.
        listeners: The listeners of the instances that run; one that joins or leaves meanwhile joins or leaves it.
    """

    def __init__(self, report: StepReport, *, uploads: UploadContainer, state: State, listeners: Addresses) -> None:
        self.report = report
        self._uploads = uploads
        self._state = state
        self._listeners = listeners
        self._began = time.perf_counter()
        self._began_at = datetime.now(UTC)

    @property
    def ms(self) -> float:
        """Milliseconds since the step began."""
        return (time.perf_counter() - self._began) * 1000

    def happened(self, stage: str, at: datetime | None = None, instance: str = "") -> None:
        """Enter a moment: now, or at a time that another process on this machine noted."""
        ms = self.ms if at is None else (at - self._began_at).total_seconds() * 1000
        self.report.add(Moment(stage=stage, ms=max(0.0, ms), instance=instance))

    async def everywhere(
        self,
        what: str,
        host: str,
        expected: Mapping[str, str],
        *,
        before: Mapping[str, str] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        """See every instance show the expected certificate for a host.

        Args:
            what: The expectation, as it is reported.
            host: The server name to ask for.
            expected: Fingerprint by instance.
            before: What may be shown until then; anything else is an interruption, and reported.
            only: The instances to look at; None for all.
        """
        strangers: list[str] = []
        handshakes = 0

        async def watch(instance: str) -> None:
            async def look() -> str | None:
                nonlocal handshakes
                seen = await certificate_shown(self._listeners[instance], host)
                handshakes += 1
                if seen == expected[instance]:
                    return None
                if before is not None and seen != before[instance]:
                    strangers.append(instance)
                return f"showed {seen[:_SHORT]}..." if seen else "no handshake came about"

            await self.sees(what, look, pause_s=_HANDSHAKES_S, where=instance)

        await asyncio.gather(*(watch(instance) for instance in only or tuple(self._listeners)))
        if before is not None:
            self.report.add(
                Observation(
                    what=f"none of {handshakes} handshakes meanwhile failed or met another certificate",
                    seen=not strangers,
                    ms=self.ms,
                    instead=f"on {', '.join(sorted(set(strangers)))}" if strangers else "",
                )
            )

    async def tags(
        self, name: str, etag: str, status: UploadStatus, *, code: VerdictCode | None = None, whose: str = "the blob's"
    ) -> None:
        """See the blob's tags say so of that version, as Storage Explorer shows them."""
        total = len(self._listeners)
        live = f"{total}/{total}" if status is UploadStatus.LIVE else None

        async def look() -> str | None:
            tags = await self._uploads.tags(name) or {}
            good = tags.get(STATUS_TAG) == status.value and tags.get(VERSION_TAG) == etag
            good = good and live in {None, tags.get(LIVE_TAG)}
            good = good and (code is None or tags.get(REASON_TAG, "").startswith(f"{code.value}: "))
            return None if good else f"tags {', '.join(f'{key}={value}' for key, value in sorted(tags.items()))}"

        what = f"{whose} tags say {status.value}{f' {live}' if live else ''}{f', {code.value}' if code else ''}"
        await self.sees(what, look)

    async def status(
        self, name: str, etag: str | None, status: UploadStatus, *, code: VerdictCode | None = None
    ) -> None:
        """See what `certcast status` shows say so of that version, or of the upload as such."""

        async def look() -> str | None:
            record = await self._state.uploads.get(name)
            if record is None:
                return "nothing is known of it"
            document = upload_document(record)
            codes = [violation["code"] for violation in document["violations"]]
            good = (
                record.status is status
                and etag in {None, record.source_etag}
                and (code is None or codes == [code.value])
            )
            good = good and (status is not UploadStatus.REMOVED or is_gone(record))
            return None if good else f"{document['status']} {record.live}/{record.total} {' '.join(codes)}".strip()

        what = f"`certcast status` says {status.value}{f', {code.value}' if code else ''}"
        await self.sees(f"{what}, served nowhere" if status is UploadStatus.REMOVED else what, look)

    async def instance(self, instance: str, *, alive: bool) -> None:
        """See what `certcast status` shows say that an instance is ready, or was stopped."""
        word = "ready" if alive else "stopped"

        async def look() -> str | None:
            now = datetime.now(UTC)
            found = [known async for known in self._state.instances.all() if known.value.id == instance]
            if not found:
                return "nothing is known of it"
            document = instance_document(found[0], now=now)
            good = document[word] and document["alive"] is alive
            return None if good else ", ".join(f"{key} {document[key]}" for key in ("alive", "ready", "stopped"))

        await self.sees(f"`certcast status` says of {instance}: {word}", look)

    async def password_gone(self, name: str) -> None:
        """See the password replaced in the metadata."""

        async def look() -> str | None:
            version = await self._uploads.version(name)
            keys = sorted(version.metadata) if version else []
            lower = {key.lower() for key in keys}
            return None if "certcast_bundle" in lower - {"certificatepassword"} == lower else f"keys {', '.join(keys)}"

        await self.sees("the password is gone from the blob's metadata", look)

    async def way(self, name: str, etag: str, *, noticed: str = "event") -> None:
        """Enter the moments of the upload's way into the timeline, as the rows tell them, until it is decided.

        Args:
            name: The upload.
            etag: Its version.
            noticed: The stage at which the Function comes to know of it.
        """
        deadline = time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            record = await self._state.uploads.get(name)
            if record is not None and record.source_etag == etag:
                await self._enter(record, noticed)
                if record.status in DECIDED:
                    return
            await asyncio.sleep(_REQUESTS_S)

    async def _enter(self, record: UploadRecord, noticed: str) -> None:
        for stage, at in ((noticed, record.noticed_at), ("queued", record.fanned_out_at), ("live", record.live_at)):
            if at is not None and at >= self._began_at:
                self.happened(stage, at)
        if record.bundle_id and record.judged_at is not None and record.status is not UploadStatus.REJECTED:
            self.happened("accepted", record.judged_at)
        for key in record.claims:
            for report in await self._state.reports_on(key.host, key.port):
                if report.fingerprint_sha256 == record.fingerprint_sha256 and report.finished_at >= self._began_at:
                    proving_ms = report.stages_ms.get("probe", 0.0)
                    proved_ms = (report.finished_at - self._began_at).total_seconds() * 1000
                    self.report.add(Moment(stage="installed", ms=proved_ms - proving_ms, instance=report.instance))
                    self.report.add(Moment(stage="proved", ms=proved_ms, instance=report.instance))

    async def sees(self, what: str, look: Look, *, pause_s: float = _REQUESTS_S, where: str = "") -> None:
        """Look until nothing is wrong, and report it; or, after a while, what still is."""
        deadline = time.perf_counter() + PATIENCE_S
        while True:
            wrong = await look()
            if wrong is None or time.perf_counter() > deadline:
                break
            await asyncio.sleep(pause_s)
        self.report.add(Observation(what=what, seen=wrong is None, ms=self.ms, where=where, instead=wrong or ""))
