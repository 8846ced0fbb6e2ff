"""The whole cloud on one machine: Azurite, the Event Grid relay, the Functions host and N agents, which end together.

`async with LocalPlatform(settings) as cloud:` is all of it; tests stop, kill and start its parts one by one.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlencode

from azure.storage.queue.aio import QueueClient

from local_azure.agent_process import start_agent
from local_azure.eventgrid.delivery import EventDelivery, RetrySchedule, Subscription
from local_azure.eventgrid.relay import EventGridRelay
from local_azure.eventgrid.topic import TopicReceiver
from local_azure.folder_watch import FolderWatch
from local_azure.functions_process import FunctionsProcess
from local_azure.instances import Instances
from local_azure.local_storage import LocalStorage
from local_azure.processes.component import Component
from local_azure.processes.log_lines import LogFiles, captured
from local_azure.proxy.counting import FUNCTION, calling
from local_azure.state_folder import HOST_KEYS, LOGS, STORAGE, child_environment, state_folder
from shared.azure.blobs import UPLOADS_CONTAINER
from shared.upload import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_azure.azurite import StorageEndpoints
    from local_azure.functions_host.keys import HostKeys
    from local_azure.instances import Instance
    from local_azure.platform_settings import PlatformSettings
    from local_azure.processes.child import ChildEndedError, ChildProcess
    from local_azure.proxy.counting import RequestCounter
    from local_azure.proxy.faults import Faults
    from shared.azure.account import Account

# The loggers of the parts in this process, and the names under which their lines appear.
_LOGGERS = {"certcast.eventgrid": "events", "certcast.topic": "topic", "certcast.folder": "folder"}
_Part = TypeVar("_Part")


class LocalPlatform:
    """The local cloud, from `start` to `stop`.

    Attributes:
        settings: How it was set up.
        azurite: The storage emulator.
        functions: The Functions host.
        topic: The Event Grid topic that certcast's own events go to.
    """

    def __init__(self, settings: PlatformSettings) -> None:
        self.settings = settings
        self._storage = LocalStorage(settings, self._lose)
        self.azurite = self._storage.azurite
        self.functions = Component("functions", self._begin_functions, self._lose)
        self.topic = TopicReceiver(secrets.token_urlsafe(), settings.on_event)
        self._stack = AsyncExitStack()
        self._failure: asyncio.Future[ChildEndedError] = asyncio.get_running_loop().create_future()
        self._state = settings.state or Path()
        self._instances: Instances | None = None
        self._host: FunctionsProcess | None = None
        self._relay: EventGridRelay | None = None
        self._account: Account | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def state(self) -> Path:
        """The folder of storage, logs and keys."""
        return self._state

    @property
    def endpoints(self) -> StorageEndpoints:
        """The storage account as its clients see it: the blob service through the relay."""
        return replace(self._storage.endpoints, blob_port=self.relay.port)

    @property
    def connection_string(self) -> str:
        """What `certcast upload`, az, Storage Explorer and every SDK take."""
        return self.endpoints.connection_string

    @property
    def requests(self) -> RequestCounter:
        """Counts what is asked of the storage account, but for what this object asks.

        Raises:
            RuntimeError: The local cloud was not set up to count requests.
        """
        if self._storage.requests is None:
            raise RuntimeError("requests are counted where the settings have count_requests")
        return self._storage.requests

    @property
    def faults(self) -> Faults:
        """What the storage account answers otherwise than Azurite; rules come and go while it runs.

        Raises:
            RuntimeError: The local cloud was not set up to answer as Azure does.
        """
        if self._storage.faults is None:
            raise RuntimeError("the storage account answers otherwise where the settings have as_azure")
        return self._storage.faults

    @property
    def functions_url(self) -> str:
        """Address of the Functions host."""
        return _started(self._host).url

    @property
    def dashboard_url(self) -> str:
        """Address of the dashboard, with the key in it that it asks for."""
        return f"{self.functions_url}/api/dashboard?{urlencode({'code': self.keys.function})}"

    @property
    def keys(self) -> HostKeys:
        """The keys of the Functions host."""
        return _started(self._host).keys

    @property
    def relay(self) -> EventGridRelay:
        """The Event Grid relay; its `delivery` counts events and can withhold them."""
        return _started(self._relay)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances in the order in which they joined, without those that left."""
        return _started(self._instances).all

    @property
    def agents(self) -> tuple[Component, ...]:
        """The agents of these instances; a server beside an agent goes on while the agent is stopped or killed."""
        return tuple(instance.agent for instance in self.instances)

    async def add_instance(self) -> Instance:
        """Have one more instance join, and wait until it serves everything desired.

        Raises:
            ConfigurationError: Its port is taken, or a setting is wrong.
            ChildEndedError: It did not come up.
        """
        return await _started(self._instances).add()

    async def remove_instance(self, name: str) -> None:
        """Have an instance leave in good order, its web server too; no upload waits for it from then on."""
        await _started(self._instances).remove(name)

    def tls_address(self, agent: int, port: int = DEFAULT_PORT) -> tuple[str, int]:
        """Where the instance at this place among `instances` serves a PortNumber."""
        return self.instances[agent].address(port)

    def agent_environment(self, name: str) -> dict[str, str]:
        """What an agent of that name is started with, besides the settings of its target."""
        environment = child_environment(self._state, self._storage.endpoints.connection_string)
        return {**environment, **calling(name), "CERTCAST_INSTANCE": name, "CERTCAST_HEALTH_PORT": "0"}

    async def messages_on(self, queue: str) -> int:
        """Count a queue's messages, those not due yet and those in hand included."""
        async with QueueClient.from_connection_string(self.connection_string, queue) as client:
            return (await client.get_queue_properties()).approximate_message_count or 0

    def log_of(self, component: str) -> Path:
        """The log file of `azurite`, `functions`, `events`, `topic`, `agent-0`, `nginx-0` or another of these."""
        return self._state / LOGS / f"{component}.log"

    async def start(self) -> None:
        """Start everything and return once uploads would be served; leaves nothing behind when that fails.

        Raises:
            ConfigurationError: A setting is wrong, a port is taken, or something is not installed; one line.
            ChildEndedError: A part did not come up.
        """
        try:
            self.settings.check()
            self._prepare_state()
            await self._start_storage()
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._start_functions())
                for instance in self.instances:
                    starting.create_task(instance.start())
        except BaseExceptionGroup as group:
            await self.stop()
            raise group.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything in order: relay, instances, Functions host, storage."""
        await self._stack.aclose()

    async def _start_storage(self) -> None:
        """Start the storage account, and what goes to it before the Function and the agents do."""
        self._stack.push_async_callback(self.topic.stop)
        await self.topic.start()
        self._stack.push_async_callback(self._storage.stop)
        self._account = await self._storage.start(self._state / STORAGE, self._logs)
        self._stack.push_async_callback(self.functions.stop)
        self._stack.push_async_callback(self._stop_instances)
        if self.settings.folder is not None:
            watch = FolderWatch(self.settings.folder, self._account.queues)
            await watch.start()
            self._stack.push_async_callback(watch.stop)

    async def _start_functions(self) -> None:
        """Start the Functions host, and then the relay, whose events go to it."""
        await self.functions.start()
        subscription = Subscription(
            endpoint=_started(self._host).webhook("on_blob_event"),
            subject_begins_with=f"/blobServices/default/containers/{UPLOADS_CONTAINER}/",
            schema=self.settings.event_schema,
        )
        as_azure = self.settings.as_azure
        delivery = EventDelivery(
            subscription,
            schedule=None if as_azure is None else RetrySchedule.of_azure(),
            drop=self.settings.drop_events,
            disorder=None if as_azure is None else as_azure.events,
        )
        self._relay = await EventGridRelay(self._storage.endpoints, delivery).start(self.settings.ports.blob)
        self._stack.push_async_callback(self._relay.stop)
        await delivery.validated()

    async def failure(self) -> ChildEndedError:
        """Wait until a part ends by itself, not stopped or killed through this object; answers which and why."""
        return await asyncio.shield(self._failure)

    def _lose(self, error: ChildEndedError) -> None:
        if not self._failure.done():
            self._failure.set_result(error)

    def _prepare_state(self) -> None:
        self._state = self._stack.enter_context(state_folder(self.settings.state))
        self._host = FunctionsProcess(self.settings, self._state / HOST_KEYS)
        self._logs = self._stack.enter_context(LogFiles(self._state / LOGS, self.settings.on_line))
        for logger, name in _LOGGERS.items():
            self._stack.enter_context(captured(logger, name, self._logs))
        self._instances = Instances(
            self.settings, self._state, begin_agent=self._begin_agent, on_line=self._logs, lost=self._lose
        )
        self._stack.callback(self._instances.release)

    async def _begin_functions(self) -> ChildProcess:
        storage = self._storage.endpoints.connection_string
        environment = child_environment(self._state, storage) | {
            **calling(FUNCTION),
            "AzureWebJobsStorage": storage,
            "CERTCAST_EVENTGRID_TOPIC": self.topic.endpoint,
            "CERTCAST_EVENTGRID_KEY": self.topic.key,
        }
        if self.settings.folder is not None:
            environment["CERTCAST_FOLDER"] = str(self.settings.folder.resolve())
        return await _started(self._host).begin({**environment, **self.settings.function_environment}, self._logs)

    async def _begin_agent(self, name: str, settings: Mapping[str, str]) -> ChildProcess:
        return await start_agent(
            name,
            folder=self.settings.root,
            account=_started(self._account),
            environment={**self.agent_environment(name), **settings},
            on_line=self._logs,
        )

    async def _stop_instances(self) -> None:
        await asyncio.gather(*(instance.stop() for instance in self.instances))


def _started(part: _Part | None) -> _Part:
    if part is None:
        raise RuntimeError("the local cloud has not been started")
    return part
