"""Whether all is well at the end of a soak: what clients see, and what is told of uploads and instances."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Iterator

from operator_cli.demo.handmade import BEHIND
from operator_cli.status import read_status
from operator_cli.storage import Storage
from shared.state.document import Document
from shared.state.records import UploadStatus
from tests.soak.model import Model
from tests.soak.stage import Stage

_LOOK_EVERY_S = 2.0
_SHOWN = 12
_CHANGED = re.compile(rf"{BEHIND}|was no longer bound")


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
    account = stage.account
    told = await read_status(Storage(uploads=account.uploads, state=account.state, now=account.clock.now), None)
    changed = {(each.instance, each.host) for each in stage.drifts.all}
    for sentence in told_wrong(stage.model, told, changed):
        yield sentence


def told_wrong(model: Model, document: Document, changed: Collection[tuple[str, str]]) -> Iterator[str]:
    """What `certcast status` tells and is not so.

    Args:
        model: What must be served.
        document: What `--json` prints.
        changed: Instances and hosts where something was changed by hand, of which a status may tell.
    """
    uploads = {told["name"]: told for told in document["uploads"]}
    instances = document["instances"]
    for name in sorted(uploads.keys() ^ model.uploads.keys()):
        yield f"upload {name} is {'removed and still listed' if name in uploads else 'not listed'}"
    for name in sorted(uploads.keys() & model.uploads.keys()):
        if wrong := _upload_wrong(model, uploads[name], len(instances), changed):
            yield f"upload {name}: told to be {_short(uploads[name])}, and {wrong}"
    bound = sum(model.elected(host) is not None for host in model.hosts)
    for told in instances:
        well = told["alive"] and told["ready"] and not told["failing"] and not told["trouble"]
        if not well or told["bindings"] != bound:
            yield f"instance {told['id']} serves {bound}, and is told to be {told}"


def _upload_wrong(model: Model, told: Document, instances: int, changed: Collection[tuple[str, str]]) -> str:
    upload, won = model.uploads[told["name"]], model.won(told["name"])
    status = model.status(upload.name)
    if told["status"] != status.value or told["fingerprint_sha256"] != upload.fingerprint:
        return f"it is {status.value} with {upload.fingerprint[:_SHOWN]}"
    if status is UploadStatus.LIVE and (told["live"], told["expected"]) != (instances, instances):
        return f"it is so on all {instances}"
    winners = {other.name for host in upload.hosts if (other := model.elected(host)) not in {None, upload}}
    if unnamed := sorted(winner for winner in winners if winner not in told["reason"]):
        return f"{', '.join(unnamed)} won hosts of it"
    if told["reason"] and not winners and not _tells_of_a_change(told["reason"], won, changed):
        return "nothing is to be said of it"
    return ""


def _tells_of_a_change(reason: str, won: Collection[str], changed: Collection[tuple[str, str]]) -> bool:
    """Whether it tells what an instance found that was changed by hand: for a host, its wildcard, or one below it."""
    return any(
        f"{instance}, {mine}:443: " in reason and _CHANGED.search(reason)
        for instance, host in changed
        for mine in won
        if mine in {host, _above(host)} or _above(mine) == host
    )


def _above(host: str) -> str:
    return f"*.{host.partition('.')[2]}"


def _short(told: Document) -> str:
    return f"{told['status']} {told['live']}/{told['expected']} ({told['reason']})"
