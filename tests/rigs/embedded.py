"""The embedded target on free ports of this machine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from instance_agent.installing.probe import served_fingerprint
from instance_agent.targets.embedded.settings import EmbeddedSettings
from instance_agent.targets.embedded.target import HTTPS_PORT, EmbeddedTarget
from local_azure.processes.listening import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def target_on(port: int, **settings: Any) -> EmbeddedTarget:
    """A target, not started, whose PortNumber 443 is this port."""
    return EmbeddedTarget(EmbeddedSettings(port_offset=port - HTTPS_PORT, **settings))


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[EmbeddedTarget]:
    """A started target whose PortNumbers 443 and 444 are free ports."""
    target = target_on(free_port(2), **settings)
    await target.start()
    try:
        yield target
    finally:
        await target.stop()


class EmbeddedRig:
    """The target is the server."""

    ports = (443, 444)
    probe = staticmethod(served_fingerprint)

    def __init__(self, target: EmbeddedTarget) -> None:
        self.target = target
        self.fallback = target.fallback.fingerprint_sha256

    async def restart_agent(self) -> None:
        raise NotImplementedError("its bindings live in the agent and end with it")
