import asyncio
import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from azure.core.exceptions import ResourceNotFoundError
from azure.identity.aio import DefaultAzureCredential
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from yarl import URL

from local_azure.functions_host.host import FunctionsHost
from local_azure.functions_host.index import functions_of
from local_azure.functions_host.keys import HostKeys, make_keys
from local_azure.functions_host.settings import Connection, HostSettings, QueueSettings
from shared.errors import ConfigurationError
from tests.rigs.emulator import Emulator

QUICK = QueueSettings(max_polling_interval_s=0.1)


@dataclass
class Seen:
    """What a function under test saw, and a way to wait for it."""

    values: list[Any] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, value: object) -> None:
        self.values.append(value)
        self._changed.set()

    async def count(self, number: int) -> list[Any]:
        async with asyncio.timeout(20):
            while len(self.values) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.values


@dataclass
class Hosted:
    """A running host, and a client that knows its keys."""

    host: FunctionsHost
    url: str
    keys: HostKeys
    client: aiohttp.ClientSession

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        async with self.client.post(f"{self.url}{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.client.get(f"{self.url}{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def event(self, function: str, body: object, kind: str = "Notification", **headers: str) -> tuple[int, str]:
        path = f"/runtime/webhooks/EventGrid?functionName={function}&code={self.keys.eventgrid_extension}"
        return await self.post(path, body, **{"aeg-event-type": kind}, **headers)


@asynccontextmanager
async def hosted(
    app: func.FunctionApp, settings: HostSettings | None = None, environment: dict[str, str] | None = None
) -> AsyncIterator[Hosted]:
    module = ModuleType("function_app")
    vars(module)["app"] = app
    keys = make_keys()
    host = FunctionsHost(Path(), functions_of(module), settings or HostSettings(queues=QUICK), environment or {}, keys)
    port = await host.start(address="127.0.0.1", port=0)
    try:
        async with aiohttp.ClientSession() as client:
            yield Hosted(host=host, url=f"http://127.0.0.1:{port}", keys=keys, client=client)
    finally:
        await host.stop()


@pytest.mark.parametrize(
    ("client_id", "chosen"), [(None, {}), ("the-functions", {"managed_identity_client_id": "the-functions"})]
)
async def test_without_a_client_id_the_environment_names_the_identity(
    monkeypatch: pytest.MonkeyPatch, client_id: str | None, chosen: dict[str, str]
) -> None:
    given: list[dict[str, Any]] = []

    def made(**options: Any) -> Any:
        given.append(options)
        return DefaultAzureCredential(**options)

    monkeypatch.setattr("local_azure.functions_host.host.DefaultAzureCredential", made)
    host = FunctionsHost(Path(), [], HostSettings(queues=QUICK), {}, make_keys())
    try:
        await host._service(Connection(queue_url="https://shop.queue.core.windows.net", client_id=client_id))
    finally:
        await host.stop()
    assert given == [chosen]


def event(number: int = 1, **data: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "topic": "t",
        "subject": f"/blobServices/default/containers/c/blobs/{number}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-01-01T00:00:00Z",
        "data": data,
        "dataVersion": "",
    }


def taking_events(seen: Seen) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.event_grid_trigger(arg_name="event")
    async def take(event: func.EventGridEvent) -> None:
        seen.add(event)
        if event.get_json().get("fail"):
            raise ValueError("no luck today")

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
    async def tick(timer: func.TimerRequest) -> None:
        seen.add(timer)

    return app


# Event Grid


async def test_the_handshake_is_answered_with_the_code() -> None:
    async with hosted(taking_events(Seen())) as host:
        body = [{"eventType": "x", "data": {"validationCode": "512d38b6"}}]
        assert await host.event("take", body, "SubscriptionValidation") == (200, '{"validationResponse": "512d38b6"}')
        alone = {"type": "x", "data": json.dumps({"validationCode": "512d38b6"})}
        assert await host.event("take", alone, "SubscriptionValidation") == (200, '{"validationResponse": "512d38b6"}')


async def test_each_event_of_a_notification_is_one_invocation() -> None:
    seen = Seen()
    async with hosted(taking_events(seen)) as host:
        assert (await host.event("take", [event(1), event(2)]))[0] == 202
        assert sorted(one.id for one in await seen.count(2)) == ["1", "2"]


async def test_one_failure_fails_the_whole_notification_and_tells_why() -> None:
    async with hosted(taking_events(Seen())) as host:
        status, text = await host.event("take", [event(1), event(2, fail=True)])
        assert status == 500
        assert text.startswith("ValueError: no luck today")


async def test_a_cloud_event_comes_alone_and_after_its_own_handshake() -> None:
    app, seen = func.FunctionApp(), Seen()

    @app.event_grid_trigger(arg_name="event")
    async def take(event: func.CloudEvent) -> None:
        seen.add(event)

    async with hosted(app) as host:
        path = f"{host.url}/runtime/webhooks/eventgrid?functionName=take&code={host.keys.eventgrid_extension}"
        for asked, allowed in (
            ({"WebHook-Request-Origin": "eventgrid.azure.net"}, "eventgrid.azure.net"),
            ({"WebHook-Request-Origin": "eventgrid.azure.cn"}, "eventgrid.azure.cn"),
            ({"WebHook-Request-Origin": "attacker.example"}, "eventgrid.azure.net"),
            ({}, "eventgrid.azure.net"),
        ):
            async with host.client.options(path, headers=asked) as answer:
                assert (answer.status, answer.headers["WebHook-Allowed-Origin"]) == (200, allowed)
        cloud = {
            "specversion": "1.0",
            "id": "7",
            "source": "s",
            "type": "t",
            "time": "2026-01-01T00:00:00Z",
            "data": {},
        }
        for body, kind in ((cloud, "application/cloudevents+json"), ([cloud], "application/cloudevents-batch+json")):
            assert (await host.event("take", body, **{"Content-Type": f"{kind}; charset=utf-8"}))[0] == 202
        assert [one.id for one in await seen.count(2)] == ["7", "7"]


@pytest.mark.parametrize("wanted", [str, bytes])
async def test_a_function_that_wants_text_is_given_the_event_as_it_came(wanted: type) -> None:
    app, seen = func.FunctionApp(), Seen()

    async def take(event: Any) -> None:
        seen.add(event)

    take.__annotations__["event"] = wanted
    app.event_grid_trigger(arg_name="event")(take)
    odd = {"specversion": "1.0", "self": 1, "time": "tomorrow"}
    async with hosted(app) as host:
        assert (await host.event("take", [odd, event(2)]))[0] == 202
        assert [json.loads(text) for text in await seen.count(2)] == [odd, event(2)]


async def test_the_webhook_wants_its_key_and_the_header_beats_the_query() -> None:
    async with hosted(taking_events(Seen())) as host:
        path = "/runtime/webhooks/eventgrid?functionName=take"
        kind = {"aeg-event-type": "Unsubscribe"}
        assert (await host.post(path, **kind))[0] == 401
        assert (await host.post(f"{path}&code=wrong", **kind))[0] == 401
        assert (await host.post(f"{path}&code={host.keys.function}", **kind))[0] == 401
        assert (await host.post(f"{path}&code={host.keys.eventgrid_extension}", **kind))[0] == 202
        assert (await host.post(f"{path}&code={host.keys.master}", **kind))[0] == 202
        right = {"x-functions-key": host.keys.eventgrid_extension}
        assert (await host.post(f"{path}&code=wrong", **kind, **right))[0] == 202
        right = {"x-functions-key": "wrong"}
        assert (await host.post(f"{path}&code={host.keys.eventgrid_extension}", **kind, **right))[0] == 401


async def test_a_function_without_an_event_grid_trigger_cannot_be_found() -> None:
    async with hosted(taking_events(Seen())) as host:
        assert await host.event("none", [event()]) == (404, "cannot find function: 'none'")
        assert await host.event("tick", [event()]) == (404, "cannot find function: 'tick'")
        assert await host.event("Take", [event()]) == (404, "cannot find function: 'Take'")


async def test_a_request_without_events_is_done_with() -> None:
    seen = Seen()
    async with hosted(taking_events(seen)) as host:
        assert await host.event("take", []) == (202, "")
    assert seen.values == []


async def test_another_kind_of_event_is_a_bad_request_and_what_cannot_be_read_a_failure() -> None:
    async with hosted(taking_events(Seen())) as host:
        assert await host.event("take", [event()], "Something") == (400, "")
        unreadable: list[object] = [[1], "text", None]
        for body in unreadable:
            assert (await host.event("take", body))[0] == 500
        codeless: list[object] = [[], [{"data": {}}], [{"data": None}], {}, {"data": "x"}, {"data": "[]"}]
        for body in codeless:
            assert (await host.event("take", body, "SubscriptionValidation"))[0] == 500


# Queues


@dataclass
class Queues:
    """A queue of its own for a test, and its poison queue."""

    name: str
    work: QueueClient
    poison: QueueClient
    environment: dict[str, str]

    async def send(self, *texts: str) -> None:
        for text in texts:
            await self.work.send_message(base64.b64encode(text.encode()).decode())

    async def length(self) -> int:
        return (await self.work.get_queue_properties()).approximate_message_count or 0

    async def poisoned(self, number: int) -> list[str]:
        async with asyncio.timeout(20):
            while True:
                try:
                    messages = await self.poison.peek_messages(max_messages=32)
                except ResourceNotFoundError:
                    messages = []
                if len(messages) == number:
                    return [message.content for message in messages]
                await asyncio.sleep(0.02)

    async def emptied(self) -> None:
        async with asyncio.timeout(20):
            while await self.length():  # noqa: ASYNC110 - a queue has no event
                await asyncio.sleep(0.02)


@pytest.fixture
async def queues(azurite: Emulator) -> AsyncIterator[Queues]:
    name = f"q{uuid.uuid4().hex}"
    async with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        work = await service.create_queue(name)
        environment = {"STORAGE": azurite.connection_string, "QUEUE": name}
        yield Queues(name=name, work=work, poison=service.get_queue_client(f"{name}-poison"), environment=environment)


def taking_messages(take: Any) -> func.FunctionApp:
    app = func.FunctionApp()
    app.function_name("take")(app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="STORAGE")(take))
    return app


def settings(**queue_settings: Any) -> HostSettings:
    return HostSettings(queues=QueueSettings(**{"max_polling_interval_s": 0.1, **queue_settings}))


async def test_a_message_reaches_its_function_decoded_and_leaves_the_queue(queues: Queues) -> None:
    seen = Seen()

    async def take(message: func.QueueMessage) -> None:
        seen.add((message.get_body(), message.dequeue_count, message.id, message.insertion_time))

    async with hosted(taking_messages(take), environment=queues.environment):
        await queues.send('{"version": 1}')
        ((body, count, number, inserted),) = await seen.count(1)
        await queues.emptied()
    assert (body, count) == (b'{"version": 1}', 1)
    assert number
    assert isinstance(inserted, datetime)
    assert inserted.tzinfo is not None


async def test_a_failed_message_is_tried_again_and_then_poison(queues: Queues) -> None:
    seen = Seen()

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.dequeue_count)
        raise ValueError("never")

    async with hosted(taking_messages(take), settings(max_dequeue_count=3), queues.environment):
        await queues.send("bad")
        assert await queues.poisoned(1) == [base64.b64encode(b"bad").decode()]
        await queues.emptied()
    assert seen.values == [1, 2, 3]


