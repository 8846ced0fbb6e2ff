"""Why an upload is as it is, where that depends on others: which upload is served in its place, what stays in place.

What stands in an upload's row, and in its blob's tags, stays true without being written again while others come and go:
it names none of them. Who reads a row together with the desired rows is told who is served now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.phrasing import listed
from shared.state.records import SETTLEABLE, UploadRecord, UploadStatus
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from shared.binding import BindingKey, DesiredBinding

ANOTHER = "another upload is served"
"""What every stored reason about other uploads begins with."""

KEPT = frozenset({UploadStatus.REJECTED, UploadStatus.WAITING_FOR_METADATA})
"""Of an upload that stands so, the certificate that was accepted before may be in place."""


def depends_on_others(record: UploadRecord) -> bool:
    """Whether what is told of an upload depends on the desired rows that it claims."""
    about_others = record.status is UploadStatus.SUPERSEDED or record.reason.startswith(ANOTHER)
    return bool(record.claims) and (about_others or record.status in KEPT)


def as_told(record: UploadRecord, rows: Mapping[BindingKey, DesiredBinding], now: datetime) -> UploadRecord:
    """An upload's row with reasons that are true now, and name who is served in its place.

    Args:
        record: The row.
        rows: Desired rows. Where one that it claims is not among them, what stands in its row is told.
        now: The time, by which it has expired or not.
    """
    if not depends_on_others(record) or any(key not in rows for key in record.claims):
        return record
    mine = [rows[key] for key in record.claims]
    if record.status in KEPT:
        return replace(record, reason=reason_for_kept(record, mine, now))
    others = _lost(record.name, mine)
    # Version 0.1.0 wrote the notice down, and with it a name that may lie behind.
    violations = tuple(each for each in record.violations if each.code is not VerdictCode.OLDER_THAN_LIVE)
    notice = older_than_live(record, others, now)
    return replace(
        record,
        reason=_naming_winners(record, others, now),
        violations=violations if notice is None else (*violations, notice),
    )


def may_be_redeployed(record: UploadRecord) -> bool:
    """Whether an upload may be served, so that it can be installed once more; its desired rows have the last word."""
    return record.status in SETTLEABLE - {UploadStatus.SUPERSEDED, UploadStatus.REMOVED}


def nothing_to_redeploy(record: UploadRecord) -> str:
    """Why there is nothing of an upload to be installed once more: a sentence."""
    said = f"upload {record.name} is {record.status.value}"
    if record.status in KEPT and record.reason:
        return f"{said}, and what was accepted before under its name is not installed again: upload a good one"
    return f"{said} and serves no host, so there is nothing to install again"


def reason_for_superseded(record: UploadRecord, rows: Sequence[DesiredBinding], now: datetime) -> str:
    """Why none of an upload's hosts is served from it, as it stands in its row."""
    reason = f"{ANOTHER} for its hosts"
    if record.not_after is None:
        return reason
    if record.not_after <= now:
        return f"{reason}; this one's certificate expired on {_minute(record.not_after)}"
    if any(_is_outlived(record, row) for row in _lost(record.name, rows)):
        return f"{reason}; this one's certificate is valid until {_minute(record.not_after)}"
    return reason


def reason_for_some(name: str, rows: Sequence[DesiredBinding]) -> str:
    """Why some of an upload's hosts are not served from it, as it stands in its row; empty where all are."""
    lost = [row.key.phrased for row in _lost(name, rows)]
    return f"{ANOTHER} for {listed(lost)}" if lost else ""


def reason_for_kept(record: UploadRecord, rows: Iterable[DesiredBinding], now: datetime) -> str:
    """What is in place of an upload whose content was turned down, or waits; empty where nothing is."""
    kept = [row for row in rows if row.source == record.name and row.not_after is not None]
    if not kept:
        return ""
    codes = ", ".join(violation.code.value for violation in record.violations)
    before = f"{codes}; the certificate accepted before under this name"
    over = [row for row in kept if row.not_after is not None and row.not_after <= now]
    return f"{before} {_still_served(over)}" if over else f"{before} stays in place"


def reason_for_live(name: str, rows: Sequence[DesiredBinding], now: datetime) -> str:
    """What is to be said of an upload that instances prove: what has expired, or is served from another one."""
    return reason_for_expired([row for row in rows if row.source == name], now) or reason_for_some(name, rows)


def reason_for_expired(won: Iterable[DesiredBinding], now: datetime) -> str:
    """What is to be said of an upload that is served for these rows; empty while its certificate is valid."""
    over = [row for row in won if row.not_after is not None and row.not_after <= now]
    return f"{_still_served(over)}: upload a renewal" if over else ""


def _still_served(rows: Sequence[DesiredBinding]) -> str:
    ends = min(row.not_after for row in rows if row.not_after is not None)
    names = listed([row.key.phrased for row in rows])
    return f"expired on {_minute(ends)} and is still served, as no other upload for {names} is valid"


def older_than_live(record: UploadRecord, rows: Iterable[DesiredBinding], now: datetime) -> Violation | None:
    """Explain to the uploader of last year's file why it is not served.

    Args:
        record: The upload.
        rows: Those rows that it claims and another upload is served for.
        now: The time; of what has expired there is something else to say.
    """
    if record.not_before is None or record.not_after is None or record.not_after <= now:
        return None
    for row in rows:
        winner = row.claim_of(row.source)
        if winner is not None and winner.not_before > record.not_before:
            return Violation(
                code=VerdictCode.OLDER_THAN_LIVE,
                detail=f"{row.key.phrased} is served from {winner.source}, valid from {winner.not_before:%Y-%m-%d}; "
                f"this certificate is older, valid from {record.not_before:%Y-%m-%d}. If it is really meant to be "
                f"served, delete {winner.source} and what else there is for it that is not older than this one.",
            )
    return None


def _naming_winners(record: UploadRecord, lost: Sequence[DesiredBinding], now: datetime) -> str:
    """The reason that stands in the row, with names; empty where no other upload is served for any of its hosts."""
    if not lost:
        return ""
    if record.status is not UploadStatus.SUPERSEDED:
        return listed([f"{row.key.phrased} is served from {row.source}" for row in lost])
    names = listed(sorted({row.source for row in lost}))
    if record.not_after is not None and record.not_after <= now:
        return f"expired on {_minute(record.not_after)}; served in its place: {names}"
    if record.not_after is not None and any(_is_outlived(record, row) for row in lost):
        return f"ends on {_minute(record.not_after)}; served in its place: {names}"
    return f"superseded by {names}"


def _lost(name: str, rows: Iterable[DesiredBinding]) -> list[DesiredBinding]:
    """The rows in which another upload is elected."""
    return [row for row in rows if row.source not in {"", name}]


def _is_outlived(record: UploadRecord, row: DesiredBinding) -> bool:
    """Whether an upload would be served but for its end: the elected one comes after it by rank."""
    winner, mine = row.claim_of(row.source), row.claim_of(record.name)
    return winner is not None and mine is not None and winner.rank < mine.rank


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
