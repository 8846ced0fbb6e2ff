"""What an upload waits for, and since when, as its row tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from shared.state.records import UploadRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is waited for.

    Attributes:
        what: A phrase, such as `proof from 2 of 3 instances`.
        since: None where that is not known.
    """

    what: str
    since: datetime | None


def waiting_for(record: UploadRecord) -> Waiting | None:
    """What an upload's status, or a newer version of it, waits for; None for nothing."""
    if record.held_up:
        newer = "" if record.status is UploadStatus.RECEIVED else " at the version uploaded since"
        return Waiting(what=f"another look{newer}, after this one: {record.held_up}", since=record.held_up_since)
    what, since = "", record.fanned_out_at
    match record.status:
        case UploadStatus.RECEIVED:
            what = "the look at it that has begun; if that ended with its process, for the next sweep"
            since = record.held_up_since
        case UploadStatus.WAITING_FOR_METADATA:
            what, since = "CertificatePassword in its metadata", record.judged_at
        case UploadStatus.SCHEDULED if record.not_before is not None:
            what, since = f"{record.not_before:%Y-%m-%d %H:%M} UTC, when it becomes valid", record.judged_at
        case UploadStatus.ACCEPTED:
            what = _proofs(record)
        case UploadStatus.REMOVED if record.live:
            what = f"{_instances(record.live)} to show that it is served no more"
        case _:
            pass
    return Waiting(what=what, since=since) if what else None


def _proofs(record: UploadRecord) -> str:
    if record.total:
        return f"proof from {record.total - record.live} of {_instances(record.total)}"
    return "an instance that runs" if record.role == ANY_ROLE else f"an instance of role {record.role} that runs"


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"
