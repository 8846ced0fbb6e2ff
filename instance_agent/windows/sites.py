"""IIS's sites and bindings through Microsoft.Web.Administration."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from instance_agent.targets.iis.bindings import Binding, Scope, Site, SiteState, SslFlags
from instance_agent.targets.iis.gateway import AddBinding, GatewayError, Operation, RemoveBinding, ReplaceBinding
from instance_agent.targets.iis.hresult import INVALID_OBJECT
from instance_agent.windows.dotnet import namespace, translated
from shared.phrasing import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

log = logger(__name__)

_MUTEX = "Global\\certcast.iis"
_MUTEX_TIMEOUT_MS = 60_000
_MUTEX_ACCESS = "D:P(A;;0x1F0001;;;SY)(A;;0x1F0001;;;BA)"
"""MUTEX_ALL_ACCESS for LocalSystem and the Administrators alone, so that no other account can hold it.

https://learn.microsoft.com/en-us/windows/win32/sync/synchronization-object-security-and-access-rights
"""
_SET_BY_NAME = frozenset({"protocol", "bindingInformation", "sslFlags", "certificateHash", "certificateStoreName"})


class DotNetGateway:
    """The `IisGateway` over the assembly that `dotnet.load_assembly` loaded.

    Args:
        version: Reads IIS's major and minor version.
    """

    def __init__(self, version: Callable[[], tuple[int, int]]) -> None:
        self._version = version
        self._administration = namespace("Microsoft.Web.Administration")
        self._threading = namespace("System.Threading")
        self._access_control = namespace("System.Security.AccessControl")
        self._columns = _Columns(self._administration)

    def version(self) -> tuple[int, int]:
        """From the registry; the assembly does not know it."""
        return self._version()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a system-wide mutex; one left behind by a killed process counts as free."""
        mutex = self._mutex()
        try:
            try:
                held = bool(mutex.WaitOne(_MUTEX_TIMEOUT_MS))
            except self._threading.AbandonedMutexException:
                held = True
            if not held:
                raise GatewayError(
                    f"another process has held {_MUTEX} for a minute: a certcast agent or selftest; end it or wait"
                )
            try:
                yield
            finally:
                mutex.ReleaseMutex()
        finally:
            mutex.Dispose()

    def _mutex(self) -> Any:  # noqa: ANN401 - a .NET object
        security = self._access_control.MutexSecurity()
        try:
            with translated():
                security.SetSecurityDescriptorSddlForm(_MUTEX_ACCESS)
                return self._threading.Mutex(False, _MUTEX, False, security)
        except GatewayError as error:
            raise GatewayError(
                f"the mutex {_MUTEX} cannot be had ({error}): run elevated; if it is, another account's process made a "
                "mutex of that name first, which must end"
            ) from error

    @contextmanager
    def session(self) -> Iterator[DotNetSession]:
        """A `ServerManager`, disposed of in any case."""
        with translated():
            manager = self._administration.ServerManager()
        try:
            yield DotNetSession(manager, self._administration, self._columns)
        finally:
            manager.Dispose()