async def test_a_message_that_failed_rests_before_it_is_tried_again(queues: Queues) -> None:
    moments = Seen()

    async def take(message: func.QueueMessage) -> None:
        moments.add(asyncio.get_running_loop().time())
        if message.dequeue_count == 1:
            raise ValueError("once")

    async with hosted(taking_messages(take), settings(visibility_timeout_s=2), queues.environment):
        await queues.send("once")
        first, second = await moments.count(2)
        await queues.emptied()
    assert second - first > 0.9  # storage counts whole seconds


async def test_a_message_that_is_not_base64_is_poison_at_once(queues: Queues) -> None:
    seen = Seen()

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.get_body())

    async with hosted(taking_messages(take), environment=queues.environment):
        await queues.work.send_message("{not base64}")
        assert await queues.poisoned(1) == ["{not base64}"]
        await queues.emptied()
    assert seen.values == []


async def test_messages_may_be_plain_text_where_host_json_says_so(queues: Queues) -> None:
    seen = Seen()

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.get_body())

    async with hosted(taking_messages(take), settings(base64=False), queues.environment):
        await queues.work.send_message("plain ü")
        assert await seen.count(1) == ["plain ü".encode()]


async def test_a_message_stays_hidden_for_as_long_as_its_function_runs(queues: Queues) -> None:
    began, seen, release = asyncio.Event(), Seen(), asyncio.Event()

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.dequeue_count)
        began.set()
        await release.wait()

    async with hosted(taking_messages(take), settings(invisibility_s=2), queues.environment):
        await queues.send("slow")
        await began.wait()
        await asyncio.sleep(5)  # more than twice the time it would be hidden without a renewal
        assert seen.values == [1]
        release.set()
        await queues.emptied()  # with the pop receipt that the last renewal gave
    assert seen.values == [1]


