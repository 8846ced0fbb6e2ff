"""What every web server target must offer, and the values it deals in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from shared.binding import phrased
from shared.bundle import CertificateBundle
from shared.errors import CertcastError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

Key = tuple[str, int]
"""Host and port of a binding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A host and port, which identify a binding on one server.

    Attributes:
        host: Host name in A-label form, lower case; `*.parent` for a wildcard; `DEFAULT_HOST` for what clients get that
            ask for no name, or for one that nothing else is bound for.
        port: TCP port from the upload's `PortNumber`, before any port mapping of the target.
    """

    host: str
    port: int

    @property
    def key(self) -> Key:
        """Both as a tuple."""
        return (self.host, self.port)

    @property
    def phrased(self) -> str:
        """The form used in messages to people."""
        return phrased(self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledBinding(HostPort):
    """What this agent owns for a host and port on the server, as the server (not our memory) has it.

    Attributes:
        bundle_id: Id of the sealed bundle that was installed; empty where the server cannot tell.
        fingerprint_sha256: Lower-case hex SHA-256 of the leaf's DER.
        site: The web site that holds the binding, where the server has sites.
        site_in_any_case: Whether the server knows that site by its name in any case, as IIS does.
    """

    bundle_id: str
    fingerprint_sha256: str
    site: str | None = None
    site_in_any_case: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Install(HostPort):
    """Serve this bundle for the host and port; replaces whatever this agent had bound there.

    Attributes:
        bundle_id: As in `InstalledBinding`.
        bundle: Key, leaf and intermediates.
        site: Web site named by the upload; None is the target's first site.
        generation: The desired row's generation, for names and log lines.
    """

    bundle_id: str
    bundle: CertificateBundle
    site: str | None = None
    generation: int = 0

    @property
    def bound(self) -> InstalledBinding:
        """What is installed once this was made."""
        return InstalledBinding(
            host=self.host,
            port=self.port,
            bundle_id=self.bundle_id,
            fingerprint_sha256=self.bundle.fingerprint_sha256,
            site=self.site,
        )

    def is_done_by(self, installed: InstalledBinding | None) -> bool:
        """Whether what is installed is already what this change asks for, so that nothing needs to be written.

        A renewal with the same leaf and another chain is a change; a server that cannot tell the bundle's id is
        judged by the leaf alone. A change that names no site is content with any.
        """
        if installed is None or installed.key != self.key:
            return False
        if installed.fingerprint_sha256 != self.bundle.fingerprint_sha256:
            return False
        return installed.bundle_id in {"", self.bundle_id} and self._is_content_with_site(installed)

    def _is_content_with_site(self, installed: InstalledBinding) -> bool:
        if self.site is None or self.site == installed.site:
            return True
        return installed.site_in_any_case and self.site.lower() == (installed.site or "").lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove(HostPort):
    """Stop serving a certificate of ours for the host and port; nothing happens where there is none."""


BindingChange = Install | Remove


class ApplyError(CertcastError):
    """A batch could not be applied and the server is as it was before.

    With a culprit the installer drops that change and goes on with the rest; without one it halves the batch until it
    knows. So this error is about what was to be installed: trouble with the server itself is a
    `ServerUnavailableError`. A subclass may set `retriable`, for a culprit that may do better later (a port in use).

    Attributes:
        culprit: Host and port of the change that caused it, where the server told which one.
    """

    def __init__(self, message: str, *, culprit: Key | None = None) -> None:
        super().__init__(message)
        self.culprit = culprit


class ServerUnavailableError(ApplyError):
    """The server is down, unreachable or refuses everything; the same batch can succeed once it is well again.

    The installer neither halves nor goes on after it: every change left is reported as failed, to be retried.
    """

    retriable: ClassVar[bool] = True


class BindingTarget(Protocol):
    """A web server on this machine that certificates are installed on.

    A target owns only what it tagged itself; what an administrator made by hand is never touched. The agent calls one
    method at a time, within `held`, `start` first and `stop` last. `apply` and `retire` are never cancelled: the agent
    waits for their end even when it is told to stop. What all targets must do alike is written as tests in
    tests/contracts/targets.py.
    """

    kind: ClassVar[str]
    """The value of `CERTCAST_TARGET` that selects this target."""

    @property
    def in_slices(self) -> bool:
        """Whether thousands of changes are as well made in several batches: not where each is a reload or a commit."""

    @property
    def place(self) -> str:
        """What names this one server on its machine, to people too, the same at each start of the agent."""

    def held(self) -> AbstractContextManager[None]:
        """Keep other agents of this machine from the server, from before `start` to after `stop`.

        What keeps them out ends with this process, however it ends.

        Raises:
            ConfigurationError: Another agent has the server; the text names the lock and the cure.
        """

    async def start(self) -> None:
        """Check that the server can be used (or start it, where the target is the server).

        Raises:
            ConfigurationError: Only a person can put it right, in the settings; the text names the cure.
            ServerUnavailableError: The server cannot be used now, and may be later without the agent's settings being
                changed: it is down, or somebody else's part of its configuration is broken. `start` is called again.
        """

    async def stop(self) -> None:
        """Let go of the server, where anything of it is held; one that outlives the agent goes on serving."""

    async def version(self) -> str:
        """The server's own version, for the instances table; empty when it cannot be told."""

    def forget(self) -> None:
        """Believe nothing that was read from the server before: the next call reads it again.

        Called before each whole reconcile, and where a handshake showed something else than what is bound. An `apply`
        after it makes its changes also where files say that they are made: what is served is what counts.
        """

    async def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """What this agent owns here, read from the server.

        Args:
            keys: The hosts and ports that are asked about; None asks about all. What a few cost does not grow with what
                else is bound, where the server allows it: this is asked for each hint.

        Raises:
            ServerUnavailableError: The server did not tell.
        """

    async def apply(self, changes: Sequence[BindingChange]) -> None:
        """Make all changes or none: one reload, one commit. Each host and port occurs at most once.

        Returns when the server has taken the changes up, as far as it tells; a probe follows at once. Making a change
        again that is made already does no harm.

        Raises:
            ApplyError: The server is as it was before; see there for which kind to raise.
        """

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Delete what only these no longer served bindings needed, where a batch leaves anything of them behind.

        Called once their successors were seen served, and for new ones that were not seen, once they are undone.

        A target may delete anything else of its own that no binding uses as well: a batch that was interrupted between
        `apply` and here is not repeated. What goes wrong here fails no change.
        """

    def endpoint(self, port: int) -> tuple[str, int] | None:
        """The address and port on this machine at which a probe meets the listener for an upload's `PortNumber`.

        None where there is no listener that the agent could meet: changes are then reported as made, not as seen.
        """

    def refusal(self, change: Install) -> str | None:
        """Why this server can never take the change (an IIS before 10 and a wildcard, say); None when it can."""

    async def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """The likely cause when the probe met another certificate than the one just bound; None when unknown."""


class NothingHeld:
    """`stop`, `retire` and `forget` of a target that holds nothing of its server, and leaves nothing behind."""

    def forget(self) -> None:
        """Nothing that was read is kept."""

    async def stop(self) -> None:
        """Nothing is held: the server goes on."""

    async def retire(self, replaced: Sequence[InstalledBinding]) -> None:
        """Nothing is left behind: what was replaced or removed went with its batch."""
