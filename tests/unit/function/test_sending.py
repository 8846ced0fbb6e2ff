"""Several outlets: each is sent every event in order, and none is held up, or sent something twice, by another."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.codec import from_entity, to_entity
from shared.errors import CertcastError, RetiredError, ThrottledError, UnavailableError
from shared.function.announcing import announce
from shared.function.cloud import Cloud
from shared.function.in_process import SENT_AT_ONCE
from shared.function.intake import recheck
from shared.function.outbox import Taken, is_overdue, send_overdue
from shared.function.sending import AWAY_S, KEEP_TRYING, LONGEST_PAUSE_S, PLACE_S, RETIRED_S, ROUND_S
from shared.messages import RECHECK_QUEUE, EventType, OutgoingEvent, RecheckUpload, decode
from shared.state.records import UploadRecord, UploadStatus
from tests.fakes.edges import FakeOutlet, FakeStorage, Step, unhindered
from tests.fakes.processes import Failing
from tests.fakes.storage import START
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.some import some
from tests.unit.function.test_outbox import BASE, NAME, stored

ACCEPTED, LIVE = EventType.ACCEPTED, EventType.LIVE
STATUSES = (UploadStatus.ACCEPTED, UploadStatus.LIVE, UploadStatus.PARTIALLY_LIVE)


def with_webhooks(storage: FakeStorage, *names: str, step: Step = unhindered, topic: bool = True) -> Cloud:
    """A process with the topic and webhooks of these names."""
    cloud = storage.cloud(step)
    webhooks = (FakeOutlet([], step, name=name, at_once=False) for name in names)
    return replace(cloud, outlets=(*(cloud.outlets if topic else ()), *webhooks))


def taken_by(cloud: Cloud) -> dict[str, list[EventType]]:
    outlets = [outlet for outlet in cloud.outlets if isinstance(outlet, FakeOutlet)]
    return {outlet.name: [event.kind for event in outlet.events] for outlet in outlets}


async def due(storage: FakeStorage, name: str = NAME) -> Sequence[OutgoingEvent]:
    return some(await storage.state().uploads.get(name)).due


async def tell(cloud: Cloud, *statuses: UploadStatus, name: str = NAME) -> None:
    """Have an upload come to these statuses, one after the other."""
    for status in statuses:
        known = await cloud.state.uploads.get(name) or replace(BASE, name=name)
        await announce(cloud, await stored(cloud, replace(known, status=status, live=1, live_at=BASE.uploaded_at)))


async def drain(storage: FakeStorage, cloud: Cloud) -> int:
    """Take the messages that are visible, all at the same time; answers how many."""
    now = storage.clock()
    ready = {key: each for key, each in storage.queues[RECHECK_QUEUE].items() if each.visible_at <= now}
    for key in ready:
        del storage.queues[RECHECK_QUEUE][key]
    await asyncio.gather(*(recheck(cloud, decode(RecheckUpload, each.body or "")) for each in ready.values()))
    return len(ready)


async def rest(storage: FakeStorage, cloud: Cloud, *, rounds: int = 20, every_s: float = 10) -> None:
    for _ in range(rounds):
        await drain(storage, cloud)
        await asyncio.sleep(every_s)


def failing(name: str, *errors: CertcastError | None) -> Failing:
    return Failing({f"{name} publish": list(errors)})


class TestSeveralOutlets:
    async def test_each_is_sent_every_event_in_order_and_once(self, storage: FakeStorage) -> None:
        cloud = with_webhooks(storage, "a", "b")
        for status in STATUSES:
            await tell(cloud, status)
            while await drain(storage, cloud):
                pass
        kinds = [ACCEPTED, LIVE, EventType.PARTIALLY_LIVE]
        assert taken_by(cloud) == {"topic": kinds, "a": kinds, "b": kinds}
        assert await due(storage) == ()

    async def test_messages_that_are_handled_at_the_same_time_send_nothing_twice(self, storage: FakeStorage) -> None:
        async def slow(what: str) -> None:
            if what == "a publish":
                await asyncio.sleep(0.02)

        cloud = with_webhooks(storage, "a", step=slow)
        await tell(cloud, *STATUSES)
        assert await drain(storage, cloud) == len(STATUSES)
        assert taken_by(cloud)["a"] == [ACCEPTED, LIVE, EventType.PARTIALLY_LIVE]

    @pytest.mark.parametrize("topic", [True, False])
    def test_one_that_is_away_costs_the_others_nothing(self, topic: bool) -> None:  # noqa: FBT001
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            cloud = with_webhooks(
                storage, "down", "up", step=failing("down", *[UnavailableError("away")] * 99), topic=topic
            )
            for status in STATUSES:
                await tell(cloud, status)
                await drain(storage, cloud)
            kinds = [ACCEPTED, LIVE, EventType.PARTIALLY_LIVE]
            assert taken_by(cloud)["up"] == kinds
            await rest(storage, cloud)
            assert taken_by(cloud) == {**({"topic": kinds} if topic else {}), "down": [], "up": kinds}
            assert [event.kind for event in await due(storage)] == kinds
            assert all("up-key" in event.taken and "down-key" not in event.taken for event in await due(storage))
            back = replace(cloud, outlets=with_webhooks(storage, "down", "up", topic=topic).outlets)
            await send_overdue(back, some(await storage.state().uploads.get(NAME)))
            await rest(storage, back, rounds=1)
            assert taken_by(back)["down"] == kinds
            assert taken_by(back)["up"] == []
            assert await due(storage) == ()

        run(work)

    def test_a_slow_webhook_holds_up_no_upload_and_no_other_outlet(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)

            async def slow(what: str) -> None:
                if what == "slow publish":
                    await asyncio.sleep(15)

            cloud = with_webhooks(storage, "slow", "up", step=slow)
            began = loop.time()
            for number in range(30):
                await tell(cloud, UploadStatus.ACCEPTED, name=f"{number}.pfx")
            assert loop.time() == began
            ready = asyncio.create_task(drain(storage, cloud))
            await asyncio.sleep(PLACE_S + 0.01)
            assert len(taken_by(cloud)["up"]) == 30
            await ready
            assert len(taken_by(cloud)["slow"]) == 4, "the others gave their places in the queue back"
            assert len(taken_by(cloud)["topic"]) == 30

        run(work)

    async def test_events_are_made_where_only_a_webhook_is_set(self, storage: FakeStorage) -> None:
        cloud = with_webhooks(storage, "a", topic=False)
        await tell(cloud, UploadStatus.ACCEPTED)
        await drain(storage, cloud)
        assert taken_by(cloud) == {"a": [ACCEPTED]}

    async def test_one_that_is_taken_out_of_the_settings_drops_out(self, storage: FakeStorage) -> None:
        gone = with_webhooks(storage, "gone", step=failing("gone", *[UnavailableError("away")] * 9))
        await tell(gone, UploadStatus.ACCEPTED)
        await drain(storage, gone)
        storage.queues[RECHECK_QUEUE].clear()
        record = some(await storage.state().uploads.get(NAME))
        assert record.due
        today = storage.cloud()
        await send_overdue(today, record)
        await drain(storage, today)
        assert await due(storage) == ()
        assert storage.published == [replace(record.due[0], taken=())], "the topic took it before, and once"

    async def test_one_that_is_put_into_the_settings_is_sent_what_still_waits(self, storage: FakeStorage) -> None:
        away = storage.cloud(failing("topic", *[UnavailableError("away")] * 9))
        await tell(away, UploadStatus.ACCEPTED)
        storage.queues[RECHECK_QUEUE].clear()
        cloud = with_webhooks(storage, "new")
        await send_overdue(cloud, some(await storage.state().uploads.get(NAME)))
        await drain(storage, cloud)
        assert taken_by(cloud) == {"topic": [ACCEPTED], "new": [ACCEPTED]}

    async def test_where_none_is_set_any_more_what_waits_is_dropped_with_a_line(
        self, storage: FakeStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        away = storage.cloud(failing("topic", UnavailableError("away"), UnavailableError("away")))
        await tell(away, UploadStatus.ACCEPTED)
        nowhere = replace(away, outlets=())
        await drain(storage, nowhere)
        assert await due(storage) == ()
        assert f"upload {NAME}: 1 event(s) are dropped, neither a topic nor a webhook is set any more" in caplog.text

    async def test_a_message_about_an_outlet_that_there_is_not_sends_nothing(self, storage: FakeStorage) -> None:
        cloud = with_webhooks(storage, "a")
        await tell(cloud, UploadStatus.ACCEPTED)
        storage.queues[RECHECK_QUEUE].clear()
        await recheck(cloud, RecheckUpload(name=NAME, events=True, outlet="of nobody"))
        assert taken_by(cloud) == {"topic": [ACCEPTED], "a": []}

    def test_a_row_of_an_older_function_says_of_no_outlet_that_it_took_an_event(self) -> None:
        event = OutgoingEvent(event_id="1", kind=LIVE, subject=NAME, at=START, document="{}", taken=("a",))
        columns = to_entity(replace(BASE, due=(event,)))
        [written] = json.loads(str(columns["due"]))
        assert written.pop("taken") == ["a"]
        older = from_entity(UploadRecord, {**columns, "due": json.dumps([written])})
        assert older.due == (replace(event, taken=()),)
        assert Taken(outlets=frozenset({"a", "b"})).entered(older) == older


class TestTrouble:
    def test_a_pause_that_one_asks_for_is_kept_and_is_its_own(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            cloud = with_webhooks(
                storage, "busy", "up", step=failing("busy", ThrottledError("429 of hooks.test", after_s=500))
            )
            for number in range(3):
                await tell(cloud, UploadStatus.ACCEPTED, name=f"{number}.pfx")
            asked_at = loop.time()
            await rest(storage, cloud, rounds=49)
            assert loop.time() == asked_at + 490
            assert {name: len(events) for name, events in taken_by(cloud).items()} == {"topic": 3, "busy": 0, "up": 3}
            await asyncio.sleep(20)
            for name in ("0.pfx", "1.pfx", "2.pfx"):
                await recheck(cloud, RecheckUpload(name=name, events=True))
            assert len(taken_by(cloud)["busy"]) == 3

        run(work)

    def test_a_pause_without_end_is_one_of_a_day(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            cloud = with_webhooks(storage, "busy", step=failing("busy", ThrottledError("429", after_s=1e9)))
            await tell(cloud, UploadStatus.ACCEPTED)
            await drain(storage, cloud)
            [message] = storage.queues[RECHECK_QUEUE].values()
            assert (message.visible_at - storage.clock()).total_seconds() == LONGEST_PAUSE_S
            await asyncio.sleep(LONGEST_PAUSE_S)
            await drain(storage, cloud)
            assert taken_by(cloud)["busy"] == [ACCEPTED]

        run(work)

    def test_one_that_wants_no_more_is_left_alone_for_an_hour_and_each_event_it_misses_is_named(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            cloud = with_webhooks(storage, "gone", "up", step=failing("gone", RetiredError("gone answered 410")))
            for number in range(3):
                await tell(cloud, UploadStatus.ACCEPTED, name=f"{number}.pfx")
            while await drain(storage, cloud):
                pass
            assert taken_by(cloud) == {"topic": [ACCEPTED] * 3, "gone": [], "up": [ACCEPTED] * 3}
            for number in range(3):
                assert await due(storage, f"{number}.pfx") == ()
                assert f"event Certcast.CertificateAccepted for {number}.pfx is given up: gone " in caplog.text
            await asyncio.sleep(RETIRED_S)
            await tell(cloud, UploadStatus.ACCEPTED, name="later.pfx")
            await drain(storage, cloud)
            assert taken_by(cloud)["gone"] == [ACCEPTED]

        run(work)

    def test_what_one_refuses_for_good_is_given_up_there_alone_and_puts_it_into_no_trouble(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            cloud = with_webhooks(storage, "strict", "up", step=failing("strict", CertcastError("strict answered 413")))
            await tell(cloud, *STATUSES[:2])
            await drain(storage, cloud)
            assert taken_by(cloud) == {"topic": [ACCEPTED, LIVE], "strict": [LIVE], "up": [ACCEPTED, LIVE]}
            assert f"{ACCEPTED.value} for {NAME} is given up: strict answered 413" in caplog.text
            assert await due(storage) == ()

        run(work)

    def test_one_that_is_away_for_a_week_is_given_up_for_by_name(self, caplog: pytest.LogCaptureFixture) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            away = [UnavailableError("webhook hooks.test answered 500")] * 99
            cloud = with_webhooks(storage, "down", step=failing("down", *away))
            await tell(cloud, UploadStatus.ACCEPTED)
            await rest(storage, cloud, rounds=10)
            await asyncio.sleep(KEEP_TRYING.total_seconds())
            record = some(await storage.state().uploads.get(NAME))
            assert is_overdue(record, storage.clock())
            await send_overdue(cloud, record)
            await drain(storage, cloud)
            assert await due(storage) == ()
            assert f"{ACCEPTED.value} for {NAME} is given up: webhook hooks.test answered 500" in caplog.text

        run(work)

    def test_many_that_wait_for_one_that_is_away_ask_it_once_in_a_while(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)
            tried = 0

            async def refuse(what: str) -> None:
                nonlocal tried
                if what == "down publish":
                    tried += 1
                    raise UnavailableError("away")

            cloud = with_webhooks(storage, "down", step=refuse)
            for number in range(50):
                await tell(cloud, UploadStatus.ACCEPTED, name=f"{number}.pfx")
            await drain(storage, cloud)
            assert tried <= SENT_AT_ONCE
            await asyncio.sleep(AWAY_S - 1)
            await recheck(cloud, RecheckUpload(name="0.pfx", events=True))
            assert tried <= SENT_AT_ONCE

        run(work)

    def test_a_long_row_of_events_for_a_slow_one_is_sent_by_several_messages(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            storage = FakeStorage(loop.clock)

            async def slow(what: str) -> None:
                if what == "slow publish":
                    await asyncio.sleep(14)

            cloud = with_webhooks(storage, "slow", step=slow, topic=False)
            await tell(cloud, *STATUSES * 3)
            storage.queues[RECHECK_QUEUE].clear()
            began = loop.time()
            await recheck(cloud, RecheckUpload(name=NAME, events=True))
            assert loop.time() - began < ROUND_S + 15
            assert 0 < len(taken_by(cloud)["slow"]) < len(STATUSES) * 3
            while await drain(storage, cloud):
                pass
            assert len(taken_by(cloud)["slow"]) == len(STATUSES) * 3
            assert await due(storage) == ()

        run(work)