async def test_no_more_messages_are_in_hand_than_host_json_allows(queues: Queues) -> None:
    running, most, done = 0, 0, Seen()

    async def take(message: func.QueueMessage) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        done.add(message.id)

    await queues.send(*map(str, range(40)))
    async with hosted(taking_messages(take), settings(batch_size=4, new_batch_threshold=2), queues.environment):
        assert len(set(await done.count(40))) == 40
    assert 4 <= most <= 6


async def test_a_queue_that_is_not_there_yet_is_waited_for_quietly(
    queues: Queues, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.get_body())

    await queues.work.delete_queue()
    async with hosted(taking_messages(take), environment=queues.environment):
        await asyncio.sleep(0.5)
        await queues.work.create_queue()
        await queues.send("late")
        assert await seen.count(1) == [b"late"]
    assert [record for record in caplog.records if record.levelname != "INFO" and "certcast" in record.name] == []


async def test_a_function_that_runs_when_the_host_stops_comes_to_its_end(queues: Queues) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def take(message: func.QueueMessage) -> None:
        began.set()
        await asyncio.sleep(0.3)
        assert message.dequeue_count == 1
        ended.set()

    async with hosted(taking_messages(take), environment=queues.environment):
        await queues.send("last")
        await began.wait()
    assert ended.is_set()
    await queues.emptied()


