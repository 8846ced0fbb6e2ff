"""The target `iis-ccs`: files in IIS's Centralized Certificate Store, and the one binding that reads them."""

from __future__ import annotations

import hashlib
import socket
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from instance_agent.targets.base import ApplyError, Install, InstalledBinding, Key, NothingHeld, ServerUnavailableError
from instance_agent.targets.iis.bindings import EVERYTHING, Scope
from instance_agent.targets.iis.ccs.binding import plan
from instance_agent.targets.iis.ccs.folder import NOTES_FOLDER, CentralFolder, Delete, Write
from instance_agent.targets.iis.ccs.notes import Content, Note, file_names
from instance_agent.targets.iis.commit import carry_out
from instance_agent.targets.iis.gateway import FIRST_IIS_WITH_SNI, as_unavailable
from instance_agent.targets.iis.pfx import add_intermediates, pfx_for_windows
from instance_agent.targets.iis.shadow import explain, lookup_order, owners_of
from instance_agent.targets.parts.bindings import installs_of
from instance_agent.targets.parts.holding import holding
from instance_agent.targets.parts.locking import locked
from instance_agent.targets.parts.threads import in_thread
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from instance_agent.targets.base import BindingChange
    from instance_agent.targets.iis.gateway import IisGateway
    from instance_agent.targets.iis.records import HttpSys
    from instance_agent.targets.iis.stores import CertificateStores

log = logger(__name__)

_LOCK_TIMEOUT_S = 60.0
HTTPS_PORT = 443


