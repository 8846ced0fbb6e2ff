"""Each function in a process of its own, as Flex Consumption scales them: none relies on what another keeps in mind.

learn.microsoft.com, "Azure Functions Flex Consumption plan hosting", per-function scaling: HTTP and Event Grid
functions share processes, each queue function and the timer have others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from shared.function.cloud import Cloud
from shared.function.in_process import Later
from shared.function.intake import handle_notice, recheck
from shared.function.listening import HIDDEN_S, Listener
from shared.function.results import fold
from shared.function.sweep import sweep
from shared.messages import RECHECK_QUEUE, RESULTS_QUEUE, EventType, InstallReport, Message, RecheckUpload, decode
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.edges import FakeStorage
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
HOST_LOOKS_EVERY_S = 0.5
HELD_S = 600


class Process:
    """A process of the Function, with what it keeps in mind; one that has ended does nothing more."""

    def __init__(self, storage: FakeStorage) -> None:
        self.ended = False
        self.ends_before = ""
        cloud = replace(storage.cloud(self._step), later=Later())
        self.cloud = replace(cloud, listener=Listener(cloud))

    async def _step(self, what: str) -> None:
        self.ended = self.ended or what == self.ends_before
        if self.ended:
            await asyncio.Event().wait()


class Functions:
    """The functions' processes on one account, and the triggers of the two queues."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.events, self.rechecks, self.results, self.timer = (Process(scene.storage) for _ in range(4))
        self._polling = [
            asyncio.create_task(self._poll(self.rechecks, RECHECK_QUEUE, RecheckUpload, recheck)),
            asyncio.create_task(self._poll(self.results, RESULTS_QUEUE, InstallReport, fold)),
        ]

    async def _poll(
        self,
        process: Process,
        queue: str,
        kind: type[Message],
        act: Callable[[Cloud, Message], Awaitable[object]],
    ) -> None:
        outside = self.scene.outside.queues
        while not process.ended:
            for message in await outside.receive(queue, limit=16, visibility_s=HELD_S):
                await act(process.cloud, decode(kind, message.body or ""))
                await outside.done(queue, message)
            await asyncio.sleep(HOST_LOOKS_EVERY_S)

    async def becomes(self, status: UploadStatus, *, within_s: float) -> UploadRecord:
        async with asyncio.timeout(within_s):
            while (record := await self.scene.record("a.pfx")).status is not status:  # noqa: ASYNC110 - a row
                await asyncio.sleep(0.1)
        return record

    async def is_complete(self) -> None:
        """Everything that belongs to a live upload was done, and told."""
        record = await self.scene.record("a.pfx")
        version = await self.scene.outside.uploads.version("a.pfx")
        assert version is not None
        assert (record.status, record.etag, record.due) == (UploadStatus.LIVE, version.etag, ())
        assert PASSWORD not in version.metadata.values()
        tags = await self.scene.tags("a.pfx")
        assert (tags["certcast_status"], tags["certcast_live"]) == ("live", f"{record.live}/{record.total}")
        assert record.live == record.total == len(record.expected) > 0
        assert EventType.LIVE in {event.kind for event in self.scene.storage.published}


def functions(loop: asyncio.AbstractEventLoop) -> Functions:
    scene = Scene(FakeStorage(loop.clock))  # type: ignore[attr-defined]  # of the loop on virtual time
    return Functions(scene)


NAMES = ["web-0", "web-1", "web-2"]


@on_virtual_time(functions)
class TestAnUpload:
    @pytest.mark.parametrize("ends", ["the process goes on", "it ends when it has answered"])
    async def test_goes_live_by_the_event_and_the_reports_alone(self, apart: Functions, ends: str) -> None:
        await apart.scene.join(*NAMES)
        await handle_notice(apart.events.cloud, await apart.scene.upload("a.pfx", HOST))
        apart.events.ended = ends.startswith("it ends")
        await apart.scene.obey(*NAMES)
        await apart.becomes(UploadStatus.LIVE, within_s=3)
        await asyncio.sleep(1)
        await apart.is_complete()

    async def test_goes_live_where_a_process_ended_with_reports_in_hand(self, apart: Functions) -> None:
        await apart.scene.join(*NAMES)
        apart.events.ends_before = "installations insert"
        await handle_notice(apart.events.cloud, await apart.scene.upload("a.pfx", HOST))
        await apart.scene.obey(*NAMES)
        await apart.becomes(UploadStatus.LIVE, within_s=HIDDEN_S + 3)
        await asyncio.sleep(1)
        await apart.is_complete()

    async def test_is_settled_by_the_sweep_where_the_reports_process_ended_before(self, apart: Functions) -> None:
        await apart.scene.join(*NAMES)
        await handle_notice(apart.events.cloud, await apart.scene.upload("a.pfx", HOST))
        apart.events.ended = True
        await apart.scene.obey(*NAMES)
        apart.results.ends_before = "uploads replace"
        await asyncio.sleep(5)
        assert (await apart.scene.record("a.pfx")).status is UploadStatus.ACCEPTED
        await sweep(apart.timer.cloud)
        await apart.is_complete()

    async def test_that_waits_for_its_password_goes_on_in_another_process(self, apart: Functions) -> None:
        await apart.scene.join(*NAMES)
        await handle_notice(apart.events.cloud, await apart.scene.upload("a.pfx", HOST, metadata={}))
        apart.events.ended = True
        assert (await apart.scene.record("a.pfx")).status is UploadStatus.WAITING_FOR_METADATA
        await apart.scene.edit("a.pfx", CertificatePassword=PASSWORD)
        await apart.becomes(UploadStatus.ACCEPTED, within_s=5)
        apart.rechecks.ended = True
        await apart.scene.obey(*NAMES)
        await apart.becomes(UploadStatus.LIVE, within_s=3)
        await asyncio.sleep(1)
        await apart.is_complete()

    async def test_without_an_event_is_found_by_the_sweep(self, apart: Functions) -> None:
        await apart.scene.join(*NAMES)
        await apart.scene.upload("a.pfx", HOST)
        await sweep(apart.timer.cloud)
        apart.timer.ended = True
        await apart.scene.obey(*NAMES)
        await apart.becomes(UploadStatus.LIVE, within_s=3)
        await asyncio.sleep(1)
        await apart.is_complete()

    async def test_replaced_through_another_process_is_not_taken_for_what_the_first_one_remembers(
        self, apart: Functions
    ) -> None:
        await apart.scene.join(*NAMES)
        await handle_notice(apart.events.cloud, await apart.scene.upload("a.pfx", HOST))
        await apart.scene.obey(*NAMES)
        await apart.becomes(UploadStatus.LIVE, within_s=3)
        await asyncio.sleep(5)
        other = Process(apart.scene.storage)
        await handle_notice(other.cloud, await apart.scene.upload("a.pfx", HOST, serial=1))
        other.ended = True
        await apart.scene.obey(*NAMES)
        record = await apart.becomes(UploadStatus.LIVE, within_s=3)
        assert record.fingerprint_sha256 == (await apart.scene.row(HOST)).fingerprint_sha256
        await handle_notice(apart.events.cloud, await apart.scene.delete("a.pfx"))
        apart.events.ended = True
        await apart.scene.obey(*NAMES)
        await asyncio.sleep(5)
        removed = await apart.scene.record("a.pfx")
        assert (removed.status, removed.live) == (UploadStatus.REMOVED, 0)