async def test_storage_that_is_out_of_reach_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def take(message: func.QueueMessage) -> None:
        raise AssertionError(message)

    gone = (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;"
        "QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;"
    )
    async with hosted(taking_messages(take), environment={"STORAGE": gone, "QUEUE": "q"}):
        async with asyncio.timeout(20):
            while not any("cannot be read" in record.getMessage() for record in caplog.records):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (403, "AuthorizationPermissionMismatch", "stops"),
        (403, "AuthenticationFailed", "stops"),
        (400, "InvalidHeaderValue", "stops"),
        (404, "QueueNotFound", "goes on"),
        (409, "QueueBeingDeleted", "goes on"),
        (503, "ServerBusy", "goes on"),
    ],
)
async def test_a_refusal_of_a_triggers_queue_stops_the_host_and_what_passes_does_not(
    status: int, code: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Seen()

    async def refuse(request: web.Request) -> web.Response:
        asked.add(request.path)
        return web.Response(status=status, headers={"x-ms-error-code": code})

    async def take(message: func.QueueMessage) -> None:
        raise AssertionError(message)

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{path:.*}", refuse)
    async with server:
        text = f"AccountName=a;AccountKey=a2V5;QueueEndpoint={server.make_url('/a')};"
        async with hosted(taking_messages(take), environment={"STORAGE": text, "QUEUE": "refused"}) as host:
            if outcome == "stops":
                await asyncio.wait_for(host.host.over.wait(), 20)
            else:
                await asked.count(3)
    reason = (
        f"queue refused of function take: it cannot be read ({code}): see its role assignments in docs/deploy.md; "
        "the Functions host stops, as Azure's does"
    )
    assert host.host.failure == (reason if outcome == "stops" else "")
    assert (reason in [record.getMessage() for record in caplog.records]) is (outcome == "stops")


async def test_a_queue_whose_poison_queue_would_have_no_valid_name_has_none(azurite: Emulator) -> None:
    seen, name = Seen(), f"q{uuid.uuid4().hex}".ljust(57, "q")

    async def take(message: func.QueueMessage) -> None:
        seen.add(message.dequeue_count)
        raise ValueError("never")

    environment = {"STORAGE": azurite.connection_string, "QUEUE": name}
    async with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        work = await service.create_queue(name)
        async with hosted(taking_messages(take), settings(max_dequeue_count=1), environment) as host:
            await work.send_message(base64.b64encode(b"bad").decode())
            await seen.count(1)
            await asyncio.sleep(1)
        assert host.host.failure == ""
        assert (await work.get_queue_properties()).approximate_message_count == 1, "it stays, hidden"
        assert [queue.name async for queue in service.list_queues(name_starts_with=name)] == [name]
    assert seen.values == [1]


async def test_a_missing_setting_of_a_trigger_is_one_line() -> None:
    async def take(message: func.QueueMessage) -> None:
        raise AssertionError(message)

    with pytest.raises(ConfigurationError, match="function take refers to the setting QUEUE"):
        async with hosted(taking_messages(take)):
            pass
    with pytest.raises(ConfigurationError, match="function take needs the connection STORAGE"):
        async with hosted(taking_messages(take), environment={"QUEUE": "q"}):
            pass


# Timers


def ticking(schedule: str, seen: Seen, *, at_start: bool = False) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule=schedule, run_on_startup=at_start)
    async def tick(timer: func.TimerRequest) -> None:
        seen.add(timer.past_due)

    return app