class DotNetSession:
    """The `SiteSession` over one `ServerManager`."""

    def __init__(self, manager: Any, administration: Any, columns: _Columns) -> None:  # noqa: ANN401 - .NET objects
        self._manager = manager
        self._administration = administration
        self._columns = columns
        self._natives: dict[tuple[str, str], Any] = {}

    def sites(self, scope: Scope) -> tuple[Site, ...]:
        """Every site; of bindings out of scope only protocol, information and flags are read, all in three calls."""
        with translated():
            return tuple(self._site(native, scope) for native in self._manager.Sites)

    def states(self, names: Collection[str]) -> dict[str, SiteState]:
        """`Site.State`, which FTP sites have none of that can be read."""
        with translated():
            return {str(it.Name): self._state(it) for it in self._manager.Sites if str(it.Name) in names}

    def ftp_thumbprints(self) -> frozenset[str]:
        """`serverCertHash` of the site defaults and of every site."""
        with translated():
            elements = [self._manager.SiteDefaults, *self._manager.Sites]
            hashes = [
                element.GetChildElement("ftpServer")
                .GetChildElement("security")
                .GetChildElement("ssl")
                .GetAttributeValue("serverCertHash")
                for element in elements
            ]
        return frozenset(str(text).upper() for text in hashes if text)

    def perform(self, operation: Operation) -> None:
        """Add, replace or remove on the manager's copy of the configuration."""
        with translated():
            bindings = self._manager.Sites[operation.site].Bindings
            match operation:
                case AddBinding(thumbprint=""):
                    new = bindings.CreateElement("binding")
                    new.Protocol = "https"
                    new.BindingInformation = operation.information
                    new.SslFlags = self._flags(operation.flags)
                    bindings.Add(new)
                case AddBinding():
                    digest = bytes.fromhex(operation.thumbprint)
                    bindings.Add(operation.information, digest, operation.store, self._flags(operation.flags))
                case RemoveBinding():
                    bindings.Remove(self._native(operation), operation.config_only)
                case ReplaceBinding():
                    self._replace(bindings, operation)

    def commit(self) -> None:
        """`CommitChanges`."""
        with translated():
            self._manager.CommitChanges()

    def start_site(self, name: str) -> SiteState:
        """`Site.Start`."""
        with translated():
            native = self._manager.Sites[name]
            native.Start()
            return self._state(native)

    def add_site(self, name: str, information: str, path: str) -> None:
        """A site with one http binding."""
        with translated():
            self._manager.Sites.Add(name, "http", information, path)

    def remove_site(self, name: str) -> None:
        """Remove the site with its bindings, whose http.sys records go with them."""
        with translated():
            site = self._manager.Sites[name]
            if site is not None:
                for binding in list(site.Bindings):
                    site.Bindings.Remove(binding)
                self._manager.Sites.Remove(site)

    def _site(self, native: Any, scope: Scope) -> Site:  # noqa: ANN401 - a .NET object
        name = str(native.Name)
        protocols = self._columns.protocols(native.Bindings)
        found: list[Binding] = []
        rows = zip(protocols, *self._columns.information_and_flags(native.Bindings), strict=True)
        for index, (protocol, information, flags) in enumerate(rows):
            binding = scope.select(protocol, information, flags)
            if binding is not None:
                one = native.Bindings[index]
                self._natives[(name, information)] = one
                found.append(_with_certificate(binding, one))
        return Site(name=name, id=int(native.Id), web=_is_web(protocols), bindings=tuple(found))

    def _state(self, native: Any) -> SiteState:  # noqa: ANN401 - a .NET object
        try:
            with translated():
                return SiteState(str(native.State))
        except GatewayError as error:
            if error.code != INVALID_OBJECT:
                log.warning("the state of the site %s cannot be read: %s", native.Name, error)
            return SiteState.UNKNOWN

    def _flags(self, flags: SslFlags) -> Any:  # noqa: ANN401 - a .NET enum, which refuses Python's int
        return self._administration.SslFlags(int(flags), True)

    def _native(self, operation: RemoveBinding | ReplaceBinding) -> Any:  # noqa: ANN401 - a .NET object
        return self._natives[(operation.site, operation.old.information)]

    def _replace(self, bindings: Any, operation: ReplaceBinding) -> None:  # noqa: ANN401 - a .NET object
        old = self._native(operation)
        new = bindings.CreateElement("binding")
        new.Protocol = old.Protocol
        new.BindingInformation = old.BindingInformation
        for attribute in old.Attributes:
            name = str(attribute.Name)
            if name not in _SET_BY_NAME and not attribute.IsInheritedFromDefaultValue and attribute.Value is not None:
                new.SetAttributeValue(name, attribute.Value)
        new.SslFlags = self._flags(operation.flags)
        new.CertificateHash = bytes.fromhex(operation.thumbprint)
        new.CertificateStoreName = operation.store
        bindings.Remove(old, operation.config_only)
        bindings.Add(new)


class _Columns:
    """Reads one property of all bindings in one call: property by property, 5,000 bindings took ten times as long."""

    def __init__(self, administration: Any) -> None:  # noqa: ANN401 - a .NET namespace
        self._system = namespace("System")
        namespace("clr").AddReference("System.Core")
        self._linq = namespace("System.Linq").Enumerable
        self._binding = administration.Binding
        self._flags_type = administration.SslFlags
        self._protocol = self._getter("Protocol", self._system.String)
        self._information = self._getter("BindingInformation", self._system.String)
        self._flags = self._getter("SslFlags", self._flags_type)

    def protocols(self, bindings: Any) -> list[str]:  # noqa: ANN401 - a .NET object
        """The protocol of each binding."""
        return self._strings(bindings, self._protocol)

    def information_and_flags(self, bindings: Any) -> tuple[list[str], list[int]]:  # noqa: ANN401 - a .NET object
        """`bindingInformation` and `sslFlags` of each binding."""
        selected = self._linq.Select[self._binding, self._flags_type](bindings, self._flags)
        flags = self._linq.ToArray[self._flags_type](selected)
        numbers = self._system.Array.CreateInstance(namespace("clr").GetClrType(self._system.Int32), flags.Length)
        self._system.Array.Copy(flags, numbers, flags.Length)
        text = str(self._system.String.Join[self._system.Int32](",", numbers))
        return self._strings(bindings, self._information), [int(number) for number in text.split(",")] if text else []

    def _strings(self, bindings: Any, getter: Any) -> list[str]:  # noqa: ANN401 - .NET objects
        if bindings.Count == 0:
            return []
        selected = self._linq.Select[self._binding, self._system.String](bindings, getter)
        return str(self._system.String.Join("\n", selected)).split("\n")

    def _getter(self, name: str, result: Any) -> Any:  # noqa: ANN401 - .NET types
        clr_type = namespace("clr").GetClrType
        function = clr_type(self._system.Func[self._binding, result])
        return self._system.Delegate.CreateDelegate(function, clr_type(self._binding).GetProperty(name).GetGetMethod())


def _is_web(protocols: list[str]) -> bool:
    return any(protocol.lower() in {"http", "https"} for protocol in protocols)


def _with_certificate(binding: Binding, native: Any) -> Binding:  # noqa: ANN401 - a .NET object
    """The binding with its certificate; IIS throws where http.sys has no readable record, which is as good as none."""
    try:
        with translated():
            digest, store = native.CertificateHash, native.CertificateStoreName
    except GatewayError:
        return binding
    if digest is None or binding.central:
        return binding
    return replace(binding, thumbprint=bytes(digest).hex().upper(), store=str(store or ""))
