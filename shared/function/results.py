"""Folding in what an instance reported: its entries in `installations`, and which uploads they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, BindingKey
from shared.bounded import gather_bounded
from shared.function.settling import settle, settle_removed, withdrawn_from
from shared.state.records import InstallationRecord

if TYPE_CHECKING:
    from shared.function.cloud import Cloud
    from shared.messages import BindingReport, InstallReport


async def fold(cloud: Cloud, report: InstallReport) -> None:
    """Enter one instance's report and bring the status of every upload it concerns up to date."""
    await gather_bounded(_enter(cloud, report.instance, item) for item in report.reports)
    for name in sorted({item.source for item in report.reports} - {""}):
        await settle(cloud, name)
    withdrawn, overridden = await _no_longer_obeyed(cloud, report)
    for name in sorted(overridden):
        await settle(cloud, name)
    await settle_removed(cloud, withdrawn)


async def _no_longer_obeyed(cloud: Cloud, report: InstallReport) -> tuple[set[str], set[str]]:
    """Name the uploads that an instance may have stopped serving: nothing is served now, or the row of another role.

    Returns:
        Those that withdrew their claims, and those for every role that are served by the others only.
    """
    unserved = [BindingKey(role=i.role, host=i.host, port=i.port) for i in report.reports if not i.source]
    instance = await cloud.state.instances.get(report.instance)
    if instance is not None and instance.role != ANY_ROLE:
        unserved += [
            BindingKey(role=instance.role if i.role == ANY_ROLE else ANY_ROLE, host=i.host, port=i.port)
            for i in report.reports
        ]
    rows = [row for row in await gather_bounded(cloud.state.bindings.get(key) for key in unserved) if row is not None]
    return withdrawn_from(rows), {row.source for row in rows if row.present and row.role == ANY_ROLE}


async def _enter(cloud: Cloud, instance: str, item: BindingReport) -> None:
    entry = InstallationRecord(
        host=item.host,
        port=item.port,
        instance=instance,
        role=item.role,
        generation=item.generation,
        source=item.source,
        outcome=item.outcome,
        finished_at=item.finished_at,
        reported_at=cloud.now(),
        reason=item.reason,
        fingerprint_sha256=item.fingerprint_sha256,
        stages_ms=item.stages_ms,
    )
    await cloud.state.installations.update((item.host, item.port, instance), lambda known: _later(known, entry))


def _later(known: InstallationRecord | None, entry: InstallationRecord) -> InstallationRecord:
    """Choose, of two reports of one instance on one host and port, the one that tells how things are now."""
    if known is None:
        return entry
    if known.role != entry.role:
        return entry if known.finished_at <= entry.finished_at else known
    late = (known.generation, known.finished_at) >= (entry.generation, entry.finished_at)
    return known if late else entry