async def test_a_timer_runs_on_its_schedule_which_may_be_a_setting() -> None:
    seen = Seen()
    async with hosted(ticking("%EVERY%", seen), environment={"EVERY": "* * * * * *"}):
        assert await seen.count(2) == [False, False]


async def test_a_timer_may_run_when_the_host_starts() -> None:
    seen = Seen()
    async with hosted(ticking("0 0 0 1 1 *", seen, at_start=True)):
        await seen.count(1)


async def test_a_wrong_schedule_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match="function tick: the schedule 'hourly' has 1 fields"):
        async with hosted(ticking("hourly", Seen())):
            pass


async def test_any_function_without_an_http_trigger_can_be_run_now_with_the_master_key(queues: Queues) -> None:
    seen, app = Seen(), func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
    async def tick(timer: func.TimerRequest) -> None:
        seen.add(timer.past_due)

    @app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="STORAGE")
    async def take(message: func.QueueMessage) -> None:
        seen.add(message.get_body())

    @app.event_grid_trigger(arg_name="event")
    async def notice(event: func.EventGridEvent) -> None:
        seen.add(event.id)

    @app.route()
    async def hello(req: func.HttpRequest) -> str:
        return str(req.method)

    async with hosted(app, environment=queues.environment) as host:
        master = {"x-functions-key": host.keys.master}
        assert (await host.post("/admin/functions/tick", {}))[0] == 401
        assert (await host.post("/admin/functions/tick", {}, **{"x-functions-key": host.keys.function}))[0] == 401
        assert (await host.post("/admin/functions/none", {}, **master))[0] == 404
        assert (await host.post("/admin/functions/hello", {}, **master))[0] == 400
        assert (await host.post("/admin/functions/take", {"input": 1}, **master))[0] == 400
        assert (await host.post("/admin/functions/tick", {}, **master))[0] == 202
        assert (await host.post("/admin/functions/take", {"input": "text"}, **master))[0] == 202
        assert (await host.post("/admin/functions/notice", {"input": json.dumps(event(9))}, **master))[0] == 202
        assert sorted(await seen.count(3), key=str) == sorted([False, b"text", "9"], key=str)


# HTTP


