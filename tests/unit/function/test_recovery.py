"""What is lost with the tables comes back by a sweep, and nothing stops being served meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from shared.errors import UnavailableError
from shared.function.blob_event import Notice
from shared.function.intake import look_at
from shared.function.keeping import kept_by, place_of
from shared.function.sweep import sweep
from shared.state.records import BINDINGS_TABLE, UPLOADS_TABLE, UploadStatus
from shared.state.wholeness import wholeness
from tests.fakes.edges import TABLES
from tests.fakes.processes import Failing
from tests.rigs.recovering import ODD, WITH_PASSWORD, Recovering, Served, certificate
from tests.rigs.scenes import Scene, pfx
from tests.rigs.some import some

HOUR, DAY = 3600, 86_400


@pytest.fixture
def platform() -> Iterator[Recovering]:
    platform = Recovering()
    yield platform
    platform.close()


def is_served(platform: Recovering, served: Served) -> None:
    """Asserted machine by machine, so that a failure says what is served otherwise."""
    for name, bindings in served.items():
        assert dict(sorted(platform.served[name].items())) == dict(sorted(bindings.items())), name


def nothing_else_is_served(platform: Recovering, served: Served) -> None:
    """Agents that run, and others that start on the same machines, leave what is served."""
    platform.work(400)  # longer than from one whole reconcile to the next
    assert platform.served == served
    platform.restart_agents()
    assert platform.served == served


def all_is_as_before(platform: Recovering, before: dict[str, object]) -> None:
    after = platform.state()
    for part, was in before.items():
        assert after[part] == was, part


class TestLostTables:
    @pytest.mark.parametrize("tables", [(), *((name,) for name in TABLES)], ids=lambda tables: "".join(tables) or "all")
    def test_one_sweep_puts_everything_right_and_nothing_is_served_otherwise_meanwhile(
        self, platform: Recovering, tables: tuple[str, ...]
    ) -> None:
        platform.sleep(2 * DAY)  # bundles are old enough to be deleted where nothing names them
        before, served = platform.state(), platform.served
        platform.wipe(*tables)
        nothing_else_is_served(platform, served)
        platform.sweep_once()
        is_served(platform, served)
        all_is_as_before(platform, before)
        assert platform.seconds_to_live("live.pfx") < 300, "it counts from the upload, or from when it was found again"
        platform.sweep_once()
        platform.add_machine("any1")
        platform.work(20)
        assert platform.served == {**served, "any1": served["any0"]}  # no bundle was deleted that serves it

    def test_what_has_no_row_yet_while_others_have_theirs_again_stays(self, platform: Recovering) -> None:
        served = platform.served
        platform.wipe()
        platform.events.append(Notice(name="live.pfx"))
        platform.work(20)
        nothing_else_is_served(platform, served)

    def test_some_rows_are_lost(self, platform: Recovering) -> None:
        before, served = platform.state(), platform.served
        for table in (UPLOADS_TABLE, BINDINGS_TABLE):
            rows = platform.storage.tables[table]
            for key in sorted(rows)[::2]:
                del rows[key]
        nothing_else_is_served(platform, served)
        platform.sweep_once()
        is_served(platform, served)
        all_is_as_before(platform, before)

    def test_a_fresh_instance_is_not_ready_before_it_can_serve_what_was_lost(self, platform: Recovering) -> None:
        served = platform.served["any0"]
        platform.wipe()
        platform.add_machine("any1")
        platform.work(60)
        assert not platform.is_ready("any1")
        platform.sweep_once()
        platform.sweep_once()
        assert platform.is_ready("any1")
        assert platform.served["any1"] == served

    def test_nor_is_one_that_starts_while_rows_are_made_again(self, platform: Recovering) -> None:
        platform.wipe()
        platform.fail_requests("bundle seal", 6)  # so that one sweep does not get through
        platform.start_sweep()
        platform.let_pass(5)
        platform.add_machine("any1")
        platform.work(20)
        assert not platform.is_ready("any1")
        platform.sweep_once()
        platform.sweep_once()
        assert platform.is_ready("any1")

    def test_what_was_deleted_meanwhile_is_taken_off_when_the_tables_are_whole(self, platform: Recovering) -> None:
        platform.wipe()
        platform.delete("live.pfx")
        platform.events.clear()
        platform.restart_agents()
        assert ("live.example.com", 443) in platform.served["any0"]
        platform.sweep_once()
        platform.sweep_once()
        platform.work(400)
        assert ("live.example.com", 443) not in platform.served["any0"]
        assert ("removed.example.com", 443) not in platform.served["any0"]

    def test_what_was_kept_in_place_can_be_taken_away_afterwards(self, platform: Recovering) -> None:
        platform.wipe(UPLOADS_TABLE)
        platform.sweep_once()
        for name in ("later.pfx", "mistaken.pfx"):
            platform.delete(name)
        platform.work(60)
        assert not {("later.example.com", 443), ("mistaken.example.com", 443)} & platform.served["any0"].keys()
        platform.wipe()
        platform.upload("mistaken.pfx", certificate("mistaken", day=-1), {"CertificatePassword": "wrong"})
        platform.sweep_once()
        assert ("mistaken.example.com", 443) not in platform.served["any0"]

    def test_what_replaced_it_does_not_bring_it_back(self, platform: Recovering) -> None:
        platform.upload("mistaken.pfx", certificate("mistaken", day=-1), WITH_PASSWORD)
        platform.work(60)
        served = platform.served
        platform.wipe()
        platform.sweep_once()
        is_served(platform, served)


class TestOlderTables:
    """Restored from a copy, while blobs and bundles are as they are now."""

    @pytest.fixture
    def restored(self, platform: Recovering) -> tuple[dict[str, object], Served]:
        copy = platform.copy()
        platform.sleep(HOUR)
        platform.upload("live.pfx", certificate("live", day=-2), WITH_PASSWORD)
        platform.upload("new.pfx", certificate("new"), WITH_PASSWORD)
        platform.upload("mistaken.pfx", certificate("mistaken", day=-2), WITH_PASSWORD)
        platform.delete(ODD)
        platform.work(60)
        platform.sweep_once()
        before, served = platform.state(), platform.served
        platform.restore(copy)
        return before, served

    def test_no_running_agent_goes_back(self, platform: Recovering, restored: tuple[dict[str, object], Served]) -> None:
        before, served = restored
        platform.work(400)
        is_served(platform, served)
        platform.sweep_once()
        is_served(platform, served)
        all_is_as_before(platform, before)

    def test_an_agent_that_starts_is_right_again_by_the_sweep(
        self, platform: Recovering, restored: tuple[dict[str, object], Served]
    ) -> None:
        before, served = restored
        platform.restart_agents()
        platform.sweep_once()
        is_served(platform, served)
        all_is_as_before(platform, before)


class TestOtherLosses:
    def test_queues(self, platform: Recovering) -> None:
        before, served = platform.state(), platform.served
        platform.storage.queue_deletion_s = 40
        for queue in [name for name in platform.storage.queues if name.startswith("cert-agent-")]:
            platform.lose_queue(queue)
        platform.upload("live.pfx", certificate("live", day=-1), WITH_PASSWORD)
        platform.work(100)
        platform.sweep_once()
        served_now = platform.served
        assert served_now["any0"].pop(("live.example.com", 443)) != served["any0"].pop(("live.example.com", 443))
        assert served_now["any0"] == served["any0"]
        assert platform.state()["instances"] == before["instances"]

    def test_bundles(self, platform: Recovering) -> None:
        served = platform.served
        platform.storage.bundles.clear()
        nothing_else_is_served(platform, served)
        platform.sweep_once()
        nothing_else_is_served(platform, served)
        platform.upload("live.pfx", certificate("live", day=-1), WITH_PASSWORD)
        platform.work(30)
        assert platform.state()["uploads"]["live.pfx"][0] is UploadStatus.LIVE

    def test_the_key(self, platform: Recovering) -> None:
        before, served = platform.state(), platform.served
        platform.wipe()
        with platform.key_disabled():
            platform.sweep_once()
            nothing_else_is_served(platform, served)
            platform.sweep_once()
            nothing_else_is_served(platform, served)
        platform.sleep(HOUR)
        platform.sweep_once()
        platform.sweep_once()
        is_served(platform, served)
        all_is_as_before(platform, before)


class TestOrders:
    """What was ordered is still done where nothing was lost."""

    def test_a_machine_of_another_role_lets_go_of_what_was_for_the_one_before(self, platform: Recovering) -> None:
        assert ("web.example.com", 443) in platform.served["web0"]
        platform.stop_agent(0)
        platform.let_pass(5)
        platform.machines[0].role = "api"
        platform.start_agent(0)
        platform.work(30)
        platform.let_pass(300)
        platform.sweep_once()
        platform.work(400)
        assert ("web.example.com", 443) not in platform.served["web0"]


async def test_what_was_reported_before_a_loss_proves_nothing_of_a_row_made_after_it(scene: Scene) -> None:
    await scene.join("web-0")
    for serial in range(3):
        await scene.accepted("a.pfx", "a.example.com", serial=serial)
        await scene.everyone_obeys("web-0")
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE
    scene.storage.tables[BINDINGS_TABLE].clear()
    scene.storage.clock.advance(60)
    await sweep(scene.cloud)
    assert (await scene.record("a.pfx")).status is UploadStatus.ACCEPTED
    await scene.everyone_obeys("web-0")
    assert (await scene.record("a.pfx")).status is UploadStatus.LIVE


class TestWhatIsKeptInPlace:
    """The claims of the certificate before, while a bad renewal stands under its name."""

    @staticmethod
    async def kept(scene: Scene) -> None:
        await scene.accepted("a.pfx", "a.example.com")
        await scene.looked_at(await scene.upload("a.pfx", content=pfx("a.example.com", password="another")))
        assert (await scene.record("a.pfx")).claims

    async def test_is_forgotten_when_a_good_one_is_accepted(self, scene: Scene) -> None:
        await self.kept(scene)
        await scene.accepted("a.pfx", "a.example.com", serial=1)
        assert await kept_by(scene.cloud, "a.pfx") == ()
        scene.storage.clock.advance(DAY)
        assert (await sweep(scene.cloud)).forgotten == 2  # with the certificate that it had kept
        assert place_of("a.pfx") not in scene.storage.bundles

    @pytest.mark.parametrize("goes", [True, False], ids=["deleted", "replaced by a good one"])
    async def test_is_forgotten_too_where_the_look_that_ends_it_is_cut_short(self, scene: Scene, *, goes: bool) -> None:
        await self.kept(scene)
        notice = await (scene.delete("a.pfx") if goes else scene.upload("a.pfx", "a.example.com", serial=1))
        with suppress(UnavailableError):
            await look_at(scene.seen_by(Failing({"note seal": [UnavailableError("away")]})), notice)
        await look_at(scene.cloud, notice)
        assert await kept_by(scene.cloud, "a.pfx") == ()

    async def test_is_not_deleted_while_it_is_kept(self, scene: Scene) -> None:
        await self.kept(scene)
        scene.storage.clock.advance(DAY)
        assert (await sweep(scene.cloud)).forgotten == 0
        assert await kept_by(scene.cloud, "a.pfx")

    async def test_whose_claims_are_not_known_any_more_is_said_to_be_gone_and_holds_nothing_up(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.kept(scene)
        del scene.storage.bundles[place_of("a.pfx")]
        scene.storage.tables[BINDINGS_TABLE].clear()
        await sweep(scene.cloud)
        assert "upload a.pfx: what was accepted before under its name cannot be found again" in caplog.text
        assert (await scene.record("a.pfx")).claims == ()
        scene.storage.clock.advance(60)
        await sweep(scene.cloud)
        assert some(await wholeness(scene.cloud.bundles)).whole

    async def test_is_that_uploads_own(self, scene: Scene) -> None:
        """A note laid under another name, and one that is no note, are none."""
        await self.kept(scene)
        sealed = scene.storage.bundles[place_of("a.pfx")]
        scene.storage.bundles[place_of("b.pfx")] = sealed
        assert await kept_by(scene.cloud, "b.pfx") == ()
        scene.storage.bundles[place_of("b.pfx")] = replace(sealed, pem=b"nothing")
        assert await kept_by(scene.cloud, "b.pfx") == ()
