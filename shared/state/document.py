"""The status document of `certcast status --json` and of the status API, made of rows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.codec import instant_text
from shared.phrasing import day
from shared.state.missing import served_by_each
from shared.state.presence import Presence, presence_of
from shared.state.records import UploadStatus
from shared.state.waiting import waiting_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord
    from shared.state.rows import Versioned

Document = dict[str, Any]
"""JSON, as it is written."""


def status_document(
    uploads: Sequence[UploadRecord],
    instances: Sequence[Versioned[InstanceRecord]],
    *,
    now: datetime,
    asked_for: bool = False,
) -> Document:
    """Put uploads and instances into one document, each sorted by name.

    Args:
        uploads: The uploads to show, as they are told.
        instances: The instances to show.
        now: The time by which an instance is alive or silent.
        asked_for: Whether this is one upload that was asked for, to be shown also when it is gone; else these are all.
    """
    shown = [record for record in uploads if asked_for or is_listed(record)]
    current = counted_since(uploads, instances, now, whole=not asked_for)
    return {
        "as_of": _instant(now),
        "uploads": [upload_document(record) for record in sorted(shown, key=lambda record: record.name)],
        "instances": [instance_document(known, now=now) for known in sorted(current, key=lambda known: known.value.id)],
    }


def counted_since(
    uploads: Sequence[UploadRecord], instances: Sequence[Versioned[InstanceRecord]], now: datetime, *, whole: bool
) -> Sequence[Versioned[InstanceRecord]]:
    """The instances; what one serves is counted by the uploads where these changed after its last heartbeat.

    Args:
        uploads: All of them, or some.
        instances: Their rows.
        now: The time.
        whole: Whether these are all uploads, so that a heartbeat may have counted too many, too.
    """
    changes = [at for record in uploads for at in (record.fanned_out_at, record.live_at) if at is not None]
    changed_at = max(changes, default=None)
    if any(record.status is UploadStatus.ACCEPTED and record.live for record in uploads):
        changed_at = now  # some have proved it, which no moment tells of
    if changed_at is None or all(known.written_at > changed_at for known in instances):
        return instances
    served, tells_all = served_by_each(uploads)

    def counted(known: Versioned[InstanceRecord]) -> Versioned[InstanceRecord]:
        if presence_of(known, now) is not Presence.RUNNING or known.written_at > changed_at:
            return known
        row, found = known.value, served[known.value.id]
        return replace(known, value=replace(row, bindings=found if whole and tells_all else max(found, row.bindings)))

    return [counted(known) for known in instances]


def is_gone(record: UploadRecord) -> bool:
    """Whether an upload was removed and no instance serves it any more."""
    return record.status is UploadStatus.REMOVED and record.live == 0


def is_listed(record: UploadRecord) -> bool:
    """Whether an upload is shown unasked: until it is gone, and nothing is left to say of one that may serve it."""
    return not is_gone(record) or bool(record.reason)


def upload_document(record: UploadRecord) -> Document:
    """Describe one upload; `live` of `expected` instances prove all of it (for a removed one: serve it still)."""
    return {
        "name": record.name,
        "status": record.status.value,
        "reason": record.reason,
        "violations": [violation.to_json() for violation in record.violations],
        "warnings": [warning.to_json() for warning in record.warnings],
        "waiting_for": _waiting(record),
        "events_waiting": _events_waiting(record),
        "password_left": record.password_left or None,
        "tags_refused": record.tags_refused or None,
        "hosts": list(record.hosts),
        "port": record.port,
        "role": record.role,
        "site": record.site,
        "default": record.default,
        "live": record.live,
        "expected": record.total,
        "missing": list(record.missing),
        "seconds_to_live": record.seconds_to_live,
        "subject": record.subject or None,
        "issuer": record.issuer or None,
        "chain": list(record.chain),
        "not_before": _second(record.not_before),
        "not_after": _second(record.not_after),
        "fingerprint_sha256": record.fingerprint_sha256 or None,
        "thumbprint_sha1": record.thumbprint_sha1 or None,
        "uploaded_at": _instant(record.uploaded_at),
        "live_at": _instant(record.live_at),
        "drifted_at": _instant(record.drifted_at),
    }


def _waiting(record: UploadRecord) -> Document | None:
    found = waiting_for(record)
    return None if found is None else {"what": found.what, "since": _instant(found.since)}


def _events_waiting(record: UploadRecord) -> Document | None:
    return {"count": len(record.due), "since": _instant(record.due[0].at)} if record.due else None


def instance_document(known: Versioned[InstanceRecord], *, now: datetime) -> Document:
    """Describe one instance; it is `alive` when its `state` is `running`. `last_seen` is by the service's clock."""
    record, presence = known.value, presence_of(known, now)
    return {
        "id": record.id,
        "asked_id": record.asked_id or None,
        "role": record.role,
        "host": record.host,
        "target": record.target_kind,
        "target_version": record.target_version,
        "agent_version": record.agent_version,
        "ready": record.ready,
        "state": presence.value,
        "alive": presence is Presence.RUNNING,
        "stopped": record.stopped,
        "trouble": record.trouble or None,
        "bindings": record.bindings,
        "failing": record.failing,
        "started_at": _instant(record.started_at),
        "last_seen": _instant(min(known.written_at, now)),
    }


def installation_document(record: InstallationRecord) -> Document:
    """Describe what one instance last reported about one host and port."""
    return {
        "host": record.host,
        "port": record.port,
        "instance": record.instance,
        "source": record.source or None,
        "generation": record.generation,
        "outcome": record.outcome.value,
        "reason": record.told,
        "fingerprint_sha256": record.fingerprint_sha256 or None,
        "finished_at": _instant(record.finished_at),
        "drifted_at": _instant(record.drifted_at),
        "stages_ms": {stage: ms for stage, ms in record.stages_ms.items() if math.isfinite(ms)},
    }


def _instant(value: datetime | None) -> str | None:
    return None if value is None else instant_text(value)


def _second(value: datetime | None) -> str | None:
    """Certificates have no fractions of a second."""
    return None if value is None else day(value)
