"""Reports that are expected: taken at once, many at a time, and left to the queue trigger where that fails."""

import asyncio
from dataclasses import replace

from shared.errors import UnavailableError
from shared.function.cloud import Cloud
from shared.function.in_process import Later
from shared.function.listening import EXPECTED_FOR_S, HIDDEN_S, LOOKS_EVERY_S, Listener
from shared.messages import RESULTS_QUEUE
from shared.state.records import UploadStatus
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, Mortal
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.scenes import Scene

HOST = "a.example.com"


class Listening:
    """A platform whose Function looks for reports, with the steps of the looking counted."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.steps = Mortal()
        self.scene = Scene(FakeStorage(loop.clock))
        self.listen_with(self.scene.seen_by(self.steps))

    def listen_with(self, function: Cloud) -> None:
        self.scene.cloud = replace(self.scene.cloud, later=Later(), listener=Listener(function))

    @property
    def left(self) -> int:
        return len(self.scene.storage.queues[RESULTS_QUEUE])

    async def status(self) -> UploadStatus:
        return (await self.scene.record("a.pfx")).status


def test_reports_are_taken_without_the_trigger_and_the_looking_ends() -> None:
    async def work(loop: VirtualLoop) -> None:
        site = Listening(loop)
        await site.scene.join("i0", "i1")
        await site.scene.accepted("a.pfx", HOST)
        await site.scene.obey("i0", "i1")
        await asyncio.sleep(2 * LOOKS_EVERY_S)
        assert (await site.status(), site.left) == (UploadStatus.LIVE, 0)
        await asyncio.sleep(2 * EXPECTED_FOR_S)
        looks = site.steps.steps["queue receive"]
        assert looks <= 2 * EXPECTED_FOR_S / LOOKS_EVERY_S
        await asyncio.sleep(3600)
        assert site.steps.steps["queue receive"] == looks

    run(work)


def test_forty_reports_need_two_requests_to_be_taken() -> None:
    async def work(loop: VirtualLoop) -> None:
        site = Listening(loop)
        names = [f"i{number:02}" for number in range(40)]
        await site.scene.join(*names)
        await site.scene.accepted("a.pfx", HOST)
        await site.scene.obey(*names)
        before = site.steps.steps["queue receive"]
        await asyncio.sleep(1.5 * LOOKS_EVERY_S)
        assert (await site.status(), site.left) == (UploadStatus.LIVE, 0)
        assert site.steps.steps["queue receive"] - before <= 3
        assert site.steps.steps["installations insert"] == len(names)

    run(work)


def test_what_cannot_be_entered_is_seen_again_and_what_is_no_report_is_dropped() -> None:
    async def work(loop: VirtualLoop) -> None:
        site = Listening(loop)
        site.listen_with(site.scene.seen_by(Failing({"installations insert": [UnavailableError("busy")] * 2})))
        await site.scene.join("i0")
        site.scene.storage.put(RESULTS_QUEUE, "no report")
        await site.scene.accepted("a.pfx", HOST)
        await site.scene.obey("i0")
        await asyncio.sleep(1)
        assert (await site.status(), site.left) == (UploadStatus.ACCEPTED, 1)
        await asyncio.sleep(HIDDEN_S)
        await site.scene.fold()  # as the trigger does
        assert (await site.status(), site.left) == (UploadStatus.LIVE, 0)

    run(work)


def test_a_queue_that_does_not_answer_ends_the_looking_until_the_next_hints() -> None:
    async def work(loop: VirtualLoop) -> None:
        site = Listening(loop)
        site.listen_with(site.scene.seen_by(Failing({"queue receive": [UnavailableError("away")]})))
        await site.scene.join("i0")
        await site.scene.accepted("a.pfx", HOST)
        await asyncio.sleep(1)
        await site.scene.obey("i0")
        await asyncio.sleep(1)
        assert await site.status() is UploadStatus.ACCEPTED
        await site.scene.accepted("b.pfx", "b.example.com")
        await asyncio.sleep(1)
        assert await site.status() is UploadStatus.LIVE

    run(work)
