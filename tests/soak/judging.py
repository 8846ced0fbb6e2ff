"""Whether all is well at the end of a soak: what clients see, and what is told of uploads and instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from operator_cli.demo.handmade import BEHIND
from shared.state.document import instance_document
from shared.state.reasons import ANOTHER
from shared.state.records import UploadRecord, UploadStatus
from tests.soak.stage import Stage

_LOOK_EVERY_S = 2.0
_SHOWN = 12


async def settled(stage: Stage) -> tuple[list[str], float]:
    """Look at everything until nothing is wrong.

    Returns:
        What still is wrong after `settle_s`, in sentences, and how many seconds it took.
    """
    began = stage.now()
    while True:
        wrong = [sentence async for sentence in faults(stage)]
        took_s = stage.now() - began
        if not wrong or took_s > stage.options.settle_s:
            return wrong, took_s
        await asyncio.sleep(_LOOK_EVERY_S)


async def faults(stage: Stage) -> AsyncIterator[str]:
    """What is wrong now."""
    for instance in stage.instances:
        for name in stage.model.names():
            if not await stage.is_right(instance, name):
                seen = (await stage.shown(instance, name))[:_SHOWN] or "nothing"
                wanted = (stage.model.shown(name) or "a certificate of no upload")[:_SHOWN]
                yield f"{instance.name} ({instance.target}) shows {seen} for {name}, and must show {wanted}"
    for name in sorted({*stage.model.uploads, *stage.model.removed}):
        if wrong := told_wrong(stage, name, await stage.account.state.uploads.get(name)):
            yield f"upload {name}: {wrong}"
    async for known in stage.account.state.instances.all():
        document = instance_document(known, now=datetime.now(UTC))
        if not (document["alive"] and document["ready"]) or document["failing"] or known.value.trouble:
            yield f"instance {known.value.id} is told to be {document}"


def told_wrong(stage: Stage, name: str, record: UploadRecord | None) -> str:
    """What is told of an upload and is not so; empty where all of it is."""
    model = stage.model
    if record is None:
        return "nothing is told of it"
    wanted = model.status(name)
    told = f"told to be {record.status.value} {record.live}/{record.total} ({record.reason})"
    if record.status is not wanted:
        return f"{told}, and must be {wanted.value}"
    live = {UploadStatus.LIVE: len(stage.instances), UploadStatus.REMOVED: 0}.get(wanted)
    if live is not None and record.live != live:
        return f"{told}, and must be {live}"
    if wanted is UploadStatus.LIVE:
        upload, won = model.uploads[name], model.won(name)
        if record.fingerprint_sha256 != upload.fingerprint:
            return "it is told of another certificate"
        if (len(won) < len(upload.hosts)) is not record.reason.startswith(ANOTHER) and BEHIND not in record.reason:
            return f"{told}, and is served for {', '.join(won)} of {', '.join(upload.hosts)}"
    return ""
