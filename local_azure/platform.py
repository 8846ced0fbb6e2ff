"""The whole cloud on one machine: Azurite, the Event Grid relay, the Functions host and N agents, which end together.

`async with LocalPlatform(settings) as cloud:` is all of it; tests stop, kill and start its parts one by one. How each
part works is known to the part's own module.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlencode

from local_azure.agent_process import start_agent
from local_azure.azurite import Endpoints, start_azurite
from local_azure.child_process import appending
from local_azure.component import Component
from local_azure.event_delivery import EventDelivery, Subscription
from local_azure.eventgrid_relay import start_relay
from local_azure.eventgrid_trigger import WEBHOOK_PATH
from local_azure.folder_watch import FolderWatch
from local_azure.functions_process import start_core_tools, start_own_host
from local_azure.host_keys import keys_in
from local_azure.listening import LOOPBACK, PortOffsets
from local_azure.platform_settings import AGENT_PORT_STEP, HTTPS_PORT, PlatformSettings
from local_azure.topic_receiver import TopicReceiver
from shared.account import Account
from shared.config import STORAGE_SETTING, StorageAccess
from shared.key_encryption import FILE_PREFIX, make_key_file
from shared.storage import UPLOADS_CONTAINER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_azure.child_process import ChildEndedError, ChildProcess, OnLine
    from local_azure.eventgrid_relay import EventGridRelay
    from local_azure.host_keys import HostKeys

BLOB_EVENT_FUNCTION = "on_blob_event"
EVENTS = "events"
"""The name under which the Event Grid relay's lines appear."""
TOPIC = "topic"
"""The name under which the events appear that certcast sends out."""
FOLDER = "folder"
"""The name under which changes of a watched folder appear."""

_RELAY_LOG = "certcast.eventgrid"
_TOPIC_LOG = "certcast.topic"
_FOLDER_LOG = "certcast.folder"
_KEY_BYTES = 32
_Part = TypeVar("_Part")


