"""A platform with a dozen tenants, as rows: most are served, and of each trouble there is one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha1, sha256

from shared.binding import ANY_ROLE, BindingKey
from shared.messages import InstallOutcome
from shared.state.history import HistoryEntry, HistoryKind
from shared.state.missing import Roll
from shared.state.records import BEHIND, InstallationRecord, InstanceRecord, UploadRecord, UploadStatus
from shared.state.rows import Versioned
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

NOW = datetime(2026, 3, 9, 12, 0, 3, tzinfo=UTC)
INSTANCES = tuple(f"web-{number}" for number in range(6))
SILENT = "web-4"
TROUBLED = "web-2"
_AUTHORITY = "CN=Example TLS Issuing CA 3,O=Example Trust,C=DE"

_LIVE = (
    ("alpenrad/shop.pfx", ("www.alpenrad.example", "alpenrad.example"), 61.4, 1.3),
    ("baeckerei-huber/www.pfx", ("www.baeckerei-huber.example",), 83.2, 1.1),
    ("city-tickets/wildcard.pfx", ("*.city-tickets.example", "city-tickets.example"), 44.2, 1.6),
    ("fahrschule-nord/portal.pfx", ("portal.fahrschule-nord.example",), 9.5, 1.2),
    ("gartenbau-lenz/www.pfx", ("www.gartenbau-lenz.example",), 57.1, 1.2),
    ("hafenkontor/api.pfx", ("api.hafenkontor.example", "status.hafenkontor.example"), 72.8, 1.9),
    ("kino-am-markt/kino.pfx", ("kino-am-markt.example",), 35.9, 1.0),
    ("musikhaus/shop-2026.pfx", ("shop.musikhaus.example",), 79.3, 1.4),
    ("praxis-dr-weiss/termine.pfx", ("termine.praxis-weiss.example",), 66.6, 1.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """What the tables hold."""

    uploads: Sequence[UploadRecord]
    instances: Mapping[str, Versioned[InstanceRecord]]
    installations: Sequence[InstallationRecord]
    history: Sequence[HistoryEntry]

    def installations_of(self, name: str) -> list[InstallationRecord]:
        """The reports about one upload."""
        return [each for each in self.installations if each.source == name]


def tenants(now: datetime = NOW) -> Tenants:
    """The platform as of a moment."""
    instances = {name: _instance(name, number, now) for number, name in enumerate(INSTANCES)}
    records = list(_uploads(now))
    return Tenants(
        uploads=[Roll(instances, now).as_seen(record) for record in records],
        instances=instances,
        installations=[report for record in records for report in _reports(record)],
        history=sorted((entry for record in records for entry in _past(record)), key=lambda each: each.at)[::-1],
    )


def _instance(name: str, number: int, now: datetime) -> Versioned[InstanceRecord]:
    silent_for = timedelta(minutes=12) if name == SILENT else timedelta(seconds=3 + 4 * number)
    record = InstanceRecord(
        id=name,
        role="web",
        host=f"10.1.0.{4 + number}",
        target_kind="nginx",
        target_version="1.26.3",
        agent_version="0.2.0",
        session="s",
        started_at=now - timedelta(days=6),
        last_seen=now - silent_for,
        bindings=13 if name == TROUBLED else 14,
        failing=1 if name == TROUBLED else 0,
        ready=True,
    )
    return Versioned(value=record, etag="1", written_at=now - silent_for)


def live(name: str, hosts: Sequence[str], *, days_left: float, seconds: float, now: datetime = NOW) -> UploadRecord:
    """An upload that every instance serves."""
    ends = (now + timedelta(days=days_left)).replace(microsecond=0)
    uploaded = ends - timedelta(days=89)
    return UploadRecord(
        name=name,
        revision=1,
        status=UploadStatus.LIVE,
        etag="0x8DE2",
        source_etag="0x8DE1",
        hosts=tuple(hosts),
        dns_names=tuple(hosts),
        subject=f"CN={hosts[0]}",
        issuer=_AUTHORITY,
        chain=(f"CN={hosts[0]}", _AUTHORITY),
        fingerprint_sha256=sha256(name.encode()).hexdigest(),
        thumbprint_sha1=sha1(name.encode()).hexdigest().upper(),  # noqa: S324 - what Windows calls a certificate by
        not_before=ends - timedelta(days=90),
        not_after=ends,
        claims=tuple(BindingKey(role=ANY_ROLE, host=host, port=443) for host in hosts),
        expected=INSTANCES,
        won=len(hosts),
        live=len(INSTANCES),
        total=len(INSTANCES),
        uploaded_at=uploaded,
        counted_from=uploaded,
        noticed_at=uploaded + timedelta(seconds=0.21),
        judged_at=uploaded + timedelta(seconds=0.34),
        fanned_out_at=uploaded + timedelta(seconds=0.46),
        live_at=uploaded + timedelta(seconds=seconds),
    )


def _uploads(now: datetime) -> Iterator[UploadRecord]:
    for name, hosts, days_left, seconds in _LIVE:
        yield live(name, hosts, days_left=days_left, seconds=seconds, now=now)
    partly = live("optik-sander/www.pfx", ["www.optik-sander.example"], days_left=88.9, seconds=2, now=now)
    yield replace(
        partly,
        status=UploadStatus.PARTIALLY_LIVE,
        live=len(INSTANCES) - 1,
        live_at=None,
        apart={TROUBLED: BEHIND},
        reason=f"instance {TROUBLED}, www.optik-sander.example:443: nginx -t failed: conflicting server name on"
        " 0.0.0.0:443 in /etc/nginx/sites-enabled/optik",
    )
    rejected = live("reisebuero-ost/new.pfx", ["www.reisebuero-ost.example"], days_left=364.3, seconds=1, now=now)
    yield replace(
        rejected,
        status=UploadStatus.REJECTED,
        hosts=("www.reisebuero-ost.example", "buchung.reisebuero-ost.example"),
        uploaded_at=now - timedelta(minutes=4),
        judged_at=now - timedelta(minutes=4) + timedelta(seconds=0.4),
        noticed_at=now - timedelta(minutes=4) + timedelta(seconds=0.2),
        fanned_out_at=None,
        live_at=None,
        chain=(),
        claims=(),
        expected=(),
        live=0,
        total=0,
        violations=(
            Violation(
                code=VerdictCode.HOST_NOT_COVERED,
                detail="the certificate is for www.reisebuero-ost.example, and not for buchung.reisebuero-ost.example",
            ),
            Violation(
                code=VerdictCode.INCOMPLETE_CHAIN,
                detail=f"the issuer {_AUTHORITY} is neither in the file nor a trusted root",
            ),
        ),
        warnings=(
            Caution(
                code=WarningCode.UNKNOWN_METADATA,
                detail="metadata key 'HostHeaders' is not known; did you mean HostHeader?",
            ),
        ),
    )
    old = live("musikhaus/shop-2025.pfx", ["shop.musikhaus.example"], days_left=21.2, seconds=1.4, now=now)
    yield replace(
        old,
        status=UploadStatus.SUPERSEDED,
        live=0,
        total=0,
        won=0,
        live_at=None,
        expected=(),
        reason="another upload is served for shop.musikhaus.example: musikhaus/shop-2026.pfx, which is valid from a"
        " later day",
    )


def _reports(record: UploadRecord) -> Iterator[InstallationRecord]:
    if record.fanned_out_at is None or not record.total:
        return
    for number, instance in enumerate(INSTANCES):
        failed = record.apart.get(instance) == BEHIND
        done = record.fanned_out_at + timedelta(seconds=0.3 + 0.05 * number)
        for host in record.hosts:
            yield InstallationRecord(
                host=host,
                port=443,
                instance=instance,
                role=ANY_ROLE,
                generation=3,
                source=record.name,
                outcome=InstallOutcome.FAILED if failed else InstallOutcome.LIVE,
                finished_at=done,
                reported_at=done + timedelta(seconds=0.1),
                reason=record.reason.partition(": ")[2] if failed else "",
                fingerprint_sha256="" if failed else record.fingerprint_sha256,
                stages_ms={"fetch": 21.0 + number, "apply": 84.0 + 3 * number, "probe": 9.0},
            )


def _past(record: UploadRecord) -> Iterator[HistoryEntry]:
    if record.judged_at is None:
        return
    kind = HistoryKind.REJECTED if record.violations else HistoryKind.ACCEPTED
    yield _entry(record, kind, record.judged_at, 0.34)
    if record.live_at is not None:
        yield _entry(record, HistoryKind.LIVE, record.live_at, record.seconds_to_live)
    if record.apart and record.fanned_out_at is not None:
        yield _entry(record, HistoryKind.PARTIALLY_LIVE, record.fanned_out_at + timedelta(seconds=2.1), 2.6)


def _entry(record: UploadRecord, kind: HistoryKind, at: datetime, seconds: float | None) -> HistoryEntry:
    said = "; ".join(f"{each.code.value}: {each.detail}" for each in record.violations)
    return HistoryEntry(
        id=f"{kind.value} {record.name}"[:60],
        at=at,
        kind=kind,
        name=record.name,
        version=record.source_etag,
        hosts=record.hosts,
        subject=record.subject,
        fingerprint_sha256=record.fingerprint_sha256,
        not_after=record.not_after,
        seconds=seconds,
        reason="" if kind in {HistoryKind.LIVE, HistoryKind.ACCEPTED} else record.reason or said,
    )
