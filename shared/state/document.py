"""The status document of `certcast status --json` and of the status API, made of rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from shared.codec import instant_text
from shared.phrasing import day
from shared.state.records import UploadStatus, is_awaited
from shared.state.waiting import waiting_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.state.records import InstallationRecord, InstanceRecord, UploadRecord
    from shared.state.rows import Versioned

Document = dict[str, Any]
"""JSON, as it is written."""


def status_document(
    uploads: Iterable[UploadRecord],
    instances: Iterable[Versioned[InstanceRecord]],
    *,
    now: datetime,
    removed: bool = False,
) -> Document:
    """Put uploads and instances into one document, each sorted by name.

    Args:
        uploads: The uploads to show.
        instances: The instances to show.
        now: The time by which an instance is alive or silent.
        removed: Whether to show also those uploads that are gone and served nowhere any more.
    """
    shown = (record for record in uploads if removed or not is_gone(record))
    return {
        "uploads": [upload_document(record) for record in sorted(shown, key=lambda record: record.name)],
        "instances": [
            instance_document(known, now=now) for known in sorted(instances, key=lambda known: known.value.id)
        ],
    }


def is_gone(record: UploadRecord) -> bool:
    """Whether an upload was removed and no instance serves it any more."""
    return record.status is UploadStatus.REMOVED and record.live == 0


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
    }


def _waiting(record: UploadRecord) -> Document | None:
    found = waiting_for(record)
    return None if found is None else {"what": found.what, "since": _instant(found.since)}


def _events_waiting(record: UploadRecord) -> Document | None:
    return {"count": len(record.due), "since": _instant(record.due[0].at)} if record.due else None


def instance_document(known: Versioned[InstanceRecord], *, now: datetime) -> Document:
    """Describe one instance; `alive` is whether it stopped neither cleanly nor silently."""
    record = known.value
    return {
        "id": record.id,
        "asked_id": record.asked_id or None,
        "role": record.role,
        "host": record.host,
        "target": record.target_kind,
        "target_version": record.target_version,
        "agent_version": record.agent_version,
        "ready": record.ready,
        "alive": is_awaited(known, now),
        "stopped": record.stopped,
        "trouble": record.trouble or None,
        "bindings": record.bindings,
        "failing": record.failing,
        "started_at": _instant(record.started_at),
        "last_seen": _instant(record.last_seen),
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
        "reason": record.reason,
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
