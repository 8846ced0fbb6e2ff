"""A whole platform in one process that takes its steps one by one: the account, the Function's use cases, one agent."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from _population import Population, Sample
from _results import CannotRunError

from instance_agent.acting import Actor
from instance_agent.agent import Agent
from instance_agent.config import agent_settings
from instance_agent.installing.probe import served_fingerprint
from instance_agent.selection import make_target
from local_azure.azurite import start_azurite
from local_azure.processes.listening import LOOPBACK, port_offsets
from operator_cli.demo.certificates import DEMO_PASSWORD, DemoAuthority
from shared.binding import ANY_ROLE, BindingKey
from shared.function.blob_event import Notice
from shared.function.intake import look_at
from shared.function.results import fold
from shared.messages import RESULTS_QUEUE, InstallReport, decode, queue_of
from shared.state.records import UploadRecord, UploadStatus
from shared.validation.workers import Workers
from tests.rigs.emulator import cloud_on, opened_account
from tests.rigs.rows import registered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from instance_agent.targets.base import BindingTarget
    from shared.azure.account import Account
    from shared.function.cloud import Cloud

DOMAIN = "growth.certcast.example"
PHASES = ("Function: look, claim, tell", "agent: hint to report", "Function: report to status")
_OWN = "web-0"
_TAKEN_FOR_S = 60


@dataclass(frozen=True, slots=True)
class Took:
    """What something took, in milliseconds.

    Attributes:
        ms: By the clock on the wall.
        own_ms: Of processor time in this process, where the Function and the agent are and Azurite is not.
    """

    ms: float
    own_ms: float


async def took(work: Callable[[], Awaitable[object]]) -> Took:
    """Do something, and say what it took."""
    clock, processor = time.perf_counter(), time.process_time()
    await work()
    return Took((time.perf_counter() - clock) * 1000, (time.process_time() - processor) * 1000)


class Platform:
    """The account, the Function and one agent; further instances are registered, stopped and waited for by none.

    Attributes:
        account: The storage account.
        cloud: What the Function acts on.
        instances: Ids of all instances.
    """

    def __init__(self, account: Account, key: Path, population: Population, offset: int, instances: int) -> None:
        self.account = account
        self.cloud: Cloud = cloud_on(account)
        self.cloud = replace(self.cloud, judges=Workers(self.cloud.policy), now=account.clock.now)
        self.instances: Sequence[str] = [_OWN, *(f"web-{number}" for number in range(1, instances))]
        self._population = population
        self._environment = {
            "CERTCAST_STORAGE": "UseDevelopmentStorage=true",
            "CERTCAST_KEY_ENCRYPTION_KEY": f"file:{key}",
            "CERTCAST_INSTANCE": _OWN,
            "CERTCAST_EMBEDDED_ADDRESS": LOOPBACK,
            "CERTCAST_EMBEDDED_PORT_OFFSET": str(offset),
        }
        self._authority = DemoAuthority()
        self._agent: Agent | None = None
        self._target: BindingTarget | None = None
        self._sample: Sample | None = None
        self._held = 0
        self._uploaded = 0

    async def grow(self, size: int) -> None:
        """Have so many certificates there, and an agent that has just started and serves them all."""
        await self.beat()
        if self._sample is None:
            await self._start_agent()
            self._sample = await self._first()
        await self._population.grow(self._sample, range(self._held, size), self.instances)
        self._held = size
        await self.stop_agent()
        await self._start_agent()
        while messages := await self.cloud.queues.receive(RESULTS_QUEUE, limit=32, visibility_s=_TAKEN_FOR_S):
            for message in messages:  # that it serves what it was said to serve
                await self.cloud.queues.done(RESULTS_QUEUE, message)

    async def beat(self) -> None:
        """Heartbeats of all instances."""
        for name in self.instances[1:]:
            await self.account.queues.create(queue_of(name))
            await self.account.state.instances.overwrite(name, registered(name, at=self.cloud.now(), stopped=True))
        if self._agent is not None:
            await self._agent.registration.beat()

    async def one_more(self) -> list[Took]:
        """Upload a certificate for a new host and see it through; what each phase took."""
        self._uploaded += 1
        host = f"new-{self._uploaded}.{DOMAIN}"
        return (await self._through(f"new-{self._uploaded}.pfx", host, self._authority.issue(host).pfx))[1]

    async def _first(self) -> Sample:
        host = f"sample.{DOMAIN}"
        upload, _ = await self._through("sample.pfx", host, self._authority.issue(f"*.{DOMAIN}").pfx)
        row = await self.account.state.bindings.get(BindingKey(role=ANY_ROLE, host=host, port=443))
        [report] = await self.account.state.reports_on(host, 443)
        if row is None:
            raise CannotRunError(f"{host} has no row, though it is served; run it again")
        return Sample(upload=replace(upload, expected=tuple(self.instances)), row=row, report=report)

    async def _through(self, name: str, host: str, pfx: bytes) -> tuple[UploadRecord, list[Took]]:
        etag = await self.cloud.uploads.write(name, pfx, {"HostHeader": host, "CertificatePassword": DEMO_PASSWORD})
        looked = await took(lambda: look_at(self.cloud, Notice(name=name, etag=etag)))
        installed = await took(self._running().drain)
        entered = await took(self._enter)
        record = await self.cloud.state.uploads.get(name)
        if record is None or record.status is not UploadStatus.LIVE:
            raise CannotRunError(f"{name} did not become live: {record and (record.status.value, record.reason)}")
        return record, [looked, installed, entered]

    async def _enter(self) -> None:
        for message in await self.cloud.queues.receive(RESULTS_QUEUE, limit=32, visibility_s=_TAKEN_FOR_S):
            await fold(self.cloud, decode(InstallReport, message.body or ""))
            await self.cloud.queues.done(RESULTS_QUEUE, message)

    def _running(self) -> Agent:
        if self._agent is None:
            raise CannotRunError("no agent runs")
        return self._agent

    async def _start_agent(self) -> None:
        settings = agent_settings(self._environment)
        self._target = make_target("embedded", self._environment)
        now = self.account.clock.now
        actor = Actor(target=self._target, bundles=self.account.bundles, probe=served_fingerprint, now=now)
        self._agent = Agent(
            settings=settings,
            state=self.account.state,
            queues=self.account.queues,
            target=self._target,
            actor=actor,
            now=now,
        )
        await self._target.start()
        await self._agent.registration.register()
        await self._agent.reconcile()

    async def stop_agent(self) -> None:
        """End the agent and its listener."""
        if self._agent is not None and self._target is not None:
            await self._agent.registration.leave()
            await self._target.stop()
            self._agent = self._target = None


@asynccontextmanager
async def platform(instances: int) -> AsyncIterator[Platform]:
    """A platform on an Azurite of its own, with so many instances registered and no certificate yet."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="certcast-")))
        azurite = await start_azurite()
        stack.push_async_callback(azurite.stop)
        account = await stack.enter_async_context(opened_account(azurite.connection_string, folder / "key"))
        population = Population(connection_string=azurite.connection_string, uploads=account.uploads, domain=DOMAIN)
        [offset] = stack.enter_context(port_offsets(1))
        running = Platform(account, folder / "key", population, offset, instances)
        stack.push_async_callback(running.cloud.judges.close)  # type: ignore[attr-defined]
        stack.push_async_callback(running.stop_agent)
        yield running
