"""A platform in memory for the use cases' tests: uploads, instances that do as they are told, and what became of it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

from instance_agent.desired import desired_of
from shared.binding import ANY_ROLE, BindingKey, DesiredBinding
from shared.function.blob_event import Notice
from shared.function.cloud import Cloud
from shared.function.intake import handle_notice, look_at, recheck
from shared.function.results import fold
from shared.messages import (
    RECHECK_QUEUE,
    RESULTS_QUEUE,
    BindingReport,
    BindingsChanged,
    InstallOutcome,
    InstallReport,
    RecheckUpload,
    decode,
    encode,
    queue_of,
)
from shared.state.records import UploadRecord
from shared.state.telling import with_reasons
from tests.fakes.edges import FakeStorage, Step, unhindered
from tests.fakes.storage import START
from tests.rigs.certificates import Authority, Issued, authority
from tests.rigs.rows import registered, report_on
from tests.rigs.some import some

PASSWORD = "correct horse"


@cache
def root() -> Authority:
    return authority(not_before=START - timedelta(days=1000))


def issued(*hosts: str, day: float = 0, lasts: float = 90, serial: int = 0) -> Issued:
    """One certificate per hosts and days in a run.

    Args:
        hosts: What it is for.
        day: Days after the clock's start that it is valid from, less an hour.
        lasts: Days that it is valid for.
        serial: Tells certificates apart that are alike otherwise.
    """
    return _issued(hosts, day, lasts, serial)


@cache
def _issued(hosts: tuple[str, ...], day: float, lasts: float, _serial: int) -> Issued:
    start = START.replace(microsecond=0) - timedelta(hours=1) + timedelta(days=day)
    return root().issue(*hosts, not_before=start, not_after=start + timedelta(days=lasts))


def pfx(*hosts: str, day: float = 0, lasts: float = 90, serial: int = 0, password: str | None = PASSWORD) -> bytes:
    """The same as a file."""
    return _file(_issued(hosts, day, lasts, serial), password)


@cache
def _file(certificate: Issued, password: str | None) -> bytes:
    return certificate.pfx(password, iterations=1)


class Scene:
    """One storage account, the Function that works on it, and instances.

    Args:
        storage: The account; a new one by default.
        step: What happens at each of the Function's steps.
    """

    def __init__(
        self, storage: FakeStorage | None = None, step: Step = unhindered, *, scrub_password: bool = True
    ) -> None:
        self.storage = storage or FakeStorage()
        self.cloud = self.storage.cloud(step, scrub_password=scrub_password)
        self.outside = self.storage.cloud()

    def seen_by(self, step: Step, *, page: int = 1000) -> Cloud:
        """The same account as another process of the Function works on it."""
        return self.storage.cloud(step, page=page, scrub_password=self.cloud.scrub_password)

    async def upload(
        self,
        name: str,
        *hosts: str,
        day: float = 0,
        lasts: float = 90,
        serial: int = 0,
        password: str | None = PASSWORD,
        metadata: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> Notice:
        """Put a PFX into the container, password in its metadata, and return what its event says."""
        metadata = metadata if metadata is not None else {"CertificatePassword": password} if password else {}
        if content is None:
            content = pfx(*hosts, day=day, lasts=lasts, serial=serial, password=password)
        etag = await self.outside.uploads.write(name, content, metadata)
        return Notice(name=name, etag=etag, at=self.storage.clock())

    async def edit(self, name: str, **changes: str | None) -> str:
        """Edit the metadata as Storage Explorer does: no event comes of it."""
        version = some(await self.outside.uploads.version(name))
        metadata = {**version.metadata, **changes}
        kept = {key: value for key, value in metadata.items() if value is not None}
        return await self.outside.uploads.set_metadata(name, kept, etag=version.etag)

    async def delete(self, name: str) -> Notice:
        assert await self.outside.uploads.delete(name)
        return Notice(name=name, at=self.storage.clock(), deletion=True)

    async def accepted(
        self, name: str, *hosts: str, day: float = 0, lasts: float = 90, serial: int = 0
    ) -> UploadRecord:
        """Upload, and have it handled."""
        await look_at(self.cloud, await self.upload(name, *hosts, day=day, lasts=lasts, serial=serial))
        return await self.record(name)

    async def looked_at(self, notice: Notice | str, cloud: Cloud | None = None) -> UploadRecord:
        await look_at(cloud or self.cloud, notice if isinstance(notice, Notice) else Notice(name=notice))
        return await self.record(notice.name if isinstance(notice, Notice) else notice)

    async def handle(self, notice: Notice) -> None:
        await handle_notice(self.cloud, notice)

    async def record(self, name: str) -> UploadRecord:
        found = await self.outside.state.uploads.get(name)
        assert found is not None, name
        return found

    async def told_of(self, name: str) -> UploadRecord:
        """An upload as the status API tells of it."""
        [record] = await with_reasons(self.outside.state, [await self.record(name)], self.storage.clock())
        return record

    async def tags(self, name: str) -> dict[str, str]:
        return await self.outside.uploads.tags(name) or {}

    async def metadata(self, name: str) -> dict[str, str]:
        return dict(some(await self.outside.uploads.version(name)).metadata)

    async def row(self, host: str, *, role: str = ANY_ROLE, port: int = 443) -> DesiredBinding:
        found = await self.outside.state.bindings.get(BindingKey(role=role, host=host, port=port))
        assert found is not None, host
        return found

    async def join(self, *names: str, role: str = ANY_ROLE) -> None:
        """Register instances."""
        for name in names:
            await self.outside.queues.create(queue_of(name))
            record = registered(name, role=role, at=self.storage.clock())
            await self.outside.state.instances.update(name, lambda _, row=record: row)  # type: ignore[misc]

    async def beat(self, *names: str, stopped: bool = False) -> None:
        """Heartbeats; written even where nothing changed, as a heartbeat is."""
        for name in names:
            await self.outside.state.instances.update(
                name,
                lambda known: replace(known, last_seen=self.storage.clock(), stopped=stopped) if known else None,
            )

    async def told(self, name: str) -> list[BindingKey]:
        """The rows an instance was told of since it last asked."""
        queue = queue_of(name)
        messages = await self.outside.queues.receive(queue, limit=32, visibility_s=60)
        keys: list[BindingKey] = []
        for message in messages:
            keys += decode(BindingsChanged, message.body or "").bindings
            await self.outside.queues.done(queue, message)
        return keys

    async def obey(self, *names: str, outcome: InstallOutcome | None = None, reason: str = "") -> None:
        """Have instances take their messages and report what they did; the reports lie on the queue."""
        for name in names:
            keys = {(key.host, key.port) for key in await self.told(name)}
            known = some(await self.outside.state.instances.get(name))
            desired = await desired_of(self.outside.state, known.role, keys, of=10_000)
            await self.report(name, desired.rows.values(), outcome=outcome, reason=reason)

    async def report(
        self,
        name: str,
        rows: Iterable[DesiredBinding],
        *,
        outcome: InstallOutcome | None = None,
        reason: str = "",
    ) -> InstallReport:
        """Put an instance's report about desired rows on the queue."""
        reports = [self.outcome_of(row, outcome, reason) for row in sorted(rows, key=lambda row: row.key)]
        report = InstallReport(instance=name, reports=tuple(reports))
        if reports:
            await self.outside.queues.send(RESULTS_QUEUE, encode(report))
        return report

    def outcome_of(self, row: DesiredBinding, outcome: InstallOutcome | None = None, reason: str = "") -> BindingReport:
        return report_on(row, at=self.storage.clock(), outcome=outcome, reason=reason)

    async def reports(self) -> Sequence[InstallReport]:
        """Take what lies on the results queue."""
        found = []
        while messages := await self.outside.queues.receive(RESULTS_QUEUE, limit=32, visibility_s=60):
            for message in messages:
                found.append(decode(InstallReport, message.body or ""))
                await self.outside.queues.done(RESULTS_QUEUE, message)
        return found

    async def fold(self) -> None:
        """Fold in every report that lies on the queue."""
        for report in await self.reports():
            await fold(self.cloud, report)

    async def everyone_obeys(self, *names: str, outcome: InstallOutcome | None = None, reason: str = "") -> None:
        await self.obey(*names, outcome=outcome, reason=reason)
        await self.fold()

    async def proves(
        self, name: str, host: str, *, role: str = ANY_ROLE, outcome: InstallOutcome | None = None
    ) -> None:
        """Have an instance report on a host as the row is now, told or not, and fold it in."""
        await self.report(name, [await self.row(host, role=role)], outcome=outcome)
        await self.fold()

    async def rechecks(self) -> list[tuple[float, RecheckUpload]]:
        """The looks asked for, and in how many seconds each is due."""
        now = self.storage.clock()
        waiting = sorted(self.storage.queues[RECHECK_QUEUE].values(), key=lambda message: message.visible_at)
        return [((each.visible_at - now).total_seconds(), decode(RecheckUpload, each.body or "")) for each in waiting]

    async def recheck_due(self) -> list[str]:
        """Do the looks whose time has come."""
        names = []
        for message in await self.outside.queues.receive(RECHECK_QUEUE, limit=32, visibility_s=60):
            asked = decode(RecheckUpload, message.body or "")
            await recheck(self.cloud, asked)
            await self.outside.queues.done(RECHECK_QUEUE, message)
            names.append(asked.name)
        return names