async def test_http_functions_are_found_by_route_method_and_key() -> None:
    app = func.FunctionApp()

    @app.route("items/{id:int}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
    async def item(req: func.HttpRequest) -> func.HttpResponse:
        answer = {"id": req.route_params["id"], "q": req.params.get("q"), "h": req.headers.get("X-Own")}
        return func.HttpResponse(json.dumps(answer), mimetype="application/json", headers={"X-Answer": "a"})

    @app.route("items/{*rest}", methods=["POST"])
    def store(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(req.get_body()[::-1], status_code=201)

    @app.route("admin", auth_level=func.AuthLevel.ADMIN)
    async def only_admin(req: func.HttpRequest) -> str:
        return f"{req.method} by the admin"

    @app.route("broken", auth_level=func.AuthLevel.ANONYMOUS)
    async def broken(req: func.HttpRequest) -> str:
        raise ValueError(req.url)

    @app.route("odd", auth_level=func.AuthLevel.ANONYMOUS)
    async def odd(req: func.HttpRequest) -> Any:
        return None if req.method == "GET" else {"not": "an answer"}

    async with hosted(app) as host:
        async with host.client.get(f"{host.url}/API/Items/42?q=a%20b", headers={"x-own": "ü"}) as answer:
            assert (answer.status, answer.headers["X-Answer"]) == (200, "a")
            assert answer.content_type == "application/json"
            assert await answer.json() == {"id": "42", "q": "a b", "h": "ü"}
        assert (await host.get("/api/items/x"))[0] == 404
        assert (await host.get("/items/42"))[0] == 404
        assert (await host.post("/api/items/a/b", "x"))[0] == 401
        assert await host.post(f"/api/items/a/b?code={host.keys.function}", "abc") == (201, '"cba"')
        assert (await host.get("/api/admin", **{"x-functions-key": host.keys.function}))[0] == 401
        assert await host.get("/api/admin", **{"x-functions-key": host.keys.master}) == (200, "GET by the admin")
        assert await host.get("/api/broken") == (500, "")
        assert (await host.get("/api/odd"))[0] == 204
        assert (await host.post("/api/odd"))[0] == 500


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/items", "items {}"),
        ("/API/Items/", "items {}"),
        ("/api/items/7", 'named {"name": "7"}'),
        ("/api/items/a.pfx", 'named {"name": "a.pfx"}'),
        ("/api/items/a%20b%2Fc", 'named {"name": "a b%2Fc"}'),
        ("/api/items/a/b/", 'rest {"rest": "a/b/"}'),
        ("/api/items/a//b", 'rest {"rest": "a//b"}'),
        ("/api/items/a%252Fb%FF", 'named {"name": "a%2Fb%FF"}'),
        ("/api/numbers", "Anything {}"),
        ("/api/numbers/7", 'Anything {"rest": "7"}'),  # upper-case Y comes before an underscore
        ("/api/items/a%0A/b", 'rest {"rest": "a\\n/b"}'),
        ("/api/optional", "optional {}"),
        ("/api/optional/1", 'optional {"id": "1"}'),
        ("/api/files/shop.pfx", 'mixed {"name": "shop", "ending": "pfx"}'),
        ("/api/v2/x", 'version {"number": "2"}'),
    ],
)
async def test_of_routes_that_match_the_first_by_its_functions_name_is_taken(path: str, answer: str) -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    for name, route in (
        ("rest", "items/{*rest}"),
        ("named", "items/{name}"),
        ("number", "/items/{id:int}/"),
        ("an_integer", "numbers/{id:int}"),
        ("Anything", "numbers/{*rest}"),
        ("items", "items"),
        ("optional", "optional/{id?}"),
        ("mixed", "files/{name}.{ending}"),
        ("version", "v{number:int}/x"),
    ):

        @app.function_name(name)
        @app.route(route)
        async def answered(req: func.HttpRequest, context: func.Context) -> str:
            return f"{context.function_name} {json.dumps(dict(req.route_params))}"

    async with hosted(app) as host, host.client.get(URL(f"{host.url}{path}", encoded=True)) as said:
        assert await said.text() == answer


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/itemsx",
        "/api//items",
        "/api/items//",
        "/api/files/shop",
        "/api/v2",
        "/api/vx/x",
        "/api/optional/1/2",
    ],
)
async def test_a_path_that_no_route_has_is_not_found(path: str) -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    for route in ("items", "optional/{id?}", "files/{name}.{ending}", "v{number:int}/x"):

        @app.function_name(route.partition("/")[0].partition("{")[0])
        @app.route(route, methods=["GET"])
        async def answered(req: func.HttpRequest) -> str:
            raise AssertionError(req.url)

    async with hosted(app) as host:
        assert await host.get(path) == (404, "")
        assert await host.post("/api/items") == (404, ""), "with another method either"


async def test_a_function_gets_a_query_without_its_empty_values_and_with_those_of_one_name_joined() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route("query")
    async def query(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(json.dumps(dict(req.params)))

    async with hosted(app) as host:
        status, text = await host.get("/api/query?a=1&empty=&A=2&b=%20&c")
        assert (status, json.loads(text)) == (200, {"a": "1,2", "b": " "})


async def test_cookies_and_the_route_prefix_are_the_apps_own() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route("{name?}")
    async def hello(req: func.HttpRequest) -> func.HttpResponse:
        answer = func.HttpResponse(f"hello {req.route_params.get('name', 'stranger')}")
        answer.headers.add("Set-Cookie", "a=1; Path=/")
        answer.headers.add("Set-Cookie", "b=2")
        return answer

    async with hosted(app, HostSettings(route_prefix="")) as host, host.client.get(host.url) as answer:
        assert await answer.text() == "hello stranger"
        assert sorted(answer.headers.getall("Set-Cookie")) == ["a=1; Path=/", "b=2"]


@pytest.mark.parametrize("route", ["a/{b:odd}", "a/{b=1}", "a/{b", "a/b}"])
async def test_a_route_that_makes_no_sense_is_one_line(route: str) -> None:
    app = func.FunctionApp()

    @app.route(route)
    async def hello(req: func.HttpRequest) -> str:
        return str(req.method)

    with pytest.raises(ConfigurationError, match=f"function hello: the route 'api/{re.escape(route)}' has"):
        async with hosted(app):
            pass