class LocalPlatform:
    """The local cloud, from `start` to `stop`.

    Attributes:
        settings: How it was set up.
        azurite: The storage emulator.
        functions: The Functions host.
        agents: The agents, by number; `agent-0` is the first.
        topic: The Event Grid topic that certcast's own events go to.
    """

    def __init__(self, settings: PlatformSettings) -> None:
        self.settings = settings
        self.azurite = Component("azurite", self._begin_azurite, self._lose)
        self.functions = Component("functions", self._begin_functions, self._lose)
        self.agents = tuple(self._agent(number) for number in range(settings.agents))
        self.topic = TopicReceiver(secrets.token_urlsafe(_KEY_BYTES), settings.on_event)
        self._stack = AsyncExitStack()
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[ChildEndedError] = self._loop.create_future()
        # Ports that were free ones are known, and kept, from the first start.
        self._storage = Endpoints(blob_port=0, queue_port=settings.ports.queue, table_port=settings.ports.table)
        self._functions_port = settings.ports.functions
        self._state = settings.state or Path()
        self._offsets = range(0)
        self._keys: HostKeys | None = None
        self._relay: EventGridRelay | None = None
        self._account: Account | None = None

    async def __aenter__(self) -> Self:
        """Start everything."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.stop()

    @property
    def state(self) -> Path:
        """The folder of storage, logs and keys."""
        return self._state

    @property
    def endpoints(self) -> Endpoints:
        """The storage account as its clients see it: the blob service through the relay."""
        return Endpoints(
            blob_port=self.relay.port, queue_port=self._storage.queue_port, table_port=self._storage.table_port
        )

    @property
    def connection_string(self) -> str:
        """What `certcast upload`, az, Storage Explorer and every SDK take."""
        return self.endpoints.connection_string

    @property
    def functions_url(self) -> str:
        """Address of the Functions host."""
        return f"http://{LOOPBACK}:{self._functions_port}"

    @property
    def keys(self) -> HostKeys:
        """The keys of the Functions host."""
        return _started(self._keys)

    @property
    def relay(self) -> EventGridRelay:
        """The Event Grid relay; its `delivery` counts events and takes faults."""
        return _started(self._relay)

    def tls_address(self, agent: int, port: int = HTTPS_PORT) -> tuple[str, int]:
        """Where an agent's embedded target serves a PortNumber."""
        return (LOOPBACK, port + self._offsets[agent])

    def log_of(self, component: str) -> Path:
        """The log file of `azurite`, `functions`, `events`, `topic`, `agent-0` or another agent."""
        return self._state / "logs" / f"{component}.log"

    async def start(self) -> None:
        """Start everything and return once uploads would be served; leaves nothing behind when that fails.

        Raises:
            ConfigurationError: A setting is wrong, a port is taken, or something is not installed; one line.
            ChildEndedError: A part did not come up.
        """
        try:
            self.settings.ports.check(self.settings.agents)
            self._prepare_state()
            self._reserve_offsets()
            self._capture(_RELAY_LOG, EVENTS)
            self._capture(_TOPIC_LOG, TOPIC)
            self._stack.push_async_callback(self.topic.stop)
            await self.topic.start()
            self._stack.push_async_callback(self.azurite.stop)
            await self.azurite.start()
            access = StorageAccess(connection_string=self._storage.connection_string)
            self._account = await self._stack.enter_async_context(Account(access))
            await self._account.create_all()
            self._stack.push_async_callback(self.functions.stop)
            self._stack.push_async_callback(self._stop_agents)
            if self.settings.folder is not None:
                self._capture(_FOLDER_LOG, FOLDER)
                watch = FolderWatch(self.settings.folder, self._account.queues)
                await watch.start()
                self._stack.push_async_callback(watch.stop)
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._start_functions())
                for agent in self.agents:
                    starting.create_task(agent.start())
        except BaseExceptionGroup as group:
            await self.stop()
            raise group.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything in order: relay, agents, Functions host, storage."""
        await self._stack.aclose()

    async def _start_functions(self) -> None:
        """Start the Functions host, and then the relay, whose events go to it."""
        await self.functions.start()
        self._relay = await start_relay(self._storage, self._delivery(), port=self.settings.ports.blob)
        self._stack.push_async_callback(self._relay.stop)
        await self._relay.delivery.validated()

    async def failure(self) -> ChildEndedError:
        """Wait until a part ends that nobody stopped or killed through this object, and tell which."""
        return await asyncio.shield(self._failure)

    def _lose(self, error: ChildEndedError) -> None:
        if not self._failure.done():
            self._failure.set_result(error)

    def _prepare_state(self) -> None:
        if self.settings.state is None:
            self._state = Path(tempfile.mkdtemp(prefix="certcast-"))
            self._stack.callback(shutil.rmtree, self._state, ignore_errors=True)
        else:
            self._state = self.settings.state.resolve()
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in ("logs", "storage"):
            (self._state / folder).mkdir(mode=0o700, exist_ok=True)
        for old in (self._state / "logs").glob("*.log"):
            old.unlink()
        make_key_file(self._key_file)
        self._keys = keys_in(self._keys_file)

    def _reserve_offsets(self) -> None:
        first = self.settings.ports.agent_offset
        if first is not None:
            self._offsets = range(first, first + AGENT_PORT_STEP * self.settings.agents, AGENT_PORT_STEP)
            return
        reserved = PortOffsets.reserve(self.settings.agents)
        self._stack.callback(reserved.release)
        self._offsets = reserved.offsets

    def _capture(self, logger: str, component: str) -> None:
        """Have the log lines of a part in this process take the way that the other parts' output takes."""
        its_log = logging.getLogger(logger)
        appending(self.log_of(component)).close()
        handler = logging.FileHandler(self.log_of(component), encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        on_line = _OnLine(component, self._line)
        on_line.setFormatter(handler.formatter)
        self._stack.callback(its_log.setLevel, its_log.level)
        its_log.setLevel(logging.INFO)
        for one in (handler, on_line):
            its_log.addHandler(one)
            self._stack.callback(one.close)
            self._stack.callback(its_log.removeHandler, one)

    def _line(self, component: str, line: str) -> None:
        """Hand a line over; comes on any thread, at any time."""
        on_line = self.settings.on_line
        if on_line is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(on_line, component, line)

    def _delivery(self) -> EventDelivery:
        query = urlencode({"functionName": BLOB_EVENT_FUNCTION, "code": self.keys.eventgrid_extension})
        subscription = Subscription(
            endpoint=f"{self.functions_url}{WEBHOOK_PATH}?{query}",
            subject_begins_with=f"/blobServices/default/containers/{UPLOADS_CONTAINER}/",
        )
        return EventDelivery(subscription, schedule=self.settings.schedule, faults=self.settings.faults)

    async def _begin_azurite(self) -> ChildProcess:
        azurite = await start_azurite(
            blob_port=self._storage.blob_port,
            queue_port=self._storage.queue_port,
            table_port=self._storage.table_port,
            location=self._state / "storage",
            log=self.log_of("azurite"),
            on_line=self._line,
        )
        self._storage = azurite.endpoints
        return azurite.process

    async def _begin_functions(self) -> ChildProcess:
        ours = {
            "AzureWebJobsStorage": self._storage.connection_string,
            "CERTCAST_EVENTGRID_TOPIC": self.topic.endpoint,
            "CERTCAST_EVENTGRID_KEY": self.topic.key,
        }
        if self.settings.folder is not None:
            ours["CERTCAST_FOLDER"] = str(self.settings.folder.resolve())
        environment = self._environment(ours, self.settings.function_environment)
        if self.settings.host == "func":
            process, self._functions_port = await start_core_tools(
                self.settings.root,
                port=self._functions_port,
                environment=environment,
                log=self.log_of("functions"),
                on_line=self._line,
            )
        else:
            process, self._functions_port = await start_own_host(
                self.settings.root,
                port=self._functions_port,
                keys_file=self._keys_file,
                environment=environment,
                log=self.log_of("functions"),
                on_line=self._line,
            )
        return process

    def _agent(self, number: int) -> Component:
        name = f"agent-{number}"

        async def begin() -> ChildProcess:
            ours = {
                "CERTCAST_TARGET": "embedded",
                "CERTCAST_EMBEDDED_ADDRESS": LOOPBACK,
                "CERTCAST_EMBEDDED_PORT_OFFSET": str(self._offsets[number]),
                "CERTCAST_HEALTH_PORT": "0",
            }
            return await start_agent(
                name,
                folder=self.settings.root,
                account=_started(self._account),
                environment=self._environment(ours, self.settings.agent_environment),
                log=self.log_of(name),
                on_line=self._line,
            )

        return Component(name, begin, self._lose)

    async def _stop_agents(self) -> None:
        await asyncio.gather(*(agent.stop() for agent in self.agents))

    @property
    def _key_file(self) -> Path:
        return self._state / "key-encryption.key"

    @property
    def _keys_file(self) -> Path:
        return self._state / "functions-keys.json"

    def _environment(self, ours: Mapping[str, str], asked_for: Mapping[str, str]) -> dict[str, str]:
        """A child's environment: this process's own without its storage account, then ours, then what was asked for."""
        # Functions and agents go to Azurite directly: what they write makes no event that anybody wants.
        elsewhere = (STORAGE_SETTING, f"AzureWebJobs{STORAGE_SETTING}")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
        inherited.setdefault("CERTCAST_TRUST", "off")
        common = {
            STORAGE_SETTING: self._storage.connection_string,
            "CERTCAST_KEY_ENCRYPTION_KEY": f"{FILE_PREFIX}{self._key_file}",
            "PYTHONUNBUFFERED": "1",
        }
        return {**inherited, **common, **ours, **asked_for}


class _OnLine(logging.Handler):
    """Hands log records over as lines of a component."""

    def __init__(self, component: str, on_line: OnLine) -> None:
        super().__init__()
        self._component = component
        self._on_line = on_line

    def emit(self, record: logging.LogRecord) -> None:
        self._on_line(self._component, self.format(record))


def _started(part: _Part | None) -> _Part:
    if part is None:
        raise RuntimeError("the local cloud has not been started")
    return part
