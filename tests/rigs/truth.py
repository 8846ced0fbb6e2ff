"""What must be true of a platform once the dust has settled, worked out from the container alone."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, Claim, DesiredBinding
from shared.state.reasons import as_told
from shared.state.records import UploadRecord, UploadStatus
from shared.state.tags import status_tags
from shared.verdict import VerdictCode
from tests.fakes.storage import START
from tests.rigs.scenes import PASSWORD

if TYPE_CHECKING:
    from shared.state.history import HistoryEntry
    from tests.fakes.storage import Blob
    from tests.rigs.simulation import Certificate, Machine, Simulation


class Verdict(Enum):
    """What an uploader may expect."""

    SERVED = "served"
    SCHEDULED = "scheduled"
    REJECTED = "rejected"
    WAITING = "waiting"


def verdict(simulation: Simulation, blob: Blob, certificate: Certificate) -> Verdict:
    """Judge an upload as its uploader would."""
    password = blob.metadata.get("CertificatePassword")
    marker = blob.metadata.get("certcast_bundle", "")
    sealed = marker == certificate.bundle_id and marker in simulation.storage.bundles
    if password is None and not sealed:
        return Verdict.WAITING
    if password not in {None, PASSWORD}:
        return Verdict.REJECTED
    if not set(hosts_of(blob, certificate)) <= set(certificate.hosts):
        return Verdict.REJECTED
    valid_from = START.replace(microsecond=0) - timedelta(hours=1) + timedelta(days=certificate.day)
    return Verdict.SCHEDULED if simulation.storage.clock() < valid_from else Verdict.SERVED


def hosts_of(blob: Blob, certificate: Certificate) -> tuple[str, ...]:
    named = tuple(host for host in blob.metadata.get("HostHeader", "").split(",") if host)
    return named or certificate.hosts


SWEPT_WITHIN = timedelta(minutes=3)


def _first_of(claims: list[Claim], now: datetime) -> Claim:
    """Who is to be served: the newest of those that last for ten minutes, else the one that ends last."""
    lasting = [claim for claim in claims if claim.not_after - now > timedelta(minutes=10)]
    if lasting:
        return max(lasting, key=lambda claim: (claim.not_before, claim.uploaded_at, claim.source))
    return max(claims, key=lambda claim: (claim.not_after, claim.not_before, claim.uploaded_at, claim.source))


class Truth:
    """The platform as it is, and what is wrong with it.

    Args:
        simulation: Where the dust has settled.
        records: The uploads' rows.
        rows: The desired rows.
        entries: The history's.
    """

    def __init__(
        self,
        simulation: Simulation,
        records: list[UploadRecord],
        rows: list[DesiredBinding],
        entries: list[HistoryEntry],
    ) -> None:
        self.simulation = simulation
        self.records = {record.name: record for record in records}
        self.rows = rows
        self.entries = entries
        self.certificates = {
            hashlib.sha256(each.content).hexdigest(): each for many in simulation.uploaded.values() for each in many
        }

    def hold(self) -> None:
        """Assert everything."""
        assert not self.simulation.surprises
        for name in self.simulation.uploaded:
            self._upload(name)
        self._history()
        for row in self.rows:
            self._row(row)
        for machine in self.simulation.machines:
            if machine.running:
                self._machine(machine)

    def _history(self) -> None:
        """What became of each upload stands in the table once, under the ids of the events that were sent of it."""
        ids = [entry.id for entry in self.entries]
        assert len(ids) == len(set(ids)), "an entry stands in the history twice"
        told = {entry.id for entry in self.entries if entry.kind.event_type is not None}
        assert told == {event.event_id for event in self.simulation.storage.published}
        for name, record in self.records.items():
            assert (record.past, record.due) == ((), ()), f"{name}: what became of it waits to be written or sent"
            if record.status is not UploadStatus.WAITING_FOR_METADATA:
                mine = {(entry.kind.value, entry.version) for entry in self.entries if entry.name == name}
                kinds = {"accepted", "renewed"} if record.status is UploadStatus.ACCEPTED else {record.status.value}
                assert mine & {(kind, record.source_etag) for kind in kinds}, (name, record.status, mine)

    def _certificate(self, name: str) -> Certificate:
        return self.certificates[hashlib.sha256(self.simulation.storage.uploads[name].content).hexdigest()]

    def _standing(self, name: str) -> dict[tuple[str, str], str]:
        """The bundles by which an upload claims hosts of roles."""
        return {
            (row.role, row.host): claim.bundle_id
            for row in self.rows
            for claim in row.claims
            if claim.source == name and claim.withdrawn_at is None
        }

    def _upload(self, name: str) -> None:
        blob = self.simulation.storage.uploads.get(name)
        record = self.records.get(name)
        if blob is None:
            assert self._standing(name) == {}, f"{name} is gone and claims hosts"
            if record is not None:
                assert (record.status, record.etag) == (UploadStatus.REMOVED, "deleted"), name
                assert record.live == 0, f"{name} is gone and said to be served by {record.live}"
            return
        assert record is not None, f"{name} was never noticed"
        assert record.etag == blob.etag, f"{name} is not done with"
        certificate = self._certificate(name)
        said = verdict(self.simulation, blob, certificate)
        ended = certificate.ends <= self.simulation.storage.clock()
        if ended and said is Verdict.SERVED and any(v.code is VerdictCode.EXPIRED for v in record.violations):
            said = Verdict.REJECTED  # it was looked at, or looked at again, when it was over
        assert blob.tags == status_tags(record), name
        if said is Verdict.SERVED:
            role = blob.metadata.get("Role", ANY_ROLE)
            wanted = {(role, host): certificate.bundle_id for host in hosts_of(blob, certificate)}
            assert self._standing(name) == wanted, name
            self._status(record)
            self._told(record)
        else:
            expected = {
                Verdict.SCHEDULED: UploadStatus.SCHEDULED,
                Verdict.REJECTED: UploadStatus.REJECTED,
                Verdict.WAITING: UploadStatus.WAITING_FOR_METADATA,
            }
            assert record.status is expected[said], name
            earlier = {each.bundle_id for each in self.simulation.uploaded[name]}
            assert set(self._standing(name).values()) <= earlier, name
        if said in {Verdict.SERVED, Verdict.SCHEDULED}:
            assert "CertificatePassword" not in blob.metadata, name

    def _status(self, record: UploadRecord) -> None:
        won = [row for row in self.rows if row.source == record.name]
        if not won:
            assert record.status is UploadStatus.SUPERSEDED, record.name
            return
        assert record.status is not UploadStatus.SUPERSEDED, f"{record.name} is served and said to be superseded"
        obeying = [machine for machine in self.simulation.machines if machine.running and self._obeys(machine, won)]
        if obeying:
            assert record.status is UploadStatus.LIVE, (record.name, record.status, record.reason)
            # A machine whose agent is not running may still serve what it was told to before.
            others = sum(machine.starts > 0 and not machine.running for machine in self.simulation.machines)
            counted = range(len(obeying), len(obeying) + others + 1)
            assert record.live == record.total, (record.name, record.live, record.total)
            assert record.live in counted, (record.name, record.live, len(obeying), others)

    def _obeys(self, machine: Machine, rows: list[DesiredBinding]) -> bool:
        return any(self._effective(machine).get(row.host) is row for row in rows)

    def _row(self, row: DesiredBinding) -> None:
        standing = [claim for claim in row.claims if claim.withdrawn_at is None]
        if not standing:
            assert not row.present, row.key
            return
        (winner,) = [claim for claim in standing if claim.source == row.source]
        # One whose last ten minutes began after the last sweep may be in place still, or not any more.
        now = self.simulation.storage.clock()
        rightful = {_first_of(standing, at).source for at in (now, now - SWEPT_WITHIN)}
        assert winner.source in rightful, f"{row.key.host_port} is served from {winner.source}, and not from {rightful}"
        assert row.bundle_id == winner.bundle_id
        assert row.bundle_id in self.simulation.storage.bundles, f"the bundle of {row.key.host_port} is gone"

    def _told(self, record: UploadRecord) -> None:
        """What is read of a superseded upload names those that are served in its place, and no other."""
        if record.status is not UploadStatus.SUPERSEDED:
            return
        rows = {row.key: row for row in self.rows}
        told = as_told(record, rows, self.simulation.storage.clock())
        winners = {rows[key].source for key in record.claims}
        for name in self.simulation.uploaded:
            assert (name in told.reason) is (name in winners), (record.name, told.reason, winners)
            assert name not in record.reason, record.name

    def _effective(self, machine: Machine) -> dict[str, DesiredBinding]:
        everyone = {row.host: row for row in self.rows if row.present and row.role == ANY_ROLE}
        return everyone | {row.host: row for row in self.rows if row.present and row.role == machine.role}

    def _machine(self, machine: Machine) -> None:
        wanted = {host: row.bundle_id for host, row in self._effective(machine).items()}
        has = {host: binding.bundle_id for (host, _), binding in machine.server.bound.items()}
        if not self.rows:
            return  # of an empty table nothing is removed
        assert has == wanted, f"{machine.name} does not serve what is desired"
