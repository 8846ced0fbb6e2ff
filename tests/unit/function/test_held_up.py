"""An upload that cannot be done with says what it waits for, and since when."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from shared.errors import BusyError, HeldError, NotSetUpError, RefusedForNowError, UnavailableError
from shared.function.cloud import Cloud
from shared.function.deadlines import EVENT_S
from shared.function.intake import handle_notice, look_at
from shared.function.rules import Rules
from shared.function.sweep import sweep
from shared.state.document import upload_document
from shared.state.records import UploadRecord, UploadStatus
from shared.validation.tasks import Answer, Task
from tests.fakes.edges import FakeStorage
from tests.fakes.processes import Failing, StandingStill
from tests.rigs.scenes import PASSWORD, Scene
from tests.rigs.virtual_tests import on_virtual_time

HOST = "a.example.com"
REFERENCE = "@Microsoft.KeyVault(SecretUri=https://shop.vault.azure.net/secrets/p)"

ERRORS = {
    "container": ("blob download", NotSetUpError("reading blob a.pfx: the container itself is not there")),
    "refused": ("blob download", RefusedForNowError("reading blob a.pfx: refused (AuthorizationPermissionMismatch)")),
    "bundles": ("bundle seal", UnavailableError("sealing bundle x: the service answered 503")),
    "bindings": ("bindings get", UnavailableError("reading table bindings: the service answered 503")),
    "busy": ("bundle seal", BusyError("many uploads wait already")),
    "a fault": ("bundle seal", ZeroDivisionError("of ours")),
}


def waits(record: UploadRecord) -> tuple[str, str]:
    """What an upload waits for, and since when, as programs read it."""
    found = upload_document(record)["waiting_for"]
    assert found is not None, record
    return found["what"], found["since"]


@pytest.mark.parametrize("trouble", ERRORS)
class TestALookThatFails:
    async def test_is_said_of_a_new_upload_until_it_is_done_with(self, trouble: str) -> None:
        where, error = ERRORS[trouble]
        scene = Scene(step=Failing({where: [error] * 2}))
        await scene.handle(await scene.upload("a.pfx", HOST))
        record = await scene.record("a.pfx")
        said = "an unexpected ZeroDivisionError" if trouble == "a fault" else str(error)
        assert record.status is UploadStatus.RECEIVED
        assert said in record.reason
        what, since = waits(record)
        assert what.startswith("another look, after this one: ")
        assert said in what
        assert since == "2026-03-01T12:00:00.250000Z"
        scene.storage.clock.advance(60)
        await sweep(scene.cloud)
        assert waits(await scene.record("a.pfx"))[1] == since
        await sweep(scene.cloud)
        record = await scene.record("a.pfx")
        assert (record.status, record.held_up, record.held_up_since) == (UploadStatus.ACCEPTED, "", None)

    async def test_is_said_of_a_renewal_beside_what_is_served(self, trouble: str) -> None:
        where, error = ERRORS[trouble]
        scene = Scene()
        await scene.join("i0")
        await scene.accepted("a.pfx", HOST)
        await scene.everyone_obeys("i0")
        scene.storage.clock.advance(60)
        scene.cloud = scene.seen_by(Failing({where: [error]}))
        renewal = await scene.upload("a.pfx", HOST, day=1 / 48)
        await scene.handle(renewal)
        record = await scene.record("a.pfx")
        assert (record.status, record.reason) == (UploadStatus.LIVE, "")
        what, since = waits(record)
        assert what.startswith("another look at the version uploaded since, after this one: ")
        assert since == "2026-03-01T12:01:00.250000Z"
        await look_at(scene.outside, renewal)
        assert (await scene.record("a.pfx")).held_up == ""


async def test_an_upload_that_is_deleted_meanwhile_waits_for_nothing_more(scene: Scene) -> None:
    scene.cloud = scene.seen_by(Failing({"blob download": [UnavailableError("busy")]}))
    await scene.handle(await scene.upload("a.pfx", HOST))
    await scene.handle(await scene.delete("a.pfx"))
    assert upload_document(await scene.record("a.pfx"))["waiting_for"] is None


@pytest.mark.parametrize("by", ["recheck", "sweep"])
async def test_an_upload_that_is_done_with_waits_for_nothing_where_a_needless_look_failed(by: str) -> None:
    scene = Scene()
    first = await scene.upload("a.pfx", HOST)
    await scene.handle(first)
    await scene.looked_at(await scene.upload("a.pfx", HOST, day=1 / 48))
    done = await scene.record("a.pfx")
    scene.cloud = scene.seen_by(Failing({"blob download": [UnavailableError("busy")]}))
    await scene.handle(first)  # Event Grid delivers it once more
    assert waits(await scene.record("a.pfx"))[0].startswith("another look")
    scene.storage.clock.advance(60)
    if by == "sweep":
        assert (await sweep(scene.cloud)).problems == []
    else:
        assert await scene.recheck_due() == ["a.pfx"]
    record = await scene.record("a.pfx")
    assert (record.held_up, record.held_up_since) == ("", None)
    assert (record.status, record.etag) == (done.status, done.etag)


async def test_of_what_was_removed_nothing_is_said_that_is_about_its_blob() -> None:
    left = [HeldError("writing the metadata of blob a.pfx: the blob is under a lease")]
    full = [HeldError("writing the tags of blob a.pfx: the blob is under a lease")]
    scene = Scene(step=Failing({"blob set_metadata": left, "blob set_tags": full * 9}))
    metadata = {"CertificatePassword": PASSWORD, "Passwort": "x"}
    await scene.handle(await scene.upload("a.pfx", HOST, metadata=metadata))
    record = await scene.record("a.pfx")
    assert all((record.password_left, record.tags_refused, record.warnings))
    await scene.handle(await scene.delete("a.pfx"))
    record = await scene.record("a.pfx")
    assert (record.password_left, record.tags_refused, record.warnings) == ("", "", ())


async def test_a_policy_that_cannot_be_used_is_what_is_waited_for(scene: Scene) -> None:
    async def text() -> str:
        return "version = 2"

    await handle_notice(replace(scene.cloud, rules=Rules(text)), await scene.upload("a.pfx", HOST))
    assert "the policy that CERTCAST_POLICY names cannot be used" in waits(await scene.record("a.pfx"))[0]


async def test_a_process_that_ends_leaves_an_upload_that_says_what_it_waits_for(scene: Scene) -> None:
    still = StandingStill("blob download")
    look = asyncio.create_task(look_at(scene.seen_by(still), await scene.upload("a.pfx", HOST)))
    await still.reached.wait()
    what, since = waits(await scene.record("a.pfx"))
    assert "for the next sweep" in what
    assert since == "2026-03-01T12:00:00.250000Z"
    look.cancel()
    with suppress(asyncio.CancelledError):
        await look


class Silent:
    """Judges who do not answer, having said that it takes long or not."""

    def __init__(self, *, slow: bool) -> None:
        self._slow = slow

    async def judge(self, _task: Task, *, on_slow: Callable[[], Awaitable[None]] | None = None) -> Answer:
        if self._slow and on_slow is not None:
            await on_slow()
        await asyncio.sleep(10_000)
        return Answer()


class SilentSecrets:
    async def resolve(self, reference: str) -> str:
        await asyncio.sleep(10_000)
        return reference


@on_virtual_time(lambda loop: Scene(FakeStorage(loop.clock)))
class TestALookThatHangs:
    @pytest.mark.parametrize(
        ("where", "what"),
        [
            ("blob download", "the container certificates"),
            ("bundle seal", "the container bundles"),
            ("bindings insert", "the table bindings"),
        ],
    )
    async def test_names_the_service_that_did_not_answer(self, scene: Scene, where: str, what: str) -> None:
        await self.hangs(scene, scene.seen_by(StandingStill(where)), what)

    async def test_names_the_vault(self, scene: Scene) -> None:
        cloud = replace(scene.cloud, secrets=SilentSecrets())
        metadata = {"CertificatePassword": REFERENCE}
        await self.hangs(scene, cloud, "the vault of https://shop.vault.azure.net/secrets/p", metadata=metadata)

    async def test_names_the_processes_that_judge(self, scene: Scene) -> None:
        await self.hangs(scene, replace(scene.cloud, judges=Silent(slow=False)), "a process that judges it")

    async def hangs(self, scene: Scene, cloud: Cloud, what: str, metadata: dict[str, str] | None = None) -> None:
        began = scene.storage.clock()
        await handle_notice(cloud, await scene.upload("a.pfx", HOST, metadata=metadata))
        assert (scene.storage.clock() - began).total_seconds() >= EVENT_S
        record = await scene.record("a.pfx")
        assert record.status is UploadStatus.RECEIVED
        assert waits(record)[0].endswith(f"this took longer than one look may, and waited for {what}")
        assert record.held_up_since is not None
        assert (record.held_up_since - began).total_seconds() < 1

    async def test_says_so_while_it_waits_for_its_turn_among_what_takes_long(self, scene: Scene) -> None:
        cloud = replace(scene.cloud, judges=Silent(slow=True))
        look = asyncio.create_task(handle_notice(cloud, await scene.upload("a.pfx", HOST)))
        await asyncio.sleep(EVENT_S / 2)
        assert "waits for its turn" in waits(await scene.record("a.pfx"))[0]
        await look