class IisCcsTarget(NothingHeld):
    """Writes one file per host, whatever their number, and keeps one binding.

    Args:
        folder: The store's folder, which IIS is configured to read; may be a share of several servers.
        password: Reads the files' common password.
        gateway: IIS on this machine, to keep the binding; None writes files only.
        stores: This machine's certificate stores, for intermediates; None leaves them alone.
        http_sys: The records of http.sys; None where no IIS is here.
        site: Web site that has the binding; None is the first.
        port: The one port that is served.
        probe_address: Where a probe meets this machine's listener; None when there is none.
        held: Keeps other agents of this machine away; a lock in the folder that bears the machine's name, where None.
        pause: Waits some seconds between attempts.
    """

    kind: ClassVar[str] = "iis-ccs"
    in_slices: ClassVar[bool] = False

    def __init__(
        self,
        folder: Path,
        password: Callable[[], str],
        *,
        gateway: IisGateway | None = None,
        stores: CertificateStores | None = None,
        http_sys: HttpSys | None = None,
        site: str | None = None,
        port: int = HTTPS_PORT,
        probe_address: str | None = None,
        held: Callable[[str], AbstractContextManager[None]] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._files = CentralFolder(folder)
        self._password = password
        self._gateway = gateway
        self._stores = stores
        self._http_sys = http_sys
        self._site = site
        self._port = port
        self._probe_address = probe_address
        self._held = held
        self._pause = pause
        self._version = ""
        self._doubted = False

    def forget(self) -> None:
        """Every file is read again, and the next `apply` writes them again even where they are as asked for."""
        self._files.forget()
        self._doubted = True

    @property
    def place(self) -> str:
        """By the folder, which IIS is configured to read."""
        return f"the Centralized Certificate Store in {self._files.folder.absolute()}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """By a lock that other machines which write to the folder do not meet.

        Raises:
            ConfigurationError: Another agent of this machine has it, or the folder cannot be used.
        """
        folder = self._require_folder()
        with ExitStack() as holding_it:
            if self._held is not None:
                holding_it.enter_context(self._held(self.place))
            else:
                notes = self._files.notes_folder
                with _writing(folder):
                    notes.mkdir(exist_ok=True)
                name = f"agent-{socket.gethostname()}.lock"
                holding_it.enter_context(holding(notes, self.place, name=name))
            yield

    @in_thread
    def start(self) -> None:
        """Check folder, password and IIS, and clear away what a crash left."""
        folder = self._require_folder()
        self._password()
        with _writing(folder), self._locked():
            self._files.prepare()
        if self._gateway is not None:
            with _translated():
                major, minor = self._gateway.version()
            if major < FIRST_IIS_WITH_SNI:
                raise ConfigurationError(
                    f"IIS {major}.{minor} has no Centralized Certificate Store; Windows Server 2012 or later is needed"
                )
            self._version = f"IIS {major}.{minor}"

    def _require_folder(self) -> Path:
        folder = self._files.folder
        if not folder.is_dir():
            raise ConfigurationError(
                f"CERTCAST_IIS_CCS_FOLDER: {folder} is no folder that can be reached; make it and set it as the "
                "physical path under 'Centralized Certificates' in IIS Manager"
            )
        return folder

    async def version(self) -> str:
        """IIS's version; empty where only files are written."""
        return self._version

    @in_thread
    def current(self, keys: Collection[Key] | None = None) -> frozenset[InstalledBinding]:
        """The hosts whose files certcast wrote, with what they hold: nothing known where another hand changed them."""
        wanted = None if keys is None else frozenset(keys)
        with _translated():
            return frozenset(
                InstalledBinding(
                    host=note.host,
                    port=note.port,
                    bundle_id=content.bundle_id,
                    fingerprint_sha256=content.fingerprint_sha256,
                    site=note.site,
                )
                for note, content in self._files.ours(None if wanted is None else {host for host, _ in wanted})
                if wanted is None or (note.host, note.port) in wanted
            )

    @in_thread
    def apply(self, changes: Sequence[BindingChange]) -> None:
        """Write and delete the files, and make the binding if it is missing."""
        if not changes:
            return
        installs = installs_of(changes, self.refusal)
        with _translated():
            steps = self._steps(changes)
            with self._locked():
                undo = self._files.apply(steps)
                try:
                    if installs:
                        self._keep_binding(installs)
                except BaseException:
                    undo()
                    raise
        self._doubted = False

    def endpoint(self, port: int) -> tuple[str, int] | None:
        """The probe address, where this machine has a listener."""
        return None if self._probe_address is None else (self._probe_address, port)

    def refusal(self, change: Install) -> str | None:
        """Another port than the store's is refused, the default host, and a host that makes no file name."""
        if change.port != self._port:
            return (
                f"the Centralized Certificate Store serves port {self._port} only, since it finds a certificate by its "
                f"host; upload with PortNumber {self._port}, or use the target iis"
            )
        if change.host == DEFAULT_HOST:
            return (
                "the Centralized Certificate Store finds a file by the name that a client asks for, so it has none for "
                "clients without SNI: bind one by hand that has neither SNI nor a host, or use the target iis"
            )
        try:
            file_names(change.host)
        except ValueError as error:
            return str(error)
        return None

    @in_thread
    def explain_mismatch(self, host: str, port: int, seen_fingerprint_sha256: str) -> str | None:
        """Name the http.sys record that goes before the store."""
        del seen_fingerprint_sha256
        address, gateway = self._probe_address, self._gateway
        if gateway is None or address is None or self._http_sys is None:
            return None
        with _translated():
            records = self._http_sys.records()
        order = lookup_order(records, address=address, port=port, host=host)
        if order and order[0].ip is None and order[0].host is None:
            paths = " or ".join(str(self._files.folder / name) for name in file_names(host))
            return (
                f"the Centralized Certificate Store answered, but not from {paths}: look whether IIS is configured to "
                "read that folder, with the same password"
            )
        with _translated(), gateway.session() as session:
            owners = owners_of(session.sites(EVERYTHING))
        return explain(records, address=address, port=port, host=host, seen=(), owners=owners)

    def _steps(self, changes: Sequence[BindingChange]) -> list[Write | Delete]:
        password = self._password()
        steps: list[Write | Delete] = []
        for change in changes:
            if not isinstance(change, Install):
                if change.port == self._port and change.host != DEFAULT_HOST:
                    steps.append(Delete(host=change.host))
                continue
            if not self._doubted and self._files.holds(change.host, change.bundle_id):
                continue
            try:
                pfx = pfx_for_windows(change.bundle, password, chain=True)
            except ApplyError as error:
                raise ApplyError(str(error), culprit=change.key) from error
            content = Content(
                sha256=hashlib.sha256(pfx).hexdigest(),
                bundle_id=change.bundle_id,
                fingerprint_sha256=change.bundle.fingerprint_sha256,
            )
            note = Note(host=change.host, port=change.port, site=change.site, now=content)
            steps.append(Write(note=note, pfx=pfx, again=self._doubted))
        return steps

    def _keep_binding(self, installs: Sequence[Install]) -> None:
        """Make the binding that reads the store, where there is none."""
        if self._stores is not None:
            add_intermediates(self._stores, [install.bundle.chain for install in installs])
        if self._gateway is None:
            return
        with self._gateway.exclusive():
            carry_out(
                self._gateway,
                Scope(keys=frozenset({("", self._port)})),
                partial(plan, site_name=self._site, port=self._port),
                before_writing=lambda _: None,
                pause=self._pause,
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self._files.folder / NOTES_FOLDER
        folder.mkdir(exist_ok=True)
        with locked(folder / "lock", timeout_s=_LOCK_TIMEOUT_S):
            yield


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise what keeps us from writing there as a setting to be put right."""
    try:
        yield
    except (OSError, ServerUnavailableError) as error:
        raise ConfigurationError(
            f"CERTCAST_IIS_CCS_FOLDER: {folder} cannot be written: {error}; grant the agent's account Modify there"
        ) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Trouble with the folder or IIS as such, which is no change's fault, as the installer knows it."""
    try:
        with as_unavailable():
            yield
    except OSError as error:
        raise ServerUnavailableError(f"the folder of the Centralized Certificate Store: {error}") from error
