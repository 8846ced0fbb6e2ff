"""Installing an accepted upload once more on every instance, for whoever changed something by hand on a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared import results
from shared.binding import BindingKey, DesiredBinding, redeployed
from shared.bounded import gather_bounded
from shared.fanout import notify, recipients
from shared.messages import new_traceparent
from shared.state import SETTLEABLE, UploadRecord, UploadStatus

if TYPE_CHECKING:
    from shared.cloud import Cloud


async def redeploy(cloud: Cloud, name: str) -> tuple[BindingKey, ...]:
    """Raise the generation of every row the upload won, and tell the instances.

    Returns:
        The rows; empty when the upload is unknown or serves nothing.
    """
    record = await cloud.state.uploads.get(name)
    if record is None or record.status not in SETTLEABLE or record.status is UploadStatus.REMOVED:
        return ()
    traceparent = new_traceparent()
    now = cloud.now()

    def again(row: DesiredBinding | None) -> DesiredBinding | None:
        if row is None or row.source != name:
            return None
        return redeployed(row, now=now, traceparent=traceparent)

    rows = await gather_bounded(cloud.state.bindings.update(key, again) for key in record.claims)
    keys = tuple(row.key for row in rows if row is not None and row.source == name)
    if not keys:
        return ()
    instances = await recipients(cloud, keys)

    def start_over(current: UploadRecord | None) -> UploadRecord | None:
        if current is None or current.status not in SETTLEABLE or current.status is UploadStatus.REMOVED:
            return None
        return replace(
            current,
            status=UploadStatus.ACCEPTED,
            expected=tuple(instance.id for instance in instances),
            live=0,
            total=len(instances),
            live_at=None,
            counted_from=now,
            fanned_out_at=now,
            resent=False,
            announced="",
        )

    await cloud.state.uploads.update(name, start_over)
    await notify(cloud, instances, keys, traceparent=traceparent)
    await results.settle(cloud, name)
    return keys
