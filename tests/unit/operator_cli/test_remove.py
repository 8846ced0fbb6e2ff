import asyncio

import pytest

from operator_cli import remove
from operator_cli.exits import TimedOutError
from operator_cli.remove import unbound
from operator_cli.storage import Storage
from shared.function.intake import look_at
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.processes import StandingStill
from tests.rigs.scenes import Scene

NAME = "shop.pfx"
HOST = "www.example.com"
INSTANCE = "web-0"


async def removed_before() -> Scene:
    """A name under which something was uploaded and removed a while ago."""
    scene = Scene()
    await scene.join(INSTANCE)
    await scene.accepted(NAME, HOST)
    await scene.everyone_obeys(INSTANCE)
    await scene.looked_at(await scene.delete(NAME))
    await scene.everyone_obeys(INSTANCE)
    scene.storage.clock.advance(20)
    await scene.beat(INSTANCE)
    return scene


async def removal(
    scene: Scene, before: UploadRecord | None, *, timeout_s: float = 20
) -> tuple[UploadRecord | None, TimedOutError | None]:
    storage = Storage(uploads=scene.outside.uploads, state=scene.outside.state, now=scene.storage.clock)
    return await unbound(storage, NAME, before, timeout_s, lambda *_: None)


async def test_an_upload_that_was_being_accepted_when_it_was_deleted_is_not_taken_for_the_one_removed_before() -> None:
    scene = await removed_before()
    still = StandingStill("bundle seal")
    notice = await scene.upload(NAME, HOST, serial=1)
    accepting = asyncio.ensure_future(look_at(scene.seen_by(still), notice))
    await still.reached.wait()
    before = await scene.record(NAME)
    assert before.status is UploadStatus.REMOVED
    deletion = await scene.delete(NAME)
    waiting = asyncio.ensure_future(removal(scene, before))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    still.go_on.set()
    await accepting
    await scene.everyone_obeys(INSTANCE)
    assert (await scene.record(NAME)).status is UploadStatus.LIVE
    scene.storage.clock.advance(1)
    await scene.looked_at(deletion)
    await asyncio.sleep(0.3)
    assert not waiting.done(), "an instance still serves it"
    await scene.everyone_obeys(INSTANCE)
    last, late = await waiting
    assert late is None
    assert last is not None
    assert (last.status, last.live) == (UploadStatus.REMOVED, 0)


async def test_what_the_function_finds_gone_is_removed_as_soon_as_it_says_so() -> None:
    scene = await removed_before()
    notice = await scene.upload(NAME, HOST, serial=1)
    before = await scene.record(NAME)
    await scene.delete(NAME)
    waiting = asyncio.ensure_future(removal(scene, before))
    await scene.looked_at(notice)
    await scene.everyone_obeys(INSTANCE)
    last, late = await waiting
    assert late is None
    assert last is not None
    assert last.revision > before.revision


async def test_what_was_never_noticed_is_removed_once_no_look_can_be_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove, "UNNOTICED_S", 0.2)
    scene = await removed_before()
    await scene.upload(NAME, HOST, serial=1)
    before = await scene.record(NAME)
    await scene.delete(NAME)
    assert await removal(scene, before) == (before, None)


async def test_what_was_not_finished_is_not_said_to_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove, "UNNOTICED_S", 0.1)
    scene = await removed_before()
    before = await scene.record(NAME)
    still = StandingStill("bundle seal")
    accepting = asyncio.ensure_future(look_at(scene.seen_by(still), await scene.upload(NAME, HOST, serial=1)))
    await still.reached.wait()
    await scene.delete(NAME)
    _, late = await removal(scene, before, timeout_s=0.5)
    assert late is not None
    assert "the Function has not noticed" in str(late)
    still.go_on.set()
    await accepting
