"""The way of one upload as moments in order: from its row, from what each instance reported, and from its history."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.binding import phrased
from shared.codec import instant_text
from shared.messages import InstallOutcome
from shared.state.history import HistoryKind
from shared.state.records import UploadStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shared.state.history import HistoryEntry
    from shared.state.records import InstallationRecord, UploadRecord

_STAGES = ("uploaded", "noticed", "judged", "told")
"""Of one version, in the order in which they come; of one moment this is told first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment of an upload's way.

    Attributes:
        at: When; what an instance did, as the instance tells the time.
        stage: `uploaded`, `noticed`, `judged`, `told`, `installed`, another outcome of an instance, or the kind of an
            entry of the history, such as `live`, `renewed`, `drift_repaired`.
        instance: Where; empty for what concerns all.
        detail: What there is to say of it; text from outside stands in it as it came, cut and cleaned.
        took_ms: Milliseconds since the stage before, for `live` since the upload, for `installed` on the instance;
            None where that is not known.
    """

    at: datetime
    stage: str
    instance: str = ""
    detail: str = ""
    took_ms: float | None = None


def timeline(
    upload: UploadRecord | None, installations: Sequence[InstallationRecord], entries: Iterable[HistoryEntry]
) -> list[Moment]:
    """Put together what became of an upload and where, oldest first.

    Args:
        upload: Its row; entries that have yet to be written to the history are taken from it. None where it is gone.
        installations: What instances last reported on the rows that it claims.
        entries: Its entries in the history, in any order.
    """
    past = {entry.place: entry for entry in (*entries, *(upload.past if upload else ()))}
    found = [*_of_row(upload), *_of_instances(upload, installations)] if upload else []
    told = {(moment.at, moment.stage, moment.instance) for moment in found}
    found += [
        moment for moment in map(_of_entry, past.values()) if (moment.at, moment.stage, moment.instance) not in told
    ]
    return sorted(found, key=_order)


def _order(moment: Moment) -> tuple[datetime, int, str, str]:
    rank = _STAGES.index(moment.stage) if moment.stage in _STAGES else len(_STAGES)
    return (moment.at, rank, moment.stage, moment.instance)


def moment_document(moment: Moment) -> dict[str, Any]:
    """Describe a moment."""
    return {
        "at": instant_text(moment.at),
        "stage": moment.stage,
        "instance": moment.instance or None,
        "detail": moment.detail,
        "took_ms": moment.took_ms,
    }


def _of_row(upload: UploadRecord) -> Iterator[Moment]:
    """The stages of the version that was judged last."""
    before: datetime | None = None
    details = {
        "uploaded": f"version {upload.source_etag}" if upload.source_etag else "",
        "judged": upload.status.value if upload.status in _BY_VERDICT else "",
        "told": f"{len(upload.expected)} instance(s){_of_what(upload)}",
    }
    moments = (upload.uploaded_at, upload.noticed_at, upload.judged_at, _told_at(upload))
    for stage, at in zip(_STAGES, moments, strict=True):
        if at is not None:
            took_ms = None if before is None or (stage == "told" and _of_what(upload)) else _ms(at, before)
            yield Moment(at=at, stage=stage, detail=details.get(stage, ""), took_ms=took_ms)
            before = at
    if upload.live_at is not None and upload.status is UploadStatus.LIVE:
        seconds = upload.seconds_to_live
        took = None if seconds is None else seconds * 1_000
        detail = f"{upload.live}/{upload.total}"
        yield Moment(at=upload.live_at, stage=HistoryKind.LIVE.value, detail=detail, took_ms=took)


def _of_what(upload: UploadRecord) -> str:
    """Of what the instances were told last, where that is not the verdict: a removal, or what came about since."""
    if upload.status is UploadStatus.REMOVED:
        return ", of its removal"
    since = None if upload.counted_from is None or upload.judged_at is None else upload.counted_from - upload.judged_at
    return ", once more" if since is not None and since > timedelta() else ""


_BY_VERDICT = frozenset({UploadStatus.REJECTED, UploadStatus.WAITING_FOR_METADATA, UploadStatus.SCHEDULED})
"""Statuses that follow from the verdict alone: what instances were told is about the version before."""


def _told_at(upload: UploadRecord) -> datetime | None:
    return None if upload.status in _BY_VERDICT else upload.fanned_out_at


def _ms(at: datetime, before: datetime) -> float:
    return max(0.0, round((at - before).total_seconds() * 1_000, 3))


def _of_instances(upload: UploadRecord, installations: Sequence[InstallationRecord]) -> Iterator[Moment]:
    """What each instance did about the upload, told once for all hosts of which it says the same."""
    alike: dict[tuple[str, str, str], list[InstallationRecord]] = defaultdict(list)
    for report in installations:
        stage = _stage(upload, report)
        if stage:
            alike[report.instance, stage, report.reason].append(report)
    for (instance, stage, _), reports in alike.items():
        slowest = max(reports, key=_took_ms)
        yield Moment(
            at=max(report.finished_at for report in reports),
            stage=stage,
            instance=instance,
            detail=_said(reports, slowest),
            took_ms=_took_ms(slowest) if slowest.stages_ms else None,
        )
    for report in installations:
        if report.source == upload.name and report.drifted_at is not None:
            detail = f"{phrased(report.host, report.port)}: changed behind certcast's back, put right"
            yield Moment(
                at=report.drifted_at, stage=HistoryKind.DRIFT_REPAIRED.value, instance=report.instance, detail=detail
            )


def _stage(upload: UploadRecord, report: InstallationRecord) -> str:
    """What an instance's report is told as; empty where it is about another upload."""
    if report.source == upload.name:
        return "installed" if report.outcome is InstallOutcome.LIVE else report.outcome.value
    told = upload.fanned_out_at if upload.status is UploadStatus.REMOVED else None
    return "let_go" if told is not None and report.finished_at >= told else ""


def _took_ms(report: InstallationRecord) -> float:
    return round(sum(ms for ms in report.stages_ms.values() if math.isfinite(ms)), 3)


def _said(reports: Sequence[InstallationRecord], slowest: InstallationRecord) -> str:
    more = f" and {len(reports) - 1} more" if len(reports) > 1 else ""
    stages = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in sorted(slowest.stages_ms.items()) if math.isfinite(ms))
    told = "; ".join(filter(None, [stages, slowest.reason]))
    where = f"{phrased(slowest.host, slowest.port)}{more}"
    return f"{where}: {told}" if told else where


def _of_entry(entry: HistoryEntry) -> Moment:
    took_ms = None if entry.seconds is None else round(entry.seconds * 1_000, 3)
    certificate = f"certificate {entry.fingerprint_sha256[:16]}" if entry.fingerprint_sha256 else ""
    version = f"version {entry.version}" if entry.version else ""
    return Moment(
        at=entry.at,
        stage=entry.kind.value,
        instance=entry.instance,
        detail="; ".join(filter(None, [entry.reason, version, certificate])),
        took_ms=took_ms,
    )
