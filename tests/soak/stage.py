"""Where a soak takes place: the local cloud on three real servers, and what is known of it while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local_azure.as_azure import AsAzure
from local_azure.eventgrid.delivery import Disorder
from local_azure.instances import Instance
from local_azure.platform import LocalPlatform
from local_azure.platform_settings import FREE_PORTS, PlatformSettings
from local_azure.processes.child import OnLine
from operator_cli.handshake import certificate_shown
from shared.azure.account import Account
from shared.config import StorageAccess
from shared.upload import DEFAULT_PORT
from tests.soak.drifts import Drifts
from tests.soak.logs import Logs
from tests.soak.model import Model

TARGETS = ("nginx", "haproxy", "caddy")
PROOF_CYCLE_S = 15
_CALMED_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a soak is to be.

    Attributes:
        seconds: How long something is done.
        seed: Decides what.
        mean_s: Mean seconds between two things.
        blocks: Whether nginx is reloaded for each change, though it has its Lua module.
        state: Folder for storage and logs, kept; None for a temporary one.
        settle_s: How long everything may take to come right at the end.
        answers_lost: Which part of the requests to the storage account is carried out without an answer, and which
            part is refused as busy.
    """

    seconds: float
    seed: int
    mean_s: float = 1.5
    blocks: bool = False
    state: Path | None = None
    settle_s: float = 180.0
    answers_lost: float = 0.005

    def platform(self, on_line: OnLine) -> PlatformSettings:
        """The local cloud for it."""
        return PlatformSettings(
            on_line=on_line,
            agents=len(TARGETS),
            targets=TARGETS,
            ports=FREE_PORTS,
            state=self.state,
            as_azure=AsAzure(
                busy=self.answers_lost,
                lost=self.answers_lost,
                seed=self.seed,
                events=Disorder(doubled=0.05, late=0.05, late_s=5.0),
            ),
            agent_environment={"CERTCAST_PROOF_CYCLE": str(PROOF_CYCLE_S)},
            own_environment={0: {"CERTCAST_NGINX_MODE": "blocks"}} if self.blocks else {},
        )


@dataclass(slots=True, kw_only=True)
class Disturbance:
    """When the soak disturbed one server; the end is not known while it does.

    Attributes:
        instance: Which instance's.
        why: By what.
        began, ended: Seconds of the soak's clock.
    """

    instance: str
    why: str
    began: float
    ended: float = float("inf")


@dataclass(slots=True, kw_only=True)
class Stage:
    """A local cloud that runs, and the books that are kept of it.

    Attributes:
        options: What the soak is to be.
        platform: The local cloud.
        account: The storage account as its clients see it.
        logs: What its parts print.
        drifts: What was changed by hand.
        model: What must be served.
        disturbances: When the soak itself disturbed a server.
        changed: When what must be served for a host was last changed, by host.
        wrong: What is wrong already, in sentences.
    """

    options: Options
    platform: LocalPlatform
    account: Account
    logs: Logs
    drifts: Drifts
    model: Model = field(default_factory=Model)
    disturbances: list[Disturbance] = field(default_factory=list)
    changed: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def now(self) -> float:
        """Seconds of the soak's clock."""
        return asyncio.get_running_loop().time()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances."""
        return self.platform.instances

    def is_disturbed(self, instance: str, *, began: float | None = None, ended: float | None = None) -> bool:
        """Whether a server is disturbed now, or was at any time between two moments."""
        first, last = (self.now() if at is None else at for at in (began, ended))
        return any(
            each.instance == instance and each.began <= last and first < each.ended + _CALMED_S
            for each in self.disturbances
        )

    @contextmanager
    def disturbing(self, instance: str, why: str) -> Iterator[None]:
        """Disturb one server in here."""
        disturbance = Disturbance(instance=instance, why=why, began=self.now())
        self.disturbances.append(disturbance)
        try:
            yield
        finally:
            disturbance.ended = self.now()

    async def shown(self, instance: Instance, name: str | None) -> str:
        """Fingerprint of the certificate that a client of an instance sees; empty where no handshake comes about."""
        return await certificate_shown(instance.address(DEFAULT_PORT), name) or ""

    async def is_right(self, instance: Instance, name: str | None) -> bool:
        """Whether a client sees what it must: an upload's certificate, or one that no upload brought."""
        seen, wanted = await self.shown(instance, name), self.model.shown(name)
        return seen == wanted if wanted is not None else bool(seen) and seen not in self.model.fingerprints


@asynccontextmanager
async def staged(options: Options) -> AsyncIterator[Stage]:
    """Run a local cloud for a soak."""
    drifts = Drifts()
    clock = asyncio.get_running_loop().time
    logs = Logs(lambda component, line: drifts.heard(component, line, clock()))
    async with LocalPlatform(options.platform(logs)) as platform:
        access = StorageAccess(connection_string=platform.connection_string)
        async with Account(access) as account:
            yield Stage(options=options, platform=platform, account=account, logs=logs, drifts=drifts)
