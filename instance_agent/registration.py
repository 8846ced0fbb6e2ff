"""This instance's row and queue: registering, the heartbeat, and the refusal of a second agent with the same id."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypedDict, Unpack

from instance_agent.config import AgentSettings
from shared.errors import CertcastError, ConfigurationError
from shared.phrasing import logger
from shared.state.records import HEARTBEAT_S, InstanceRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports import Queues
    from shared.state.records import State

log = logger(__name__)


class Progress(TypedDict, total=False):
    """The columns of the instance's row that a heartbeat writes; one that is left out stays as it is."""

    bindings: int
    failing: int
    ready: bool
    stopped: bool


class SupersededError(CertcastError):
    """Another agent has registered under this instance's id; this one must stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One agent's hold on its instance id, from its start to its end.

    Attributes:
        settings: The agent's settings.
        target_version: The web server's own version.
        session: Names this process among all that ever used the id: `host/pid/random`.
        started_at: When the agent started.
        watch_s: How long to watch a row that another agent may hold.
        look_every_s: How often to look meanwhile.
    """

    settings: AgentSettings
    target_version: str
    session: str
    started_at: datetime
    watch_s: float = HEARTBEAT_S + 10
    look_every_s: float = 1.0

    @classmethod
    def begin(cls, settings: AgentSettings, *, target_version: str, now: datetime) -> Registration:
        """Prepare to register this process."""
        session = f"{settings.host}/{os.getpid()}/{secrets.token_hex(4)}"
        return cls(settings=settings, target_version=target_version, session=session, started_at=now)

    async def register(self, state: State, queues: Queues, now: Callable[[], datetime]) -> None:
        """Create the queue, then the row: where there is a row, a queue can be sent to.

        Raises:
            ConfigurationError: Another agent with this id is running.
        """
        await self._see_that_no_other_runs(state)
        await queues.create(self.settings.queue)
        await queues.create(self.settings.poison_queue)
        await state.instances.update(self.settings.instance, lambda _: self._row(now()))

    async def _see_that_no_other_runs(self, state: State) -> None:
        """Watch a row that another agent may hold for longer than a heartbeat; no clock is compared with another."""
        known = await state.instances.find(self.settings.instance)
        if known is None or known.value.stopped or self._is_ended(known.value):
            return
        log.warning(
            "instance %s: registered by an agent on %s; watching for %d s whether that one is running",
            *(self.settings.instance, known.value.host, self.watch_s),
        )
        for _ in range(max(1, round(self.watch_s / self.look_every_s))):
            await asyncio.sleep(self.look_every_s)
            again = await state.instances.find(self.settings.instance)
            if again is None or again.value.stopped:
                return
            if again.etag != known.etag:
                raise ConfigurationError(
                    f"instance id {self.settings.instance} is in use by another running agent (on {again.value.host}): "
                    "give each instance its own CERTCAST_INSTANCE, or stop the other agent"
                )

    async def heartbeat(self, state: State, now: datetime, **columns: Unpack[Progress]) -> None:
        """Say that the agent is alive, and how far it is.

        Raises:
            SupersededError: Another agent has taken the id meanwhile.
        """

        def change(known: InstanceRecord | None) -> InstanceRecord:
            if known is not None and known.session != self.session:
                raise SupersededError(
                    f"instance id {self.settings.instance} was taken over by an agent on {known.host}; this one stops"
                )
            return replace(known or self._row(now), last_seen=now, **columns)

        await state.instances.update(self.settings.instance, change)

    async def leave(self, state: State, now: datetime) -> None:
        """Say that no one needs to wait for this instance; best effort, since its silence says the same later."""
        try:
            await self.heartbeat(state, now, ready=False, stopped=True)
        except SupersededError:
            return
        except CertcastError as error:
            log.warning("instance %s: could not say that it stops: %s", self.settings.instance, error)

    def _row(self, now: datetime) -> InstanceRecord:
        settings = self.settings
        return InstanceRecord(
            id=settings.instance,
            role=settings.role,
            host=settings.host,
            target_kind=settings.target,
            target_version=self.target_version,
            agent_version=agent_version(),
            session=self.session,
            started_at=self.started_at,
            last_seen=now,
        )

    def _is_ended(self, known: InstanceRecord) -> bool:
        """Whether the row is this process's, or that of a process of this machine that has ended."""
        host, _, rest = known.session.partition("/")
        pid = rest.partition("/")[0]
        if known.session == self.session:
            return True
        return host == self.settings.host and pid.isdigit() and (int(pid) == os.getpid() or not _is_running(int(pid)))


def agent_version() -> str:
    """Certcast's version as installed."""
    try:
        return version("certcast")
    except PackageNotFoundError:
        return "unknown"


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end the process there; the silence of a dead one has to be waited for
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
