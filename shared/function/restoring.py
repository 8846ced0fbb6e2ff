"""Claims that were kept in place, entered again into rows that lost them; `keeping` has what they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bounded import ROWS_AT_ONCE, gather_bounded
from shared.function.election import with_claim
from shared.function.keeping import keeps, kept_by
from shared.function.reclaiming import follow
from shared.messages import new_traceparent
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from shared.binding import BindingKey, DesiredBinding
    from shared.function.cloud import Cloud
    from shared.function.keeping import KeptClaim
    from shared.state.records import UploadRecord
    from shared.state.rows import Update

log = logger(__name__)


async def enter_again(cloud: Cloud, record: UploadRecord) -> tuple[BindingKey, ...]:
    """Enter the claims that an upload kept, and tell the instances; the rows that they stand in.

    Raises:
        StaleRevisionError: A row has its claim still, of a later look than the upload's own row knows of.
        UnavailableError: What was kept cannot be read now.
    """
    kept = await kept_by(cloud, record.name)
    if not kept:
        return ()
    now, trace = cloud.now(), new_traceparent()

    def enter(each: KeptClaim) -> Awaitable[Update[DesiredBinding]]:
        claim = replace(each.claim, revision=record.revision)
        return cloud.state.bindings.update(
            each.key, lambda row: with_claim(row, each.key, claim, now=now, traceparent=trace)
        )

    changes = await gather_bounded(map(enter, kept), limit=ROWS_AT_ONCE)
    log.warning("upload %s: its rows were lost; what was accepted before under its name stays in place", record.name)
    await follow(cloud, changes, trace, settled=record.name, wins=False)
    return tuple(each.key for each in kept)


def lacks_kept(record: UploadRecord, rows: Mapping[BindingKey, DesiredBinding]) -> bool:
    """Whether a row has lost a claim that an upload keeps."""
    return keeps(record) and record.etag != "" and any(_lacks(rows.get(key), record) for key in record.claims)


def _lacks(row: DesiredBinding | None, record: UploadRecord) -> bool:
    claim = None if row is None else row.claim_of(record.name)
    return claim is None or (claim.withdrawn_at is not None and claim.revision <= record.revision)


async def restore(cloud: Cloud, name: str) -> None:
    """Enter an upload's kept claims again; where nothing is known of them any more, its row says so no longer."""
    record = await cloud.state.uploads.get(name)
    if record is None or not keeps(record):
        return
    lost = set(record.claims) - set(await enter_again(cloud, record))
    if not lost:
        return
    log.error("upload %s: what was accepted before under its name cannot be found again; upload a good one", name)

    def change(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.revision != record.revision:
            return None
        return replace(current, claims=tuple(key for key in current.claims if key not in lost), reason="")

    await cloud.state.uploads.update(name, change)
