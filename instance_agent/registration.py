"""This instance's row and queue: registering, the heartbeat, and the refusal of a second agent with the same id."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from instance_agent.config import AgentSettings
from shared.errors import CertcastError, ConfigurationError
from shared.state import SILENT_AFTER, InstanceRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports import Queues
    from shared.state import State

POISON_SUFFIX = "-poison"


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
    """

    settings: AgentSettings
    target_version: str
    session: str
    started_at: datetime

    @classmethod
    def begin(cls, settings: AgentSettings, *, target_version: str, now: datetime) -> Registration:
        """Prepare to register this process."""
        session = f"{settings.host}/{os.getpid()}/{secrets.token_hex(4)}"
        return cls(settings=settings, target_version=target_version, session=session, started_at=now)

    async def register(self, state: State, queues: Queues, now: Callable[[], datetime]) -> None:
        """Create the queue, then the row: whoever sees the row can send to the queue.

        Raises:
            ConfigurationError: Another agent with this id is running.
        """
        await queues.create(self.settings.queue)
        await queues.create(self.settings.queue + POISON_SUFFIX)

        def change(known: InstanceRecord | None) -> InstanceRecord:
            if known is not None and self._held_by_another(known, now()):
                raise ConfigurationError(
                    f"instance id {self.settings.instance} is in use by another running agent (on {known.host}, last "
                    f"seen {known.last_seen:%H:%M:%S} UTC): give each instance its own CERTCAST_INSTANCE, or stop "
                    "the other agent"
                )
            return self._row(now())

        await state.instances.update(self.settings.instance, change)

    async def heartbeat(self, state: State, now: datetime, **columns: Any) -> None:  # noqa: ANN401 - columns of the row
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

    def _row(self, now: datetime) -> InstanceRecord:
        settings = self.settings
        return InstanceRecord(
            id=settings.instance,
            role=settings.role,
            host=settings.host,
            target_kind=settings.target,
            target_version=self.target_version,
            agent_version=agent_version(),
            queue=settings.queue,
            session=self.session,
            started_at=self.started_at,
            last_seen=now,
        )

    def _held_by_another(self, known: InstanceRecord, now: datetime) -> bool:
        if known.stopped or known.session == self.session or abs(now - known.last_seen) >= SILENT_AFTER:
            return False
        host, _, rest = known.session.partition("/")
        if host != self.settings.host:
            return True
        # The one before on this machine was killed, perhaps a moment ago: no need to wait until it counts as silent.
        pid = rest.partition("/")[0]
        return pid.isdigit() and int(pid) != os.getpid() and _is_running(int(pid))


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
