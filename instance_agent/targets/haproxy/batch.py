"""One batch made in a running HAProxy, whole or not at all; its files and reloads are elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, Remove, ServerUnavailableError
from instance_agent.targets.haproxy import runtime
from instance_agent.targets.haproxy.default import how_to_name
from instance_agent.targets.haproxy.reading import entries
from instance_agent.targets.haproxy.runtime import RefusedError, TooLargeError, entry_line
from shared.binding import phrased
from shared.bundle import CertificateBundle
from shared.errors import BrokenBundleError, CertcastError
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from instance_agent.targets.base import BindingChange, Key
    from instance_agent.targets.haproxy.disk import Disk
    from instance_agent.targets.haproxy.mirror import Mirror
    from instance_agent.targets.haproxy.session import Session

    Step = Callable[[], Awaitable[None]]

log = logger(__name__)


class OversizedError(ApplyError):
    """A certificate of the batch does not fit through the socket; a reload can read it from its file."""


class NotDefaultError(ApplyError):
    """HAProxy has no default of ours for the PortNumber; the change can succeed once its bind line names one."""

    retriable: ClassVar[bool] = True


class RuntimeBatch:
    """What is done in HAProxy for one batch, and how it is undone.

    Args:
        session: The conversation.
        disk: Names the files.
        mirror: What is bound now.
        before: What the files held before the batch, by host and port, for undoing renewals and removals.
        plan: What entries leave out once the changes are made, as `exceptions.planned` has it.
    """

    def __init__(
        self,
        session: Session,
        disk: Disk,
        mirror: Mirror,
        before: Mapping[Key, bytes],
        plan: Mapping[Key, frozenset[str]],
    ) -> None:
        self._session = session
        self._disk = disk
        self._mirror = mirror
        self._before = before
        self.plan = plan
        self._left_out = dict(mirror.excepted)
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
        await self._leave_out_bound()
        for install in installs:
            with _named(install.key):
                await (self._default(install) if install.host == DEFAULT_HOST else self._install(install))
        for key, hosts in self.plan.items():
            await self._leave_out(key, hosts)
        for removal in removals:
            with _named(removal.key):
                await (self._default(removal) if removal.host == DEFAULT_HOST else self._remove(removal))

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

    async def _leave_out_bound(self) -> None:
        """Before a key's type changes: exact hosts that are bound keep answering, whatever types meet meanwhile."""
        for key, hosts in self.plan.items():
            there = self._left_out.get(key) or frozenset()
            more = there | {host for host in hosts if (host, key[1]) in self._mirror.bound}
            file, crt_list = self._disk.pem(*key), self._disk.crt_list(key[1])
            # What both types need together may not fit; then the wildcard answers for some of them for a moment.
            if more != there and await runtime.carries(self._session, crt_list, entry_line(file, key[0], more)):
                await self._leave_out(key, more)

    async def _leave_out(self, key: Key, hosts: frozenset[str]) -> None:
        """Have the entry of a binding that was there before leave out exactly these hosts."""
        there = self._left_out.get(key, frozenset())
        if there == hosts or key not in self._mirror.bound:
            return
        crt_list, file = self._disk.crt_list(key[1]), self._disk.pem(*key)
        otherwise = partial(runtime.bind_otherwise, self._session, crt_list, file, key[0])
        if there is not None:
            self._undo.append(partial(otherwise, there))
        with _named(key):
            await otherwise(hosts)
        self._left_out[key] = hosts

    async def _default(self, change: BindingChange) -> None:
        """Serve what the default's file now holds: what is to be bound, or the fallback."""
        file, crt_list = self._disk.pem(*change.key), self._disk.default_list(change.port)
        if not await runtime.is_default(self._session, crt_list, file):
            raise NotDefaultError(
                f"the bind line of PortNumber {change.port} answers other names with another certificate, or none: "
                f"{how_to_name(Path(crt_list), Path(file))}",
                culprit=change.key,
            )
        if (old := _bundle(self._before.get(change.key))) is not None:
            self._undo.append(partial(runtime.put, self._session, file, old, new=False))
        bundle = change.bundle if isinstance(change, Install) else _bundle(self._disk.default(change.port))
        if bundle is None:
            raise RefusedError(f"{file} holds no certificate with its key")
        await runtime.put(self._session, file, bundle, new=False)

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
            await runtime.bind(self._session, crt_list, file, change.host, self.plan.get(change.key, frozenset()))

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
        old = _bundle(self._before.get(change.key))
        if old is None or old.fingerprint_sha256 != self._mirror.bound[change.key].fingerprint_sha256:
            return None
        return partial(runtime.put, self._session, file, old, new=True)

    async def _bind_again(self, crt_list: str, file: str, host: str) -> None:
        if all(entry.file != file for entry in await entries(self._session, crt_list)):
            excepted = self._mirror.excepted.get((host, int(Path(file).parent.name))) or frozenset()
            await runtime.bind(self._session, crt_list, file, host, excepted)


@contextmanager
def _named(key: Key) -> Iterator[None]:
    """Raise what HAProxy refuses as the trouble of one binding."""
    try:
        yield
    except TooLargeError as error:
        raise OversizedError(
            f"the certificate for {phrased(*key)} cannot be handed to HAProxy: {error}", culprit=key
        ) from error
    except RefusedError as error:
        raise ApplyError(f"HAProxy does not take the change for {phrased(*key)}: {error}", culprit=key) from error


def _bundle(pem: bytes | None) -> CertificateBundle | None:
    if pem is None:
        return None
    try:
        return CertificateBundle.from_pem(pem)
    except BrokenBundleError:
        return None
