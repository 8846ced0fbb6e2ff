"""The embedded target: TLS listeners in the agent itself that swap certificates in memory; not for production."""

from __future__ import annotations

import platform
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding
from instance_agent.targets.embedded.listeners import HTTPS_PORT, ListenerError, Listeners
from instance_agent.targets.embedded.settings import EmbeddedSettings
from instance_agent.targets.parts.bindings import answering
from instance_agent.targets.parts.fallback import self_made_fallback
from shared.binding import phrased

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from instance_agent.targets.base import BindingChange

__all__ = ["HTTPS_PORT", "EmbeddedTarget", "ListenerError"]

_USUAL_SETTINGS = EmbeddedSettings()


class EmbeddedTarget:
    """Serves any number of hosts on each port, and a fallback where no binding answers.

    State lives in memory: a restarted agent starts empty and installs everything before it is ready.
    """

    kind: ClassVar[str] = "embedded"
    in_slices: ClassVar[bool] = True

    def __init__(self, settings: EmbeddedSettings = _USUAL_SETTINGS) -> None:
        self._endpoints = settings.endpoints
        self.fallback = settings.fallback or self_made_fallback(datetime.now(UTC))
        self._bound: dict[tuple[str, int], InstalledBinding] = {}
        self.listeners = Listeners(settings, self.fallback)

    @property
    def place(self) -> str:
        """By the port for PortNumber 443."""
        return f"the listener at {self._endpoints.address}:{self._endpoints.listened_on(HTTPS_PORT)}"

    def held(self) -> AbstractContextManager[None]:
        """By that port, which the system gives to one program.

        Raises:
            ConfigurationError: Another one has it.
        """
        return self.listeners.reserved()

    async def start(self) -> None:
        """Listen for PortNumber 443, so that a fresh instance answers with the fallback at once.

        Raises:
            ConfigurationError: The port or address is none that can be had, or the fallback cannot be served.
            ServerUnavailableError: The port is another program's now, or there are no file descriptors left.
        """
        await self.listeners.start()

    async def stop(self) -> None:
        """Close the ports and the connections; an answer that was begun is sent."""
        await self.listeners.stop()

    async def version(self) -> str:
        """Python's and OpenSSL's."""
        return f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"

    async def current(self, keys: Collection[tuple[str, int]] | None = None) -> frozenset[InstalledBinding]:
        """What was bound since the start."""
        if keys is None:
            return frozenset(self._bound.values())
        return frozenset(self._bound[key] for key in keys if key in self._bound)

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Build what is new, open what is missing, then swap the whole table at once.

        Raises:
            ApplyError: A certificate cannot be served.
            ListenerError: A port cannot be listened on.
            ServerUnavailableError: There are no file descriptors left to hand a key to OpenSSL.
        """
        for change in changes:
            if isinstance(change, Install) and (reason := self.refusal(change)) is not None:
                raise ApplyError(reason, culprit=change.key)
        await self.listeners.swap(changes)
        for change in changes:
            if isinstance(change, Install):
                self._bound[change.key] = change.bound
            else:
                self._bound.pop(change.key, None)

    def forget(self) -> None:
        """Nothing that was read is kept: the server is this process."""

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: what is no longer bound went with the swap."""

    def endpoint(self, port: int) -> tuple[str, int]:
        """Our own listener, met over loopback where it listens on every address."""
        return self._endpoints.at(port)

    def refusal(self, change: Install) -> str | None:
        """A PortNumber that the offset carries to where there is no port."""
        return self._endpoints.refusal(change)

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Whether the fallback or another of our bindings answered."""
        if seen_fingerprint_sha256 == self.fallback.fingerprint_sha256:
            return f"the fallback answered for {phrased(host, port)}"
        if (answered := answering(self._bound.values(), seen_fingerprint_sha256)) is not None:
            return answered
        address, number = self.endpoint(port)
        return f"a program other than this agent answered at {address}:{number}"
