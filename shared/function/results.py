"""Folding in what instances reported: their entries in `installations`, and which uploads they concern.

Reports that come at the same moment are entered together, so that what they have in common is read once. An upload is
settled when the last instance that it waits for has reported, when one has failed, and else a second after the first
report that did not decide it: a status between these would be written for each report and looked at by few.

A message on the queue proves nothing about its sender. What is believed is what a registered instance can say: of rows
that are for it, of generations that were, in figures that can be. An instance reports again what differs from this at
its next reconcile, so that what is false here does not stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey, DesiredBinding, concerns
from shared.bounded import ROWS_AT_ONCE, gather_bounded, try_all
from shared.function.fanout import read_fleet
from shared.function.settling import settle, settle_soon, withdrawn_from
from shared.messages import InstallOutcome
from shared.phrasing import logger, shown
from shared.state.keys import installation_partition
from shared.state.records import InstallationRecord
from shared.state.rows import Held
from shared.telemetry.names import BINDINGS, QUEUE_STORAGE, SYSTEM, Kind, Stage
from shared.telemetry.spans import note, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.function.cloud import Cloud
    from shared.function.fleet import Fleet
    from shared.messages import BindingReport, InstallReport
    from shared.state.records import InstanceRecord
    from shared.state.rows import Update, Versioned

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

LARGE = 32
"""A report about more rows is entered on its own: small ones are not to wait for it."""


async def fold(cloud: Cloud, report: InstallReport) -> None:
    """Enter one instance's report and bring the status of every upload it concerns up to date."""
    traceparent, instance = report.traceparent, report.instance
    with span(Stage.FOLD, of=traceparent or None, kind=Kind.CONSUMER, instance=instance) as folding:
        note({SYSTEM: QUEUE_STORAGE, BINDINGS: len(report.reports)})
        await _folded(cloud, replace(report, traceparent=folding.traceparent))


