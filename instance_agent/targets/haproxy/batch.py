"""One batch made in a running HAProxy, whole or not at all; its files and reloads are elsewhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.haproxy import runtime
from instance_agent.targets.haproxy.runtime import RefusedError, TooLargeError
from shared.bundle import CertificateBundle
from shared.errors import BrokenBundleError, CertcastError
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.haproxy.disk import Disk
    from instance_agent.targets.haproxy.mirror import Mirror
    from instance_agent.targets.haproxy.session import Session

    Step = Callable[[], Awaitable[None]]

log = logger(__name__)


class OversizedError(ApplyError):
    """A certificate of the batch does not fit through the socket; a reload can read it from its file."""


class RuntimeBatch:
    """What is done in HAProxy for one batch, and how it is undone.

    Args:
        session: The conversation.
        disk: Names the files.
        mirror: What is bound now.
        before: What the files held before the batch, by host and port, for undoing renewals and removals.
    """

    def __init__(self, session: Session, disk: Disk, mirror: Mirror, before: Mapping[Key, bytes]) -> None:
        self._session = session
        self._disk = disk
        self._mirror = mirror
        self._before = before
        self._undo: list[Step] = []

    async def make(self, changes: Sequence[BindingChange]) -> None:
        """Make the changes, new certificates first.

        Raises:
            OversizedError: One is too large for the socket.
            ApplyError: HAProxy refuses one, which is named.
            ServerUnavailableError: HAProxy went away, or another process of it answers now.
        """
        # Writing thousands of files takes longer than HAProxy waits for a command (`stats timeout`, 10 s).
        if self._session.lost and (await self._session.identity()).process != self._mirror.process:
            raise ServerUnavailableError("HAProxy was restarted while the files of this batch were written")
        installs = [change for change in changes if isinstance(change, Install)]
        # The largest first: whether it goes through is then known before anything else is done.
        installs.sort(key=lambda install: len(install.bundle.chain_pem()), reverse=True)
        removals = [change for change in changes if isinstance(change, Remove)]
        ordered: list[BindingChange] = [*installs, *removals]
        for change in ordered:
            try:
                await (self._install(change) if isinstance(change, Install) else self._remove(change))
            except TooLargeError as error:
                raise OversizedError(
                    f"the certificate for {change.host}:{change.port} cannot be handed to HAProxy: {error}",
                    culprit=change.key,
                ) from error
            except RefusedError as error:
                raise ApplyError(
                    f"HAProxy does not take the change for {change.host}:{change.port}: {error}", culprit=change.key
                ) from error

    async def undo(self) -> bool:
        """Take back what was done, the latest first; whether all of it was."""
        whole = True
        while self._undo:
            try:
                await self._undo.pop()()
            except CertcastError as error:
                log.warning("a change that HAProxy had taken could not be taken back: %s", error)
                whole = False
        return whole

    async def _install(self, change: Install) -> None:
        file = self._disk.pem(change.host, change.port)
        is_new = change.key not in self._mirror.bound
        if is_new:
            self._undo.append(partial(runtime.drop, self._session, file))
        elif (restore := self._restore(change, file)) is not None:
            self._undo.append(restore)
        await runtime.put(self._session, file, change.bundle, new=is_new)
        if is_new:
            crt_list = self._disk.crt_list(change.port)
            self._undo.append(partial(runtime.unbind, self._session, crt_list, file))
            await runtime.bind(self._session, crt_list, file, change.host)

    async def _remove(self, change: Remove) -> None:
        if change.key not in self._mirror.bound:
            return
        file, crt_list = self._disk.pem(change.host, change.port), self._disk.crt_list(change.port)
        if (restore := self._restore(change, file)) is not None:
            self._undo.append(partial(self._bind_again, crt_list, file, change.host))
            self._undo.append(restore)
        await runtime.unbind(self._session, crt_list, file)
        await runtime.drop(self._session, file)

    def _restore(self, change: BindingChange, file: str) -> Step | None:
        """Puts back the certificate that the file held; None where that is not what was served."""
        content = self._before.get(change.key)
        if content is None:
            return None
        try:
            old = CertificateBundle.from_pem(content)
        except BrokenBundleError:
            return None
        if old.fingerprint_sha256 != self._mirror.bound[change.key].fingerprint_sha256:
            return None
        return partial(runtime.put, self._session, file, old, new=True)

    async def _bind_again(self, crt_list: str, file: str, host: str) -> None:
        if all(bound != file for bound, _, _ in await runtime.entries(self._session, crt_list)):
            await runtime.bind(self._session, crt_list, file, host)
