"""Folding in what an instance reported: its entries in `installations`, and which uploads they concern.

A message on the queue proves nothing about its sender. What is believed is what a registered instance can say: of rows
that are for it, of generations that were, in figures that can be. An instance reports again what differs from this at
its next reconcile, so that what is false here does not stay.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey, concerns
from shared.bounded import ROWS_AT_ONCE, gather_bounded, try_all
from shared.function.settling import settle, settle_removed, withdrawn_from
from shared.phrasing import logger, shown
from shared.state.records import InstallationRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.binding import DesiredBinding
    from shared.function.cloud import Cloud
    from shared.messages import BindingReport, InstallReport
    from shared.state.records import InstanceRecord

log = logger(__name__)

CLOCKS_APART = timedelta(minutes=1)
"""How far an instance's clock may be ahead of this one; both follow the storage service's."""
CLOCK_GRAIN = timedelta(seconds=2)
"""What two clocks may differ by that both follow the service's, which tells whole seconds; it is no lie."""
MAX_STAGES = 16
MAX_STAGE_MS = 86_400_000
REASON_CHARS = 1000

_FINGERPRINT = re.compile(r"(?:[0-9a-f]{64})?\Z")
_STAGE = re.compile(r"[a-z_]{1,32}\Z")


async def fold(cloud: Cloud, report: InstallReport) -> None:
    """Enter one instance's report and bring the status of every upload it concerns up to date."""
    instance = await cloud.state.instances.get(report.instance)
    if instance is None:
        log.warning("instance %s: a report is dropped, no such instance is registered", report.instance)
        return
    entries = await _believed(cloud, instance, report.reports)
    await gather_bounded((_enter(cloud, row, entry) for row, entry in entries), limit=ROWS_AT_ONCE)
    overruled = await _other_roles(cloud, instance, [row for row, _ in entries])
    unserved = withdrawn_from([row for row, entry in entries if not entry.source] + overruled)
    concerned = {entry.source for _, entry in entries} - {""}
    concerned |= {row.source for row in overruled if row.present and row.role == ANY_ROLE}
    await try_all(settle(cloud, name) for name in sorted(concerned))
    await settle_removed(cloud, unserved)


async def _believed(
    cloud: Cloud, instance: InstanceRecord, reports: Sequence[BindingReport]
) -> list[tuple[DesiredBinding, InstallationRecord]]:
    """The entries to make, each with the row it is about; the rest is dropped with one line."""
    now = cloud.now()
    keys = {BindingKey(role=item.role, host=item.host, port=item.port) for item in reports}
    rows = {
        row.key: row
        for row in await gather_bounded((cloud.state.bindings.get(key) for key in keys), limit=ROWS_AT_ONCE)
        if row
    }
    believed: list[tuple[DesiredBinding, InstallationRecord]] = []
    objections: list[str] = []
    for item in reports:
        row = rows.get(BindingKey(role=item.role, host=item.host, port=item.port))
        objection = _objection(item, row, instance, now)
        if row is None or objection:
            objections.append(f"{shown(item.host)}:{item.port}, {objection}")
        else:
            believed.append((row, _entry(item, row, instance.id, now)))
    if objections:
        log.warning(
            "instance %s: %d of %d entries of a report are dropped (%s)",
            *(instance.id, len(objections), len(reports), objections[0]),
        )
    return believed


def _objection(item: BindingReport, row: DesiredBinding | None, instance: InstanceRecord, now: datetime) -> str:
    """Why an entry cannot be true, as a clause; empty when it can."""
    if row is None:
        return f"which is not bound for role {shown(item.role)}"
    current = item.generation == row.generation
    objections = {
        f"whose row is for role {shown(item.role)} and not for it": not concerns(item.role, instance.role),
        f"whose generation is {row.generation} and not {item.generation}": not 0 < item.generation <= row.generation,
        f"whose certificate is not that of {shown(item.source) or 'no upload'}": item.source != row.source
        if current
        else not _is_claimed(item.source, row),
        "which it finished in the future": item.finished_at > now + CLOCKS_APART,
        "for which what it saw is no fingerprint": not _FINGERPRINT.match(item.fingerprint_sha256),
        "for which its stages cannot be": not _are_possible(item.stages_ms),
    }
    return next((objection for objection, holds in objections.items() if holds), "")


def _are_possible(stages_ms: Mapping[str, float]) -> bool:
    each = all(_STAGE.match(name) and 0 <= took <= MAX_STAGE_MS for name, took in stages_ms.items())
    return each and len(stages_ms) <= MAX_STAGES


def _is_claimed(source: str, row: DesiredBinding) -> bool:
    return source == "" or row.claim_of(source) is not None


def _entry(item: BindingReport, row: DesiredBinding, instance: str, now: datetime) -> InstallationRecord:
    return InstallationRecord(
        host=row.host,
        port=row.port,
        instance=instance,
        role=row.role,
        generation=item.generation,
        source=item.source,
        outcome=item.outcome,
        finished_at=item.finished_at if item.finished_at <= now + CLOCK_GRAIN else now,
        reported_at=now,
        reason=shown(item.reason, REASON_CHARS),
        fingerprint_sha256=item.fingerprint_sha256,
        stages_ms=item.stages_ms,
    )


async def _other_roles(cloud: Cloud, instance: InstanceRecord, rows: Sequence[DesiredBinding]) -> list[DesiredBinding]:
    """The rows of the same hosts and ports that the instance obeyed before, or would obey without these."""
    if instance.role == ANY_ROLE:
        return []
    keys = [replace(row.key, role=instance.role if row.role == ANY_ROLE else ANY_ROLE) for row in rows]
    return [
        row
        for row in await gather_bounded((cloud.state.bindings.get(key) for key in keys), limit=ROWS_AT_ONCE)
        if row is not None
    ]


async def _enter(cloud: Cloud, row: DesiredBinding, entry: InstallationRecord) -> None:
    key = (entry.host, entry.port, entry.instance)
    kept = (await cloud.state.installations.update(key, lambda known: _later(known, entry))).after
    if kept is None or kept.generation <= row.generation:
        return
    now = await cloud.state.bindings.get(row.key)
    if now is not None and kept.generation > now.generation:  # a generation that never was
        await cloud.state.installations.update(key, lambda known: entry if known == kept else known)


def _later(known: InstallationRecord | None, entry: InstallationRecord) -> InstallationRecord:
    """Choose, of two reports of one instance on one host and port, the one that tells how things are now."""
    if known is None or known.finished_at > entry.reported_at + CLOCK_GRAIN:
        return entry
    if known.role != entry.role:
        return entry if known.finished_at <= entry.finished_at else known
    late = (known.generation, known.finished_at) >= (entry.generation, entry.finished_at)
    return known if late else entry