async def _folded(cloud: Cloud, report: InstallReport) -> None:
    if len(report.reports) <= LARGE:
        try:
            await cloud.reports.take_part(report, lambda reports: _fold(cloud, reports))
        except Exception as error:  # noqa: BLE001 - one of them may be to blame, and is to fail alone
            log.info("instance %s: a report is entered by itself, not with others: %s", shown(report.instance), error)
        else:
            return
    await _fold(cloud, [report])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry to make.

    Attributes:
        row: The row that it is about.
        entry: What is to stand in `installations`.
        role: The instance's role.
    """

    row: DesiredBinding
    entry: InstallationRecord
    role: str

    @property
    def key(self) -> tuple[str, int, str]:
        """Where it is to stand."""
        return (self.entry.host, self.entry.port, self.entry.instance)

    @property
    def failed(self) -> bool:
        """Whether the instance could not do what the row says."""
        return self.entry.outcome not in {InstallOutcome.LIVE, InstallOutcome.REMOVED}

    def concerned(
        self, rows: Mapping[BindingKey, DesiredBinding], now: datetime
    ) -> Iterator[tuple[DesiredBinding, set[str]]]:
        """The uploads whose status it may change, each with the row by which it does.

        Args:
            rows: All rows of these hosts that the instance may obey.
            now: The time.
        """
        row = self.row
        yield row, {self.entry.source} if self.entry.source else withdrawn_from([row], now)
        if self.role == ANY_ROLE:
            return
        other = rows.get(replace(row.key, role=self.role if row.role == ANY_ROLE else ANY_ROLE))
        if other is not None:  # which it obeyed before, or would obey without this one
            served = {other.source} if other.present and other.role == ANY_ROLE else set[str]()
            yield other, served | withdrawn_from([other], now)


async def _fold(cloud: Cloud, reports: Sequence[InstallReport]) -> None:
    """Enter reports and settle the uploads that they decide; where traces meet, the first is gone on with."""
    first, *others = (report.traceparent for report in reports)
    with span(Stage.ENTER, parent=first, links=others):
        await _entered(cloud, reports)


async def _entered(cloud: Cloud, reports: Sequence[InstallReport]) -> None:
    fleet = await read_fleet(cloud)
    rows = await _rows_of(cloud, reports, fleet)
    entries: list[_Entry] = []
    for report in reports:
        known = fleet.known.get(report.instance)
        if known is None:
            log.warning("instance %s: a report is dropped, no such instance is registered", shown(report.instance))
        else:
            entries += _believed(known.value, report.reports, rows, cloud.now())
    told = await _enter_all(cloud, entries)
    decided, waiting = set[str](), set[str]()
    for entry in entries:
        for row, names in entry.concerned(rows, cloud.now()):
            whole = fleet.is_complete(row, told[row.host, row.port], cloud.now())
            (decided if whole or entry.failed else waiting).update(names)
    await settle_soon(cloud, sorted(waiting - decided))
    await try_all((settle(cloud, name, fleet=fleet) for name in sorted(decided)), limit=ROWS_AT_ONCE)


async def _rows_of(cloud: Cloud, reports: Sequence[InstallReport], fleet: Fleet) -> dict[BindingKey, DesiredBinding]:
    """The rows that reports are about, and those of the same hosts that their instances obeyed before, or may.

    A row that this process wrote itself is not read again where the report is about that very generation of it.
    """
    rows: dict[BindingKey, DesiredBinding] = {}
    to_read: set[BindingKey] = set()
    for report in reports:
        known = fleet.known.get(report.instance)
        for item in report.reports if known is not None else ():
            key = BindingKey(role=item.role, host=item.host, port=item.port)
            to_read |= {replace(key, role=role) for role in _roles(known)}
            row = cloud.recent.row(key)
            if row is not None and (row.generation, row.source) == (item.generation, item.source):
                rows[key] = row
            else:
                to_read.add(key)
    names = sorted(to_read)
    found = await gather_bounded((cloud.state.bindings.get(key) for key in names), limit=ROWS_AT_ONCE)
    return rows | {row.key: row for row in found if row}


def _roles(known: Versioned[InstanceRecord] | None) -> tuple[str, ...]:
    return () if known is None or known.value.role == ANY_ROLE else (known.value.role, ANY_ROLE)


def _believed(
    instance: InstanceRecord,
    reports: Sequence[BindingReport],
    rows: Mapping[BindingKey, DesiredBinding],
    now: datetime,
) -> list[_Entry]:
    """The entries to make; the rest is dropped with one line."""
    believed: list[_Entry] = []
    objections: list[str] = []
    for item in reports:
        row = rows.get(BindingKey(role=item.role, host=item.host, port=item.port))
        objection = _objection(item, row, instance, now)
        if row is None or objection:
            objections.append(f"{shown(item.host)}:{item.port}, {objection}")
        else:
            believed.append(_Entry(row=row, entry=_entry(item, row, instance.id, now), role=instance.role))
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
        drifted_at=item.drifted_at and min(item.drifted_at, now),
    )


async def _enter_all(cloud: Cloud, entries: Sequence[_Entry]) -> dict[tuple[str, int], list[InstallationRecord]]:
    """Make the entries; what all instances last reported about these hosts and ports, as far as this process knows."""
    places = sorted({(each.entry.host, each.entry.port) for each in entries})
    unknown = [place for place in places if not cloud.recent.knows_reports(place)]
    read = await gather_bounded((_reports(cloud, *place) for place in unknown), limit=ROWS_AT_ONCE)
    cloud.recent.see_reports(dict(zip(unknown, read, strict=True)))
    known = {place: cloud.recent.reports(place) for place in places}
    by_key: dict[tuple[str, int, str], list[_Entry]] = {}
    for each in entries:
        by_key.setdefault(each.key, []).append(each)

    async def enter(host: str, port: int, instance: str, mine: Sequence[_Entry]) -> None:
        held = known[host, port].get(instance) or Held(value=None, etag=None)
        for each in mine:
            held = (await _enter(cloud, each, held)).held
        known[host, port][instance] = held

    await gather_bounded((enter(*key, mine) for key, mine in by_key.items()), limit=ROWS_AT_ONCE)
    return {place: [held.value for held in told.values() if held.value is not None] for place, told in known.items()}


async def _reports(cloud: Cloud, host: str, port: int) -> dict[str, Held[InstallationRecord]]:
    found = cloud.state.installations.all(installation_partition(host, port))
    return {known.value.instance: Held.of(known) async for known in found}


async def _enter(cloud: Cloud, each: _Entry, held: Held[InstallationRecord]) -> Update[InstallationRecord]:
    row, entry, rows = each.row, each.entry, cloud.state.installations
    update = await rows.update(each.key, lambda known: _later(known, entry), held)
    kept = update.after
    if kept is None or kept.generation <= row.generation:
        return update
    now = await cloud.state.bindings.get(row.key)
    if now is not None and kept.generation > now.generation:  # a generation that never was
        return await rows.update(each.key, lambda known: entry if known == kept else known, update.held)
    return update


def _later(known: InstallationRecord | None, entry: InstallationRecord) -> InstallationRecord:
    """Choose, of two reports of one instance on one host and port, the one that tells how things are now."""
    if known is None or known.finished_at > entry.reported_at + CLOCK_GRAIN:
        return entry
    if known.role != entry.role:
        return entry if known.finished_at <= entry.finished_at else known
    late = (known.generation, known.finished_at) >= (entry.generation, entry.finished_at)
    kept, other = (known, entry) if late else (entry, known)
    if kept.drifted_at or other.drifted_at is None or known.generation != entry.generation:
        return kept
    return replace(kept, drifted_at=other.drifted_at)  # an agent that was started again does not know of it
