"""Who is told of a change, of what, and that one instance's trouble is not another's."""

import asyncio

import pytest

from shared.binding import ANY_ROLE, BindingKey
from shared.bounded import gather_bounded
from shared.errors import (
    AccessDeniedError,
    CertcastError,
    QueueBeingDeletedError,
    RefusedForNowError,
    UnavailableError,
)
from shared.function.fanout import HINT_TTL_S, notify, read_fleet, recipients
from shared.messages import BindingsChanged, decode, queue_of
from tests.fakes.processes import Failing
from tests.fakes.virtual_time import VirtualLoop, run
from tests.rigs.scenes import Scene


def key(host: str, role: str = ANY_ROLE) -> BindingKey:
    return BindingKey(role=role, host=host, port=443)


async def platform() -> Scene:
    scene = Scene()
    await scene.join("web1", "web0", role="web")
    await scene.join("api0", role="api")
    await scene.join("all0")
    return scene


class TestRecipients:
    @pytest.mark.parametrize(
        ("keys", "names"),
        [
            ([key("a")], ["all0", "api0", "web0", "web1"]),
            ([key("a", "web")], ["web0", "web1"]),
            ([key("a", "web"), key("a", "api")], ["api0", "web0", "web1"]),
            ([key("a", "none")], []),
        ],
    )
    async def test_are_the_registered_instances_that_a_row_concerns(
        self, keys: list[BindingKey], names: list[str]
    ) -> None:
        scene = await platform()
        assert [instance.id for instance in recipients(await read_fleet(scene.cloud), keys)] == names

    async def test_are_not_those_that_were_stopped(self) -> None:
        scene = await platform()
        await scene.beat("web0", stopped=True)
        assert [instance.id for instance in recipients(await read_fleet(scene.cloud), [key("a", "web")])] == ["web1"]

    async def test_are_also_those_that_have_been_silent_for_a_while(self) -> None:
        """They may only be cut off from the tables; a message more costs nothing."""
        scene = await platform()
        scene.storage.clock.advance(600)
        assert len(recipients(await read_fleet(scene.cloud), [key("a", "web")])) == 2


class TestTelling:
    async def test_each_is_told_once_of_the_rows_that_concern_it(self) -> None:
        scene = await platform()
        keys = [key("b"), key("a", "web"), key("a", "api")]
        instances = recipients(await read_fleet(scene.cloud), keys)
        await notify(scene.cloud, instances, keys, traceparent="trace")
        told = {
            name: [decode(BindingsChanged, message.body or "") for message in messages.values()]
            for name, messages in scene.storage.queues.items()
            if name.startswith("cert-agent-")
        }
        assert told == {
            queue_of("web0"): [BindingsChanged(bindings=(key("b"), key("a", "web")), traceparent="trace")],
            queue_of("web1"): [BindingsChanged(bindings=(key("b"), key("a", "web")), traceparent="trace")],
            queue_of("api0"): [BindingsChanged(bindings=(key("b"), key("a", "api")), traceparent="trace")],
            queue_of("all0"): [BindingsChanged(bindings=(key("b"),), traceparent="trace")],
        }

    async def test_a_hint_that_was_not_taken_is_gone_after_an_hour(self) -> None:
        scene = await platform()
        await notify(scene.cloud, recipients(await read_fleet(scene.cloud), [key("a")]), [key("a")], traceparent="")
        scene.storage.clock.advance(HINT_TTL_S)
        assert await scene.told("all0") == []

    async def test_an_instance_whose_queue_is_gone_is_passed_over(self) -> None:
        scene = await platform()
        instances = recipients(await read_fleet(scene.cloud), [key("a")])
        del scene.storage.queues[queue_of("api0")]
        await notify(scene.cloud, instances, [key("a")], traceparent="")
        assert await scene.told("web1") == [key("a")]

    @pytest.mark.parametrize("kind", [UnavailableError, RefusedForNowError, QueueBeingDeletedError, AccessDeniedError])
    @pytest.mark.parametrize("deaf_ones", [1, 3, 4])
    async def test_a_queue_in_trouble_concerns_its_instance_alone(
        self, deaf_ones: int, kind: type[CertcastError]
    ) -> None:
        scene = await platform()
        deaf = scene.seen_by(Failing({"queue send": [kind("trouble") for _ in range(deaf_ones)]}))
        instances = recipients(await read_fleet(scene.cloud), [key("a")])
        untold = await notify(deaf, instances, [key("a")], traceparent="")
        assert [instance.id for instance in instances if not await scene.told(instance.id)] == list(untold)
        assert len(untold) == deaf_ones

    async def test_many_hosts_make_several_messages_and_few_make_one(self) -> None:
        scene = await platform()
        keys = [key(f"{number:04}{'x' * 240}.example", "api") for number in range(250)]
        await notify(scene.cloud, recipients(await read_fleet(scene.cloud), keys), keys, traceparent="")
        assert 1 < len(scene.storage.queues[queue_of("api0")]) < 5
        assert sorted(await scene.told("api0")) == keys


class TestGatheringBounded:
    def test_results_come_in_order_and_no_more_run_than_allowed(self) -> None:
        async def work(loop: VirtualLoop) -> None:
            running = most = 0

            async def one(number: int) -> int:
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(10 - number % 7)
                running -= 1
                return number

            assert await gather_bounded((one(number) for number in range(50)), limit=5) == list(range(50))
            assert most == 5
            assert loop.time() < 100

        run(work)

    def test_the_first_error_is_raised_after_the_others_have_come_to_rest(self) -> None:
        async def work(_: VirtualLoop) -> None:
            ended: list[int] = []

            async def one(number: int) -> None:
                await asyncio.sleep(number)
                ended.append(number)
                if number in {1, 2}:
                    raise ValueError(str(number))

            with pytest.raises(ValueError, match="1"):
                await gather_bounded(one(number) for number in range(4))
            assert ended == [0, 1, 2, 3]

        run(work)
