"""The rows of many tenants, as those who look at them read them: most uploads are live, and some are otherwise.

They are rows alone, without blobs, so that no sweep may run beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from _population import entity, write
from azure.data.tables.aio import TableServiceClient

from shared.binding import ANY_ROLE, BindingKey, BindingState, Claim, DesiredBinding
from shared.messages import InstallOutcome
from shared.state.keys import binding_key, installation_key, instance_key, upload_key
from shared.state.reasons import ANOTHER
from shared.state.records import (
    BEHIND,
    BINDINGS_TABLE,
    INSTALLATIONS_TABLE,
    INSTANCES_TABLE,
    UPLOADS_TABLE,
    InstallationRecord,
    InstanceRecord,
    UploadRecord,
    UploadStatus,
)
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_ENDS = 3
_OTHERWISE: Mapping[int, Callable[[UploadRecord], dict[str, Any]]] = {
    0: lambda _: {
        "status": UploadStatus.REJECTED,
        "violations": (Violation(code=VerdictCode.EXPIRED, detail="it ended on 2026-01-31 12:00 UTC"),),
        "claims": (),
        "live": 0,
        "total": 0,
        "live_at": None,
    },
    1: lambda _: {"status": UploadStatus.SUPERSEDED, "live": 0, "total": 0, "live_at": None, "reason": ANOTHER},
    2: lambda record: {
        "status": UploadStatus.PARTIALLY_LIVE,
        "live": record.live - 1,
        "apart": {record.expected[-1]: BEHIND},
        "reason": f"instance {record.expected[-1]}, {record.hosts[0]}: the disk is full",
        "live_at": None,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Uploads of which most are live, and a few of everything else, on instances that all run.

    Attributes:
        connection_string: The account's.
        uploads: How many.
        instances: Ids of the instances.
        now: When all were proved.
    """

    connection_string: str = field(repr=False)
    uploads: int
    instances: Sequence[str]
    now: datetime

    async def write(self, *, reported: int) -> None:
        """Write all rows; reports on the first uploads alone: there would be as many as uploads times instances."""
        records = [self.record(number) for number in range(self.uploads)]
        won = [record for record in records if record.status is UploadStatus.SUPERSEDED]
        async with TableServiceClient.from_connection_string(self.connection_string) as service:
            table = service.get_table_client(UPLOADS_TABLE)
            await write(table, [entity(upload_key(record.name), record) for record in records])
            table = service.get_table_client(BINDINGS_TABLE)
            await write(table, [entity(binding_key(record.claims[0]), self._row(record)) for record in won])
            table = service.get_table_client(INSTALLATIONS_TABLE)
            for record in records[:reported]:
                await write(table, self._reports(record))
        await self.beat(self.now)

    async def beat(self, now: datetime) -> None:
        """Heartbeats of all instances."""
        rows = [self._instance(name, now) for name in self.instances]
        async with TableServiceClient.from_connection_string(self.connection_string) as service:
            table = service.get_table_client(INSTANCES_TABLE)
            await write(table, [entity(instance_key(row.id), row) for row in rows])

    async def renew(self, number: int, now: datetime) -> None:
        """Have one upload become live once more."""
        record = replace(self.record(number), live_at=now, uploaded_at=now, counted_from=now)
        async with TableServiceClient.from_connection_string(self.connection_string) as service:
            table = service.get_table_client(UPLOADS_TABLE)
            await table.upsert_entity(entity(upload_key(record.name), record))

    def record(self, number: int) -> UploadRecord:
        """One upload: of every hundred one is rejected, one superseded, one partially live, and one ends soon."""
        name, host = f"tenants/{number % 97:02}/shop-{number:05}.pfx", f"shop-{number:05}.tenant.example"
        print_ = hashlib.sha256(name.encode()).hexdigest()
        live = len(self.instances)
        record = UploadRecord(
            name=name,
            revision=3,
            status=UploadStatus.LIVE,
            etag="0x8DC0000000000",
            source_etag="0x8DB0000000000",
            hosts=(host,),
            subject=f"CN={host}",
            issuer="CN=Example TLS Issuing CA 3,O=Example Trust,C=DE",
            dns_names=(host,),
            chain=(f"CN={host}", "CN=Example TLS Issuing CA 3,O=Example Trust,C=DE"),
            fingerprint_sha256=print_,
            thumbprint_sha1=print_[:40],
            not_before=self.now - timedelta(days=30),
            not_after=self.now + timedelta(days=5 if number % 100 == _ENDS else 60 + number % 30),
            bundle_id=f"{print_}/{print_}",
            claims=(BindingKey(role=ANY_ROLE, host=host, port=443),),
            expected=tuple(self.instances),
            live=live,
            total=live,
            won=1,
            uploaded_at=self.now,
            counted_from=self.now,
            noticed_at=self.now,
            judged_at=self.now,
            fanned_out_at=self.now,
            live_at=self.now + timedelta(seconds=1),
            announced="live",
        )
        return replace(record, **_OTHERWISE[number % 100](record)) if number % 100 in _OTHERWISE else record

    def _row(self, record: UploadRecord) -> DesiredBinding:
        """The desired row of an upload that another one is served in place of."""
        mine = Claim(
            source=record.name,
            revision=record.revision,
            source_etag=record.source_etag,
            bundle_id=record.bundle_id,
            fingerprint_sha256=record.fingerprint_sha256,
            thumbprint_sha1=record.thumbprint_sha1,
            not_before=self.now - timedelta(days=30),
            not_after=self.now + timedelta(days=60),
            uploaded_at=self.now,
        )
        winner = replace(mine, source=f"{record.name}-newer.pfx", not_before=self.now - timedelta(days=1))
        [key] = record.claims
        return DesiredBinding(
            role=key.role,
            host=key.host,
            port=key.port,
            state=BindingState.PRESENT,
            generation=2,
            changed_at=self.now,
            claims=(mine, winner),
            bundle_id=winner.bundle_id,
            fingerprint_sha256=winner.fingerprint_sha256,
            thumbprint_sha1=winner.thumbprint_sha1,
            source=winner.source,
            source_etag=winner.source_etag,
            not_after=winner.not_after,
        )

    def _reports(self, record: UploadRecord) -> list[dict[str, Any]]:
        reports = [
            InstallationRecord(
                host=record.hosts[0],
                port=record.port,
                instance=name,
                role=ANY_ROLE,
                generation=1,
                source=record.name,
                outcome=InstallOutcome.LIVE,
                finished_at=self.now,
                reported_at=self.now,
                fingerprint_sha256=record.fingerprint_sha256,
                stages_ms={"fetch": 12.0, "store": 4.0, "bind": 30.0, "probe": 9.0},
            )
            for name in self.instances
        ]
        return [entity(installation_key((each.host, each.port, each.instance)), each) for each in reports]

    def _instance(self, name: str, now: datetime) -> InstanceRecord:
        return InstanceRecord(
            id=name,
            role=ANY_ROLE,
            host=name,
            target_kind="nginx",
            target_version="1.28.0",
            agent_version="0.1.0",
            session=name,
            started_at=self.now - timedelta(days=3),
            last_seen=now,
            bindings=self.uploads,
            ready=True,
        )
